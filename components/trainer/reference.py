"""Reference predictions: real inputs, and the Trainer's own predictions for them. A served model must agree."""

from __future__ import annotations

import io
import os
from typing import NamedTuple

import numpy as np
import tensorflow as tf

_FILE = "reference_predictions.npz"


class ReferencePredictions(NamedTuple):
    """`inputs` [N, …] as `data.example.parse` returns them, and their `probabilities`, float32 [N, classes].

    `labels` are the names of the classes, str [classes].
    """

    inputs: np.ndarray
    probabilities: np.ndarray
    labels: np.ndarray

    def write(self, folder: str) -> None:
        content = io.BytesIO()
        np.savez(content, **self._asdict())
        with tf.io.gfile.GFile(os.path.join(folder, _FILE), "wb") as file:
            file.write(content.getvalue())


def read_reference_predictions(folder: str) -> ReferencePredictions:
    """Reads what `ReferencePredictions.write` wrote."""
    with np.load(io.BytesIO(tf.io.gfile.GFile(os.path.join(folder, _FILE), "rb").read())) as saved:
        return ReferencePredictions(**saved)
