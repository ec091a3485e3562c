"""What an example is: a grey image as raw bytes, and its label.

Only this file knows the format; other files call its functions. An example has these features:

    feature    type      value
    image      bytes     rows × columns uint8 pixels, row by row
    label      int64     0 … classes - 1

A fork for other sequences replaces this file (README, "Your own sequences"). TensorFlow is imported where it is
needed, because the command line reads `ExampleSpec` before it loads TensorFlow.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from data.settings import Section

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf
    from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

IMAGE = "image"
LABEL = "label"


class ExampleSpec(Section):
    """The size of an example: `rows` × `columns` pixels, one of `classes` labels."""

    rows: int = Field(28, ge=1)
    columns: int = Field(28, ge=1)
    classes: int = Field(10, ge=2)
    class_names: tuple[str, ...] = Field((), strict=False, description="by label; empty: the labels themselves")
    fit: Literal["digit", "letterbox", "stretch"] = Field("digit", description="how a picture becomes an image")
    levels: tuple[float, float] = Field((0.0, 255.0), strict=False, description="of a picture, that become 0 and 255")
    background: Literal["any", "dark", "light"] = Field(
        "any", description="dark or light: a picture whose border is on the other side is inverted; not used by digit"
    )

    @model_validator(mode="after")
    def _levels_rise(self) -> ExampleSpec:
        if self.levels[0] >= self.levels[1]:
            raise ValueError("the second of levels must be above the first")
        return self

    @model_validator(mode="after")
    def _names_fit(self) -> ExampleSpec:
        if self.class_names and (len(self.class_names) != self.classes or len(set(self.class_names)) != self.classes):
            raise ValueError(f"class_names must be {self.classes} different names, one for each class")
        if any(name.splitlines() != [name] for name in self.class_names):
            raise ValueError("a class name must be one line of text")
        return self

    @property
    def labels(self) -> tuple[str, ...]:
        """What each class is called: its name, or its number."""
        return self.class_names or tuple(map(str, range(self.classes)))

    @property
    def sequence_shape(self) -> tuple[int, int]:
        """Steps and features of the sequence that the network reads: an image is a sequence of its rows."""
        return self.rows, self.columns


def serialize(image: np.ndarray, label: int) -> bytes:
    """A serialized tf.train.Example of an image, uint8 [rows, columns], and its label."""
    import tensorflow as tf

    feature = {
        IMAGE: tf.train.Feature(bytes_list=tf.train.BytesList(value=[image.tobytes()])),
        LABEL: tf.train.Feature(int64_list=tf.train.Int64List(value=[int(label)])),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString(deterministic=True)


def parse(record: bytes, spec: ExampleSpec) -> tuple[np.ndarray, int]:
    """The image, uint8 [rows, columns], and the label of a serialized tf.train.Example."""
    import numpy as np
    import tensorflow as tf

    feature = tf.train.Example.FromString(record).features.feature
    image = np.frombuffer(feature[IMAGE].bytes_list.value[0], np.uint8).reshape(spec.rows, spec.columns)
    return image, feature[LABEL].int64_list.value[0]


def reading(spec: ExampleSpec, images: np.ndarray) -> dict[str, np.ndarray]:
    """What a caller must know to make an image of a picture, as `data.pictures.Reading` has it.

    Args:
        images: of the training, uint8 [N, rows, columns].

    Returns:
        `size` int64 [2], `fit` and `background` bytes, `levels` float32 [2], and `ink` float32 [2]: the least and the
        greatest mean level of an image of the training.
    """
    import numpy as np

    means = images.mean(axis=(1, 2))
    return {
        "size": np.array([spec.rows, spec.columns], np.int64),
        "fit": np.array(spec.fit.encode(), object),
        "levels": np.array(spec.levels, np.float32),
        "background": np.array(spec.background.encode(), object),
        "ink": np.array([means.min(), means.max()], np.float32),
    }


def draw(values: np.ndarray, spec: ExampleSpec) -> np.ndarray:
    """The picture of one parsed example, uint8 [rows, columns]: the image itself; 0 is black."""
    return values.reshape(spec.rows, spec.columns)


def schema(spec: ExampleSpec) -> schema_pb2.Schema:
    """The curated schema: every example has exactly one image and one label."""
    from google.protobuf import text_format
    from tensorflow_metadata.proto.v0 import schema_pb2

    # `image_domain` asks for statistics over bytes: how many there are, instead of a ranking of 784-byte words.
    return text_format.Parse(
        f"""
        feature {{
          name: "{IMAGE}"
          type: BYTES
          image_domain {{}}
          presence {{ min_fraction: 1.0 min_count: 1 }}
          shape {{ dim {{ size: 1 }} }}
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
    """The schema cannot state the length of a byte string. Returns None if every image has rows × columns bytes."""
    expected = spec.rows * spec.columns
    for feature in statistics.features:
        if feature.path.step[:] == [IMAGE] and feature.HasField("bytes_stats"):
            sizes = int(feature.bytes_stats.min_num_bytes), int(feature.bytes_stats.max_num_bytes_int)
            if sizes != (expected, expected):
                return f"{IMAGE}: expected {expected} bytes; seen: {sizes[0]} to {sizes[1]} bytes"
    return None


def problems(record: bytes, spec: ExampleSpec) -> Iterator[str]:
    """What makes one record unusable, in words."""
    import tensorflow as tf

    try:
        feature = tf.train.Example.FromString(record).features.feature
    except Exception:  # protobuf's DecodeError has moved between its releases
        yield "record that is no tf.train.Example"
        return
    images, labels = feature[IMAGE].bytes_list.value, feature[LABEL].int64_list.value
    if len(images) != 1:
        yield f"example with {len(images)} values of {IMAGE}, expected 1"
    elif len(images[0]) != spec.rows * spec.columns:
        yield f"image of {len(images[0])} bytes, expected {spec.rows} × {spec.columns} = {spec.rows * spec.columns}"
    if len(labels) != 1:
        yield f"example with {len(labels)} values of {LABEL}, expected 1"
    elif not 0 <= labels[0] < spec.classes:
        yield f"label {labels[0]}, expected 0 … {spec.classes - 1}"


def to_sequence(features: dict[str, tf.Tensor], spec: ExampleSpec) -> tf.Tensor:
    """The sequence that the network reads, float32 [N, rows, columns] in 0..1, from parsed features, `image` [N, 1].

    Raises:
        tf.errors.InvalidArgumentError: when the graph runs, for an image of another size. Nothing is padded or cut.
    """
    import tensorflow as tf

    images = tf.reshape(features[IMAGE], [-1])
    size = spec.rows * spec.columns
    right_size = tf.debugging.assert_equal(
        tf.strings.length(images), size, f"{IMAGE} must be {spec.rows} x {spec.columns} = {size} bytes"
    )
    with tf.control_dependencies([right_size]):
        pixels = tf.io.decode_raw(images, tf.uint8)
    return tf.reshape(tf.cast(pixels, tf.float32) / 255.0, [-1, spec.rows, spec.columns])


def input_spec(spec: ExampleSpec) -> tf.TensorSpec:
    """What a caller sends instead of tf.Examples: `images` uint8 [N, rows, columns]."""
    import tensorflow as tf

    return tf.TensorSpec([None, spec.rows, spec.columns], tf.uint8, "images")


def pack(images: tf.Tensor, spec: ExampleSpec) -> dict[str, tf.Tensor]:
    """The features that parsed tf.Examples of `images`, uint8 [N, rows, columns], would have: `image` string [N, 1].

    TensorFlow has no operation that turns pixels into bytes. But a serialized uint8 tensor ends with its elements,
    one byte each.

    Raises:
        tf.errors.InvalidArgumentError: when the graph runs, for another shape. A signature alone does not check it.
    """
    import tensorflow as tf

    images = tf.ensure_shape(images, [None, spec.rows, spec.columns])
    count, size = tf.shape(images)[0], spec.rows * spec.columns
    serialized = tf.io.serialize_tensor(images)
    starts = tf.strings.length(serialized) - count * size + tf.range(count) * size
    return {IMAGE: tf.strings.substr(serialized, starts, tf.fill([count], size))[:, tf.newaxis]}
