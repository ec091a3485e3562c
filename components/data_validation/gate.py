"""The data gate: ExampleValidator only reports, this step stops the run."""

from pathlib import Path

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2
from tfx import v1 as tfx
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.utils import io_utils

from components.data_validation import DataGateError
from data.features import IMAGE, LABEL, SPLITS


def schema_anomalies(anomalies: anomalies_pb2.Anomalies, schema: schema_pb2.Schema, split: str) -> list[str]:
    """One line per anomaly ExampleValidator found in a split: feature, what was expected, what was seen."""
    features = {feature.name: feature for feature in schema.feature}
    lines = [
        f"{split}: {name}: {_expected(features[name]) if name in features else 'expected no such feature'};"
        f" seen: {info.description.rstrip('.')}"
        for name, info in sorted(anomalies.anomaly_info.items())
    ]
    if anomalies.HasField("dataset_anomaly_info"):
        lines.append(f"{split}: {anomalies.dataset_anomaly_info.description}")
    return lines


def size_anomaly(statistics: statistics_pb2.DatasetFeatureStatistics, expected: int, split: str) -> str | None:
    """The line for images of another size than `expected` bytes, which no schema can state; None if all fit."""
    for feature in statistics.features:
        if feature.path.step[:] == [IMAGE] and feature.bytes_stats.max_num_bytes:
            seen = int(feature.bytes_stats.min_num_bytes), int(feature.bytes_stats.max_num_bytes_int)
            if seen != (expected, expected):
                return f"{split}: {IMAGE}: expected {expected} bytes; seen: {seen[0]} to {seen[1]} bytes"
    return None


@tfx.dsl.components.component
def DataGate(
    statistics: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.ExampleStatistics],
    anomalies: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.ExampleAnomalies],
    schema: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.Schema],
    source: tfx.dsl.components.Parameter[str],
    rows: tfx.dsl.components.Parameter[int],
    columns: tfx.dsl.components.Parameter[int],
    code: tfx.dsl.components.Parameter[str],
) -> tfx.dsl.components.OutputDict(examples=int):  # type: ignore[valid-type]
    """Stops the run unless every example fits the schema and every image has rows × columns bytes.

    Args:
        statistics: of every split, computed with the schema so that images count as bytes.
        anomalies: what ExampleValidator found.
        schema: what it compared with.
        source: the data folder ExampleGen read; searched for the culprits only when something is wrong,
            and not in an object store.
        rows, columns: of an image.
        code: fingerprint of this file, for TFX's cache.

    Returns:
        `examples`: how many were checked.

    Raises:
        DataGateError: with one line per anomaly.
    """
    from data.records import examine

    expected = io_utils.SchemaReader().read(io_utils.get_only_uri_in_dir(schema.uri))
    classes = next(f.int_domain.max + 1 for f in expected.feature if f.name == LABEL)
    lines: list[str] = []
    examples = 0
    splits = artifact_utils.decode_split_names(statistics.split_names)
    for split in splits:
        found = anomalies_pb2.Anomalies()
        with fileio.open(f"{artifact_utils.get_split_uri([anomalies], split)}/SchemaDiff.pb", "rb") as file:
            found.ParseFromString(file.read())
        lines += schema_anomalies(found, expected, split)
        stats = tfdv.load_stats_binary(f"{artifact_utils.get_split_uri([statistics], split)}/FeatureStats.pb")
        examples += stats.datasets[0].num_examples
        lines += filter(None, [size_anomaly(stats.datasets[0], rows * columns, split)])
        if not stats.datasets[0].num_examples:
            lines.append(f"{split}: expected examples; seen: none")
    lines += [f"{name}: the split is missing" for name in SPLITS if name not in splits]
    if lines:
        if "://" not in source:
            lines += [f"in {source}: {finding}" for finding in examine(Path(source), rows, columns, classes)]
        raise DataGateError(
            "The data gate stopped the run, nothing was trained:\n  "
            + "\n  ".join(lines)
            + "\nCorrect the data, or data.rows, data.columns and data.classes of the profile, and run again."
        )
    return {"examples": examples}


def _expected(feature: schema_pb2.Feature) -> str:
    text = f"expected 1 {schema_pb2.FeatureType.Name(feature.type)} value in every example"
    if feature.HasField("int_domain"):
        text += f", {feature.int_domain.min} … {feature.int_domain.max}"
    return text
