"""The data gate: ExampleValidator only reports anomalies, this step stops the run."""

from collections.abc import Iterator, Sequence
from contextlib import suppress

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2
from tfx import types
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputDict, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import io_utils

from components.data_validation import DataGateError
from components.data_validation.contents import FILE, content_anomalies, from_json
from components.data_validation.places import places
from components.data_validation.settings import Validation
from components.digests import DAYS
from data.errors import DataError
from data.example import LABEL, ExampleSpec, size_anomaly
from data.records import examine
from data.shards import Shard, day_of, find_source

_SEARCHED = ("max_blank", "max_test_in_train")
_SHOWN = 20
"""How many lines a message has for the anomalies, and as many for the places where they are."""


def schema_anomalies(anomalies: anomalies_pb2.Anomalies, schema: schema_pb2.Schema) -> Iterator[str]:
    """One line for each anomaly that ExampleValidator found in a split: feature, what was expected, what was seen."""
    features = {feature.name: feature for feature in schema.feature}
    for name, info in sorted(anomalies.anomaly_info.items()):
        expected = _expected(features[name]) if name in features else "expected no such feature"
        yield f"{name}: {expected}; seen: {info.description.rstrip('.')}"
    if anomalies.HasField("dataset_anomaly_info"):
        yield anomalies.dataset_anomaly_info.description


def class_anomalies(
    statistics: statistics_pb2.DatasetFeatureStatistics, labels: Sequence[str], min_examples: int
) -> Iterator[str]:
    """One line for each class of which a split has fewer than `min_examples`, by its name in `labels`.

    TFDV counts at most 1,000 different values; with more classes there is no such line.
    """
    if len(labels) > 1000:
        return
    counts: dict[str, int] = {}
    for feature in statistics.features:
        if feature.path.step[:] == [LABEL]:
            counts = {bucket.label: int(bucket.sample_count) for bucket in feature.string_stats.rank_histogram.buckets}
    for class_id, name in enumerate(labels):
        if (count := counts.get(str(class_id), 0)) < min_examples:
            yield f"{LABEL}: expected at least {min_examples} examples of class {name}; seen: {count}"


def _expected(feature: schema_pb2.Feature) -> str:
    text = f"expected 1 {schema_pb2.FeatureType.Name(feature.type)} value in every example"
    if feature.HasField("int_domain"):
        text += f", {feature.int_domain.min} … {feature.int_domain.max}"
    return text


@component
def DataGate(
    statistics: InputArtifact[standard_artifacts.ExampleStatistics],
    anomalies: InputArtifact[standard_artifacts.ExampleAnomalies],
    schema: InputArtifact[standard_artifacts.Schema],
    imported: InputArtifact[standard_artifacts.Examples],
    data_path: Parameter[str],
    golden_path: Parameter[str],
    example: Parameter[str],
    validation: Parameter[str],
) -> OutputDict(examples=int):  # type: ignore[valid-type]
    """Stops the run unless the examples match the schema, every class has some, and the splits are alike and apart.

    Args:
        statistics: statistics of every split, computed with the schema, and the contents.
        anomalies: what ExampleValidator found.
        schema: what it compared with.
        imported: the examples; they know their days.
        data_path: the data. The records are searched only when one is refused, and not in an object store.
        golden_path: the folder of the golden set, or "".
        example: an `ExampleSpec` as JSON.
        validation: a `Validation` as JSON.

    Returns:
        `examples`: how many were checked.

    Raises:
        DataGateError: with one line for each anomaly, up to a limit.
    """
    spec, limits = ExampleSpec.model_validate_json(example), Validation.model_validate_json(validation)
    expected = io_utils.SchemaReader().read(io_utils.get_only_uri_in_dir(schema.uri))
    lines: list[str] = []
    classes: list[str] = []
    examples = 0
    for split in artifact_utils.decode_split_names(statistics.split_names):
        dataset = tfdv.load_stats_binary(_file(statistics, split, "FeatureStats.pb")).datasets[0]
        with fileio.open(_file(anomalies, split, "SchemaDiff.pb"), "rb") as file:
            seen = anomalies_pb2.Anomalies.FromString(file.read())
        found = [*schema_anomalies(seen, expected), size_anomaly(dataset, spec)]
        if dataset.num_examples:
            classes += (f"{split}: {line}" for line in class_anomalies(dataset, spec.labels, limits.min_class_examples))
        else:
            found.append("expected examples; seen: none")
        lines += [f"{split}: {line}" for line in found if line]
        examples += dataset.num_examples
    remedies = [f"the sizes and classes in [data] of the profile ({', '.join(_sizes(spec))})"] if lines else []
    with fileio.open(f"{statistics.uri}/{FILE}") as file:
        contents = list(content_anomalies(from_json(file.read()), limits))
    found_at: list[str] = []
    if "://" not in data_path:
        shards: list[Shard] = []
        with suppress(DataError):  # the data may have changed since they were imported
            shards = find_source(data_path, 0, golden_path, imported.get_string_custom_property(DAYS)).shards
        found_at += examine(shards, spec) if lines else []
        blank, trained = ([s for s, _, setting in contents if setting == name] for name in _SEARCHED)
        found_at += places(shards, spec, [split for split in blank if not day_of(split)], trained)
    lines += [f"{split}: {line}" for split, line, _ in contents]
    settings = [setting for _, _, setting in contents] + ["min_class_examples"] * bool(classes)
    remedies += [f"validation.{setting}" for setting in dict.fromkeys(settings) if setting]
    lines += classes
    if lines:
        raise DataGateError(
            "The data gate stopped the run, nothing was trained:\n  "
            + "\n  ".join([*_shown(lines), *_shown([f"in {data_path}: {place}" for place in found_at])])
            + f"\nCorrect the data{''.join(f', or {remedy}' for remedy in remedies)}, and run again."
        )
    return {"examples": examples}


def _shown(lines: Sequence[str]) -> list[str]:
    """The first lines, and how many more there are."""
    rest = len(lines) - _SHOWN
    return [*lines[:_SHOWN], f"… and {rest:,} more"] if rest > 0 else [*lines]


def _sizes(spec: ExampleSpec) -> Iterator[str]:
    """The settings of an example that are numbers."""
    return (f"{name} = {value}" for name, value in spec if isinstance(value, int) and not isinstance(value, bool))


def _file(artifact: types.Artifact, split: str, name: str) -> str:
    return f"{artifact_utils.get_split_uri([artifact], split)}/{name}"
