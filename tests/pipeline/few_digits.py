"""A data folder of few digits, for tests that are not about how well a model learns, and the settings for it."""

from __future__ import annotations

from pathlib import Path

from data.readers import Images
from data.splits import SPLITS
from tests.conftest import MNIST, read_images, write_folder

COUNTS = (1000, 100, 200)
# A training of some seconds to an accuracy of more than a half.
SETTINGS = ("training.epochs=4", "model.units=32", "gates.accuracy=0.3", "gates.class_accuracy=0.01")
WORSE = "training.learning_rate=1e-7"
"""The setting of a model that has learned nothing."""


def few_digits(counts: tuple[int, int, int] = COUNTS) -> dict[str, Images]:
    """The first digits of each split: train, eval, test."""
    return {split: read_images(MNIST, split, count=count) for split, count in zip(SPLITS, counts, strict=True)}


def few_mnist(folder: Path, counts: tuple[int, int, int] = COUNTS) -> Path:
    """A data folder of them, in `folder`."""
    return write_folder(folder / "few", few_digits(counts))
