"""Real images and what the Trainer's own network says of them, for the infra check to compare the served model with."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
import tf_keras

from components.settings import Image
from components.trainer.input import read_records
from components.transform import SEQUENCE
from data.features import IMAGE

_FILE = "samples.npz"


class Samples(NamedTuple):
    """`images` uint8 [N, rows, columns], `probabilities` float32 [N, classes]."""

    images: np.ndarray
    probabilities: np.ndarray


def write_samples(
    network: tf_keras.Model,
    transform: tft.TFTransformOutput,
    image: Image,
    files: Sequence[str],
    folder: str,
    count: int = 64,
) -> None:
    """Writes the first `count` images of `files` to `folder`, with the probabilities `network` gives them."""
    serialized = next(iter(read_records(files).batch(count)))
    features = tf.io.parse_example(serialized, transform.raw_feature_spec())
    logits = network(transform.transform_features_layer()(features)[SEQUENCE], training=False)
    pixels = np.frombuffer(b"".join(features[IMAGE].numpy().ravel()), np.uint8)
    content = io.BytesIO()
    np.savez(content, images=pixels.reshape(-1, image.rows, image.columns), probabilities=tf.nn.softmax(logits).numpy())
    with tf.io.gfile.GFile(os.path.join(folder, _FILE), "wb") as file:
        file.write(content.getvalue())


def read_samples(folder: str) -> Samples:
    """Reads what `write_samples` wrote."""
    with np.load(io.BytesIO(tf.io.gfile.GFile(os.path.join(folder, _FILE), "rb").read())) as saved:
        return Samples(saved["images"], saved["probabilities"])
