"""The files that a SavedModel carries in `assets.extra`: the names of its classes, and what identifies the model."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

_LABELS, _MODEL_ID = "labels.txt", "model_id.txt"


def write_labels(folder: str, labels: Sequence[str]) -> None:
    """Writes the label map into the SavedModel in `folder`: one label in each line, by class id."""
    _write(folder, _LABELS, "".join(f"{label}\n" for label in labels))


def read_labels(folder: str) -> tuple[str, ...]:
    """The labels of a SavedModel by class id; empty if it has no label map."""
    return tuple((_read(folder, _LABELS) or "").splitlines())


def write_model_id(folder: str, weights: Sequence[np.ndarray], predictions: np.ndarray, labels: Sequence[str]) -> None:
    """Writes SHA-256 over the weights, the predictions for the reference inputs, and the names of the classes.

    A training that is repeated gives the same id. TensorFlow's fingerprint of a SavedModel differs then: it covers
    numbers in the names of functions, which count what the process had traced before.

    Args:
        folder: of the SavedModel.
        weights: of the network.
        predictions: float32 [N, classes], through the whole graph, so that they cover the preprocessing.
        labels: by class id.
    """
    digest = hashlib.sha256("\n".join(labels).encode())
    for array in (*weights, predictions.round(5)):
        digest.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())
    _write(folder, _MODEL_ID, digest.hexdigest() + "\n")


def model_id(folder: str) -> str | None:
    """What identifies the model in `folder`: its id, or TensorFlow's fingerprint; None if it has neither."""
    if written := _read(folder, _MODEL_ID):
        return written.strip()
    try:
        fingerprint = tf.saved_model.experimental.read_fingerprint(folder)
    except (FileNotFoundError, RuntimeError):  # no fingerprint, or a damaged one
        return None
    return "/".join(str(value) for value in vars(fingerprint).values())


def same_model(one: str, other: str) -> bool:
    """Whether two folders hold copies of one model."""
    identifier = model_id(one)
    return identifier is not None and identifier == model_id(other)


def _write(folder: str, name: str, text: str) -> None:
    tf.io.gfile.makedirs(os.path.join(folder, "assets.extra"))
    with tf.io.gfile.GFile(os.path.join(folder, "assets.extra", name), "w") as file:
        file.write(text)


def _read(folder: str, name: str) -> str | None:
    path = os.path.join(folder, "assets.extra", name)
    if not tf.io.gfile.exists(path):
        return None
    with tf.io.gfile.GFile(path) as file:
        return file.read()
