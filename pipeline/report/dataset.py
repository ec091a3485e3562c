"""The data of a run: classes and values of each split, anomalies, digests, licence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.example import LABEL, ExampleSpec, parse
from data.splits import SPLITS
from pipeline.runs.records import Run, class_name

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
    kind: str
    """Pixels, or values of another sequence."""


def read_balance(uri: str, labels: Sequence[str]) -> Balance:
    """The counts of StatisticsGen, from its artifact at `uri`."""
    import tensorflow_data_validation as tfdv

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


def read_anomalies(uri: str, schema_uri: str) -> list[str]:
    """What ExampleValidator found, a line for each anomaly, from its artifact and the schema's."""
    from tensorflow_metadata.proto.v0 import anomalies_pb2
    from tfx.dsl.io import fileio
    from tfx.utils import io_utils

    from components.data_validation.gate import schema_anomalies

    schema = io_utils.SchemaReader().read(io_utils.get_only_uri_in_dir(schema_uri))
    lines = []
    for split in SPLITS:
        with fileio.open(f"{uri}/Split-{split}/SchemaDiff.pb", "rb") as file:
            found = anomalies_pb2.Anomalies.FromString(file.read())
        lines += [f"{split}: {line}" for line in schema_anomalies(found, schema)]
    return lines


def read_values(uri: str, spec: ExampleSpec) -> list[Values]:
    """The values of the first SAMPLE examples of each split, as `data.example.parse` returns them."""
    from data.records import read_records

    splits = []
    for split in SPLITS:
        sums, ends, kind = [], [], "values"
        for records in read_records([f"{uri}/Split-{split}/*"]).take(SAMPLE).batch(_BATCH):
            values = np.stack([parse(record, spec)[0] for record in records.numpy()])
            kind = "pixels" if values.dtype == np.uint8 else "values"
            exact = values.astype(np.float64)
            sums.append((len(exact), exact.size, exact.sum(), np.square(exact).sum(), (exact == 0).sum()))
            ends += [exact.min(), exact.max()]
        if sums:
            examples, count, total, squares, zeros = np.sum(sums, axis=0).tolist()
            mean = total / count
            deviation = max(0.0, squares / count - mean**2) ** 0.5
            splits.append(Values(split, int(examples), mean, deviation, zeros / count, min(ends), max(ends), kind))
    return splits


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
