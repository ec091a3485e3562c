"""data/example.py of a fork: an example is a sequence of float vectors, and its label.

feature    type      value
values     float     steps × features numbers, step by step
label      int64     0 … classes - 1
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from data.settings import Section

if TYPE_CHECKING:
    import tensorflow as tf
    from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

VALUES = "values"
LABEL = "label"


class ExampleSpec(Section):
    """The size of an example: `steps` vectors of `features` numbers, one of `classes` labels."""

    steps: int = Field(3, ge=1)
    features: int = Field(10, ge=1)
    classes: int = Field(2, ge=2)
    class_names: tuple[str, ...] = Field((), strict=False)

    @property
    def labels(self) -> tuple[str, ...]:
        return self.class_names or tuple(map(str, range(self.classes)))

    @property
    def sequence_shape(self) -> tuple[int, int]:
        return self.steps, self.features


def serialize(values: np.ndarray, label: int) -> bytes:
    """A serialized tf.train.Example of a sequence, float32 [steps, features], and its label."""
    import tensorflow as tf

    feature = {
        VALUES: tf.train.Feature(float_list=tf.train.FloatList(value=values.ravel())),
        LABEL: tf.train.Feature(int64_list=tf.train.Int64List(value=[int(label)])),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString(deterministic=True)


def parse(record: bytes, spec: ExampleSpec) -> tuple[np.ndarray, int]:
    """The sequence, float32 [steps, features], and the label of a serialized tf.train.Example."""
    import tensorflow as tf

    feature = tf.train.Example.FromString(record).features.feature
    values = np.array(feature[VALUES].float_list.value, np.float32).reshape(spec.sequence_shape)
    return values, feature[LABEL].int64_list.value[0]


def reading(spec: ExampleSpec, sequences: np.ndarray) -> dict[str, np.ndarray]:
    """What a caller must know to make a sequence: steps and features."""
    return {"size": np.array(spec.sequence_shape, np.int64)}


def draw(values: np.ndarray, spec: ExampleSpec) -> np.ndarray:
    """The picture of one parsed example, uint8 [steps, features]: from its least number, black, to its greatest."""
    low, high = values.min(), values.max()
    return ((values - low) / max(high - low, np.finfo(np.float32).tiny) * 255).astype(np.uint8)


def schema(spec: ExampleSpec) -> schema_pb2.Schema:
    """The curated schema: every example has steps × features finite numbers and one label."""
    from google.protobuf import text_format
    from tensorflow_metadata.proto.v0 import schema_pb2

    return text_format.Parse(
        f"""
        feature {{
          name: "{VALUES}"
          type: FLOAT
          float_domain {{ disallow_nan: true disallow_inf: true }}
          presence {{ min_fraction: 1.0 min_count: 1 }}
          shape {{ dim {{ size: {spec.steps * spec.features} }} }}
        }}
        feature {{
          name: "{LABEL}"
          type: INT
          int_domain {{ name: "{LABEL}" min: 0 max: {spec.classes - 1} is_categorical: true }}
          presence {{ min_fraction: 1.0 min_count: 1 }}
          shape {{ dim {{ size: 1 }} }}
        }}
        """,
        schema_pb2.Schema(),
    )


def size_anomaly(statistics: statistics_pb2.DatasetFeatureStatistics, spec: ExampleSpec) -> str | None:
    """Nothing: the schema states how many numbers there are."""
    return None


def problems(record: bytes, spec: ExampleSpec) -> Iterator[str]:
    """What makes one record unusable, in words."""
    import tensorflow as tf

    feature = tf.train.Example.FromString(record).features.feature
    count, expected = len(feature[VALUES].float_list.value), spec.steps * spec.features
    if count != expected:
        yield f"example with {count} {VALUES}, expected {spec.steps} × {spec.features} = {expected}"
    labels = feature[LABEL].int64_list.value
    if len(labels) != 1 or not 0 <= labels[0] < spec.classes:
        yield f"labels {list(labels)}, expected one of 0 … {spec.classes - 1}"


def to_sequence(features: dict[str, tf.Tensor], spec: ExampleSpec) -> tf.Tensor:
    """The sequence that the network reads, float32 [N, steps, features]: z-scores, by the training data."""
    import tensorflow as tf
    import tensorflow_transform as tft

    scaled = tft.scale_to_z_score(features[VALUES], elementwise=True)
    return tf.reshape(scaled, [-1, spec.steps, spec.features])


def input_spec(spec: ExampleSpec) -> tf.TensorSpec:
    """What a caller sends instead of tf.Examples: float32 [N, steps, features], by the name that the client uses."""
    import tensorflow as tf

    return tf.TensorSpec([None, spec.steps, spec.features], tf.float32, "images")


def pack(sequences: tf.Tensor, spec: ExampleSpec) -> dict[str, tf.Tensor]:
    """The features that parsed tf.Examples of `sequences` would have: `values` float32 [N, steps × features]."""
    import tensorflow as tf

    sequences = tf.ensure_shape(sequences, [None, spec.steps, spec.features])
    return {VALUES: tf.reshape(sequences, [-1, spec.steps * spec.features])}
