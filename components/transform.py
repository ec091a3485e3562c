"""Transform: image bytes become a sequence of rows. The graph traced here is the one that serves."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from data.features import IMAGE, LABEL

SEQUENCE = "sequence"


def preprocessing_fn(inputs: dict[str, tf.Tensor], custom_config: dict[str, Any]) -> dict[str, tf.Tensor]:
    """TFX's entry point: decodes, scales to 0..1 and reshapes.

    Args:
        inputs: `image` string [N, 1], rows × columns raw uint8 pixels each; `label` int64 [N, 1].
        custom_config: `rows` and `columns` of the images.

    Returns:
        `sequence` float32 [N, rows, columns] in 0..1; `label` int64 [N, 1].

    Raises:
        tf.errors.InvalidArgumentError: when the graph runs, for an image of another size. Nothing is padded or cut.
    """
    rows, columns = int(custom_config["rows"]), int(custom_config["columns"])
    images = tf.reshape(inputs[IMAGE], [-1])
    sized = tf.debugging.assert_equal(
        tf.strings.length(images), rows * columns, f"{IMAGE} must be {rows} x {columns} = {rows * columns} bytes"
    )
    with tf.control_dependencies([sized]):
        pixels = tf.io.decode_raw(images, tf.uint8)
    sequence = tf.reshape(tf.cast(pixels, tf.float32) / 255.0, [-1, rows, columns])
    return {SEQUENCE: sequence, LABEL: inputs[LABEL]}
