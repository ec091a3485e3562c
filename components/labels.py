"""The label map of a SavedModel: `assets.extra/labels.txt`, one label in each line, by class id."""

from __future__ import annotations

import os
from collections.abc import Sequence

import tensorflow as tf


def write_labels(folder: str, labels: Sequence[str]) -> None:
    """Writes the label map into the SavedModel in `folder`."""
    tf.io.gfile.makedirs(os.path.dirname(_path(folder)))
    with tf.io.gfile.GFile(_path(folder), "w") as file:
        file.write("".join(f"{label}\n" for label in labels))


def read_labels(folder: str) -> tuple[str, ...]:
    """The labels of a SavedModel by class id; empty if it has no label map."""
    if not tf.io.gfile.exists(_path(folder)):
        return ()
    with tf.io.gfile.GFile(_path(folder)) as file:
        return tuple(file.read().splitlines())


def _path(folder: str) -> str:
    return os.path.join(folder, "assets.extra", "labels.txt")
