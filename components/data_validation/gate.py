"""The data gate: ExampleValidator only reports anomalies, this step stops the run."""

from collections.abc import Iterator
from pathlib import Path

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2
from tfx import types
from tfx import v1 as tfx
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.utils import io_utils

from components.data_validation import DataGateError
from data.example import LABEL, ExampleSpec, size_anomaly
from data.records import examine


def schema_anomalies(anomalies: anomalies_pb2.Anomalies, schema: schema_pb2.Schema) -> Iterator[str]:
    """One line for each anomaly that ExampleValidator found in a split: feature, what was expected, what was seen."""
    features = {feature.name: feature for feature in schema.feature}
    for name, info in sorted(anomalies.anomaly_info.items()):
        expected = _expected(features[name]) if name in features else "expected no such feature"
        yield f"{name}: {expected}; seen: {info.description.rstrip('.')}"
    if anomalies.HasField("dataset_anomaly_info"):
        yield anomalies.dataset_anomaly_info.description


def class_anomalies(
    statistics: statistics_pb2.DatasetFeatureStatistics, classes: int, min_examples: int
) -> Iterator[str]:
    """One line for each label of 0 … `classes` - 1 that a split has fewer than `min_examples` times.

    TFDV counts at most 1,000 different values; with more classes there is no such line.
    """
    if classes > 1000:
        return
    counts = dict.fromkeys(map(str, range(classes)), 0)
    for feature in statistics.features:
        if feature.path.step[:] == [LABEL]:
            counts |= {bucket.label: int(bucket.sample_count) for bucket in feature.string_stats.rank_histogram.buckets}
    for label in map(str, range(classes)):
        if counts[label] < min_examples:
            yield f"{LABEL}: expected at least {min_examples} examples of class {label}; seen: {counts[label]}"


def _expected(feature: schema_pb2.Feature) -> str:
    text = f"expected 1 {schema_pb2.FeatureType.Name(feature.type)} value in every example"
    if feature.HasField("int_domain"):
        text += f", {feature.int_domain.min} … {feature.int_domain.max}"
    return text


@tfx.dsl.components.component
def DataGate(
    statistics: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.ExampleStatistics],
    anomalies: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.ExampleAnomalies],
    schema: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.Schema],
    data_path: tfx.dsl.components.Parameter[str],
    example: tfx.dsl.components.Parameter[str],
    min_class_examples: tfx.dsl.components.Parameter[int],
) -> tfx.dsl.components.OutputDict(examples=int):  # type: ignore[valid-type]
    """Stops the run unless every example matches the schema and has the right size, and every class has examples.

    Args:
        statistics: statistics of every split, computed with the schema.
        anomalies: what ExampleValidator found.
        schema: what it compared with.
        data_path: the data folder. Its records are searched only when there is an anomaly,
            and not in an object store.
        example: an `ExampleSpec` as JSON.
        min_class_examples: of each class in each split.

    Returns:
        `examples`: how many were checked.

    Raises:
        DataGateError: with one line for each anomaly.
    """
    spec = ExampleSpec.model_validate_json(example)
    expected = io_utils.SchemaReader().read(io_utils.get_only_uri_in_dir(schema.uri))
    splits = artifact_utils.decode_split_names(statistics.split_names)
    lines: list[str] = []
    examples = 0
    for split in splits:
        dataset = tfdv.load_stats_binary(_file(statistics, split, "FeatureStats.pb")).datasets[0]
        with fileio.open(_file(anomalies, split, "SchemaDiff.pb"), "rb") as file:
            seen = anomalies_pb2.Anomalies.FromString(file.read())
        found = [*schema_anomalies(seen, expected), size_anomaly(dataset, spec)]
        if dataset.num_examples:
            found += class_anomalies(dataset, spec.classes, min_class_examples)
        else:
            found.append("expected examples; seen: none")
        lines += [f"{split}: {line}" for line in found if line]
        examples += dataset.num_examples
    if lines:
        if "://" not in data_path:
            lines += [f"in {data_path}: {finding}" for finding in examine(Path(data_path), spec)]
        raise DataGateError(
            "The data gate stopped the run, nothing was trained:\n  "
            + "\n  ".join(lines)
            + "\nCorrect the data, or data.rows, data.columns, data.classes or validation.min_class_examples"
            " of the profile, and run again."
        )
    return {"examples": examples}


def _file(artifact: types.Artifact, split: str, name: str) -> str:
    return f"{artifact_utils.get_split_uri([artifact], split)}/{name}"
