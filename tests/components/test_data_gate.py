"""What the data gate finds in TFDV's own statistics and anomalies, line by line."""

import numpy as np
import pytest
import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from components.data_validation.gate import class_anomalies, schema_anomalies
from components.data_validation.schema import schema_text
from data.example import ExampleSpec, serialize, size_anomaly


@pytest.fixture(scope="module")
def schema() -> schema_pb2.Schema:
    return text_format.Parse(schema_text(ExampleSpec()), schema_pb2.Schema())


def lines(records: list[bytes], schema: schema_pb2.Schema, tmp_path, min_class_examples: int = 0) -> list[str]:
    import tensorflow as tf

    path = str(tmp_path / "part.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        for record in records:
            writer.write(record)
    statistics = tfdv.generate_statistics_from_tfrecord(path, stats_options=tfdv.StatsOptions(schema=schema))
    found = schema_anomalies(tfdv.validate_statistics(statistics, schema), schema)
    classes = class_anomalies(statistics.datasets[0], ExampleSpec().labels, min_class_examples)
    return [*found, *filter(None, [size_anomaly(statistics.datasets[0], ExampleSpec())]), *classes]


def digit(label: int = 3, size: int = 784) -> bytes:
    return serialize(np.zeros(size, np.uint8), label)


def test_good_data_has_no_lines(schema: schema_pb2.Schema, tmp_path) -> None:
    assert lines([digit(0), digit(9)], schema, tmp_path) == []


def test_a_label_out_of_range_is_named(schema: schema_pb2.Schema, tmp_path) -> None:
    (line,) = lines([digit(), digit(10)], schema, tmp_path)
    assert line.startswith("label: expected 1 INT value in every example, 0 … 9; seen: ")
    assert "10" in line.split("seen:")[1]


def test_a_missing_feature_is_named(schema: schema_pb2.Schema, tmp_path) -> None:
    import tensorflow as tf

    feature = {"image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[bytes(784)]))}
    bare = tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()
    (line,) = lines([digit(), bare], schema, tmp_path)
    assert line.startswith("label: expected 1 INT value in every example")


@pytest.mark.parametrize("size", [783, 785, 0])
def test_an_image_of_another_size_is_named(schema: schema_pb2.Schema, tmp_path, size: int) -> None:
    (line,) = lines([digit(), digit(size=size)], schema, tmp_path)
    assert line == f"image: expected 784 bytes; seen: {min(size, 784)} to {max(size, 784)} bytes"


def test_images_without_bytes_are_named(schema: schema_pb2.Schema, tmp_path) -> None:
    (line,) = lines([digit(size=0), digit(size=0)], schema, tmp_path)
    assert line == "image: expected 784 bytes; seen: 0 to 0 bytes"


def test_a_class_with_too_few_examples_is_named(schema: schema_pb2.Schema, tmp_path) -> None:
    records = [digit(label) for label in (*range(10), *range(9))]
    assert lines(records, schema, tmp_path, min_class_examples=1) == []
    assert lines(records[:9], schema, tmp_path, min_class_examples=1) == [
        "label: expected at least 1 examples of class 9; seen: 0"
    ]
    assert lines(records, schema, tmp_path, min_class_examples=2) == [
        "label: expected at least 2 examples of class 9; seen: 1"
    ]


def test_the_label_s_domain_follows_the_class_count(schema: schema_pb2.Schema) -> None:
    assert [feature.name for feature in schema.feature] == ["image", "label"]
    assert (schema.feature[1].int_domain.min, schema.feature[1].int_domain.max) == (0, 9)
    letters = text_format.Parse(schema_text(ExampleSpec(classes=26)), schema_pb2.Schema())
    assert letters.feature[1].int_domain.max == 25
