"""The data of a run: classes and values of each split, anomalies, digests, licence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.example import LABEL, ExampleSpec, parse
from data.splits import SPLITS
from pipeline.report.artifacts import missing
from pipeline.report.evaluated import class_name
from pipeline.runs.records import Run

SAMPLE = 10_000
"""The values of at most so many examples of each split are read."""

_BATCH = 500
# The digest of the project's own data, data/mnist, wherever they lie; a test computes it.
OWN_DATA = "c4c11a1b097bf092ec7b8aa59eac94a61a7172a2f1c9148a3062a09122ec080b"
_OWN_LICENCE = "MNIST by Y. LeCun and C. Cortes, CC BY-SA 3.0."


@dataclass(frozen=True)
class Balance:
    """How many examples each split has, and how many of each class: class name → split → count."""

    examples: dict[str, int]
    counts: dict[str, dict[str, int]]

    def share(self, name: str, split: str) -> float:
        return self.counts[name].get(split, 0) / self.examples[split] if self.examples.get(split) else 0.0


@dataclass(frozen=True)
class Values:
    """The values of the first `examples` examples of a split; `zeros` is the share of values that are 0."""

    split: str
    examples: int
    mean: float
    deviation: float
    zeros: float
    minimum: float
    maximum: float


@dataclass(frozen=True)
class ValueStatistics:
    """`kind` is what the values are called: pixels, or values of another sequence."""

    kind: str
    splits: list[Values]


def read_balance(run: Run, labels: Sequence[str]) -> Balance | str:
    """The counts of StatisticsGen; or why there are none."""
    import tensorflow_data_validation as tfdv

    if reason := missing(run, "StatisticsGen", "statistics"):
        return reason
    uri = run.output("StatisticsGen", "statistics").uri  # type: ignore[union-attr]
    examples: dict[str, int] = {}
    counts: dict[str, dict[str, int]] = {label: {} for label in labels}
    for split in SPLITS:
        dataset = tfdv.load_stats_binary(f"{uri}/Split-{split}/FeatureStats.pb").datasets[0]
        examples[split] = int(dataset.num_examples)
        for feature in dataset.features:
            if feature.path.step[:] == [LABEL]:
                for bucket in feature.string_stats.rank_histogram.buckets:
                    name = class_name(int(bucket.label), labels) if bucket.label.isdecimal() else bucket.label
                    counts.setdefault(name, {})[split] = int(bucket.sample_count)
    unknown = sorted(counts.keys() - set(labels), key=lambda name: (len(name), name))
    return Balance(examples, {name: counts[name] for name in (*labels, *unknown)})


def read_anomalies(run: Run) -> list[str] | str:
    """What ExampleValidator found, a line for each anomaly; or why that is not known."""
    from tensorflow_metadata.proto.v0 import anomalies_pb2
    from tfx.dsl.io import fileio
    from tfx.utils import io_utils

    from components.data_validation.gate import schema_anomalies

    for step, key in (("ExampleValidator", "anomalies"), ("CuratedSchema", "schema")):
        if reason := missing(run, step, key):
            return reason
    uri = run.output("ExampleValidator", "anomalies").uri  # type: ignore[union-attr]
    schema_uri = run.output("CuratedSchema", "schema").uri  # type: ignore[union-attr]
    schema = io_utils.SchemaReader().read(io_utils.get_only_uri_in_dir(schema_uri))
    lines = []
    for split in SPLITS:
        with fileio.open(f"{uri}/Split-{split}/SchemaDiff.pb", "rb") as file:
            found = anomalies_pb2.Anomalies.FromString(file.read())
        lines += [f"{split}: {line}" for line in schema_anomalies(found, schema)]
    return lines


def read_values(run: Run, spec: ExampleSpec | None) -> ValueStatistics | str:
    """The values of the first SAMPLE examples of each split, as `data.example.parse` returns them; or why not."""
    from components.trainer.input import read_records

    if reason := missing(run, "ExampleGen", "examples"):
        return reason
    if spec is None:
        return "The size of an example was not recorded, so the examples cannot be read."
    uri = run.output("ExampleGen", "examples").uri  # type: ignore[union-attr]
    splits, kind = [], "values"
    for split in SPLITS:
        sums, zeros, count, examples = np.zeros(2), 0, 0, 0
        least, most = np.inf, -np.inf
        for records in read_records([f"{uri}/Split-{split}/*"]).take(SAMPLE).batch(_BATCH):
            values = np.stack([parse(record, spec)[0] for record in records.numpy()])
            kind = "pixels" if values.dtype == np.uint8 else "values"
            exact = values.astype(np.float64)
            sums += exact.sum(), np.square(exact).sum()
            zeros, count, examples = zeros + int((values == 0).sum()), count + values.size, examples + len(values)
            least, most = min(least, float(values.min())), max(most, float(values.max()))
        if examples:
            mean = float(sums[0] / count)
            deviation = float(np.sqrt(max(0.0, sums[1] / count - mean**2)))
            splits.append(Values(split, examples, mean, deviation, zeros / count, least, most))
    return ValueStatistics(kind, splits) if splits else "The splits have no examples."


def read_file_digests(run: Run) -> dict[str, str] | str:
    """The SHA-256 of each TFRecord file by its name; or why they are not known."""
    from components.example_gen import read_digests

    if reason := missing(run, "ExampleGen", "examples"):
        return reason
    found = read_digests(run.output("ExampleGen", "examples").uri)  # type: ignore[union-attr]
    return found or "An earlier version imported the examples, without the digests of their files."


def data_folder(run: Run) -> str:
    """The folder of the TFRecord files, as the run knew it; empty if it was not recorded."""
    step = run.step("ExampleGen")
    recorded = step.properties.get("input_base") if step else None
    return str(recorded or run.settings.get("data", {}).get("path", ""))


def licence(folder: str, digest: str | None) -> str:
    """What is known about the licence of the data in `folder`, in sentences; `digest` is that of all their files."""
    if not folder:
        return "The data folder was not recorded, and neither was the licence of the data."
    path = Path(folder)
    described = f" They are described in {path / 'README.md'}." if (path / "README.md").is_file() else ""
    if digest == OWN_DATA:
        return f"{_OWN_LICENCE}{described}"
    return f"The data are in {folder}.{described} Their licence is not recorded here: ask those who made them."
