"""Reference predictions: real inputs, and the Trainer's own predictions for them. A served model must agree."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
import tf_keras

from components.trainer.input import read_records
from components.transform import SEQUENCE
from data.example import ExampleSpec, parse

_FILE = "reference_predictions.npz"


class ReferencePredictions(NamedTuple):
    """`inputs` [N, …] as `data.example.parse` returns them, and their `probabilities`, float32 [N, classes].

    `labels` are the names of the classes, str [classes].
    """

    inputs: np.ndarray
    probabilities: np.ndarray
    labels: np.ndarray


def write_reference_predictions(
    model: tf_keras.Model,
    transform: tft.TFTransformOutput,
    spec: ExampleSpec,
    files: Sequence[str],
    folder: str,
    count: int = 64,
) -> ReferencePredictions:
    """Writes the first `count` inputs of `files` to `folder`, with the probabilities that `model` predicts."""
    records = next(iter(read_records(files).batch(count)))
    features = tf.io.parse_example(records, transform.raw_feature_spec())
    logits = model(transform.transform_features_layer()(features)[SEQUENCE], training=False)
    inputs = np.stack([parse(record, spec)[0] for record in records.numpy()])
    reference = ReferencePredictions(inputs, tf.nn.softmax(logits).numpy(), np.array(spec.labels))
    content = io.BytesIO()
    np.savez(content, **reference._asdict())
    with tf.io.gfile.GFile(os.path.join(folder, _FILE), "wb") as file:
        file.write(content.getvalue())
    return reference


def read_reference_predictions(folder: str) -> ReferencePredictions:
    """Reads what `write_reference_predictions` wrote."""
    with np.load(io.BytesIO(tf.io.gfile.GFile(os.path.join(folder, _FILE), "rb").read())) as saved:
        return ReferencePredictions(saved["inputs"], saved["probabilities"], saved["labels"])
