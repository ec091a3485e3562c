"""A data folder of few digits, for tests that are not about how well a model learns, and the settings for it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from data.readers import Images
from data.splits import SPLITS
from pipeline.exit_codes import PUSHED
from tests.conftest import MNIST, read_images, run_pipeline, write_folder

COUNTS = (1000, 100, 200)
SMALL = "model.cell=simple_rnn"
"""TensorFlow traces this cell in half the time of an LSTM, and on so few digits tracing is what a training takes."""
# A training of some seconds to an accuracy of more than a half.
SETTINGS = (
    SMALL,
    "model.units=32",
    "training.epochs=4",
    "training.batch_size=32",
    "gates.accuracy=0.3",
    "gates.class_accuracy=0.01",
)
WORSE = "training.learning_rate=1e-7"
"""The setting of a model that has learned nothing."""


def few_digits(counts: tuple[int, int, int] = COUNTS) -> dict[str, Images]:
    """The first digits of each split: train, eval, test."""
    return {split: read_images(MNIST, split, count=count) for split, count in zip(SPLITS, counts, strict=True)}


def few_mnist(folder: Path, counts: tuple[int, int, int] = COUNTS) -> Path:
    """A data folder of them, in `folder`."""
    return write_folder(folder / "few", few_digits(counts))


@dataclass(frozen=True)
class Prepared:
    """A run root with one run, which ended after Transform, and its data folder. Later runs find its steps cached."""

    root: Path
    data: Path


@cache
def _prepare(base: Path) -> tuple[Prepared, Path]:
    made = Prepared(base / "prepared" / "root", few_mnist(base))
    outcome = run_pipeline(made.root, made.data, options=("--to", "Transform"))
    assert outcome.code == PUSHED, outcome.text
    return made, Path(shutil.copytree(made.root, base / "prepared" / "kept"))


def prepared(base: Path) -> Prepared:
    """The run root as that run left it. It is made once under `base`, and always used under the same path."""
    made, kept = _prepare(base)
    shutil.rmtree(made.root)
    shutil.copytree(kept, made.root)
    return made
