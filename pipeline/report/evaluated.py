"""What the training and the evaluation say: epochs, classes, the served model, calibration, mistakes."""

from __future__ import annotations

import csv
import io
import math
import os
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from data.example import ExampleSpec, draw
from data.proportion import Proportion
from pipeline.runs.records import class_name
from pipeline.runs.statistics import mcnemar

if TYPE_CHECKING:
    from components.evaluator.predictions import Predictions
    from components.evaluator.report import Evaluation

BINS = 10
"""Of the reliability diagram; the Evaluator's calibration error uses as many."""


@dataclass(frozen=True)
class Epoch:
    """One epoch, counted from 1: cross-entropy in nats and accuracy as a share, in training and in validation."""

    number: int
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float


@dataclass(frozen=True)
class ClassResult:
    """The accuracy of one class of the test split, and the gate's lower bound for it, if it has one."""

    name: str
    proportion: Proportion
    floor: float | None


@dataclass(frozen=True)
class Comparison:
    """Candidate and served model on the same examples; `p` is of the exact McNemar test, two-sided."""

    both: int
    only_candidate: int
    only_baseline: int
    neither: int
    p: float


@dataclass(frozen=True)
class Bin:
    """The predictions whose confidence lies in [low, high): their mean confidence, and how many are right."""

    low: float
    high: float
    confidence: float
    proportion: Proportion


@dataclass(frozen=True)
class Mistake:
    """One of the most confidently wrong examples; `picture` is uint8 [height, width]."""

    position: int
    true: str
    predicted: str
    confidence: float
    picture: np.ndarray


def read_epochs(folder: str) -> list[Epoch]:
    """The epochs in order, from the Trainer's CSV file.

    An epoch that was repeated after an interruption appears twice in the file: the last one counts.
    """
    from tfx.dsl.io import fileio

    from components.trainer.fit import EPOCHS

    with fileio.open(os.path.join(folder, EPOCHS)) as file:
        found = {int(line["epoch"]) + 1: line for line in csv.DictReader(io.StringIO(file.read()))}
    names = ("loss", "accuracy", "val_loss", "val_accuracy")
    return [Epoch(number, *(float(found[number][name]) for name in names)) for number in sorted(found)]


def kept_epoch(patience: int | None, epochs: list[Epoch]) -> Epoch | None:
    """The epoch whose weights the model has; None if `patience`, a setting of the training, is not known.

    Early stopping keeps the epoch with the lowest validation loss. Without it the last weights stay.
    """
    if patience is None:
        return None
    usable = [epoch for epoch in epochs if math.isfinite(epoch.val_loss)]
    return min(usable, key=lambda epoch: epoch.val_loss, default=None) if patience else epochs[-1]


def overall(evaluation: Evaluation) -> Proportion:
    """The accuracy on the whole test split."""
    return Proportion(round(evaluation.accuracy * evaluation.examples), evaluation.examples)


def classes(evaluation: Evaluation) -> list[ClassResult]:
    """Each class of the test split, by class id."""
    totals = Counter[int]()
    for (true, _), count in evaluation.confusion.items():
        totals[true] += count
    floors = {gate.name: gate.bound for gate in evaluation.gates if gate.side == "at least"}
    results = []
    for label in sorted(evaluation.class_accuracy):
        name, right = class_name(label, evaluation.labels), evaluation.confusion.get((label, label), 0)
        results.append(ClassResult(name, Proportion(right, totals[label]), floors.get(f"accuracy of class {name}")))
    return results


def mistakes_by_count(evaluation: Evaluation) -> list[tuple[str, str, int]]:
    """True class, predicted class and count of every kind of mistake, the most frequent first."""
    found = [
        (class_name(true, evaluation.labels), class_name(predicted, evaluation.labels), count)
        for (true, predicted), count in evaluation.confusion.items()
        if true != predicted and count
    ]
    return sorted(found, key=lambda item: -item[2])


def compare(predictions: Predictions) -> Comparison:
    """The served model and this one on the same examples."""
    candidate = predictions.class_ids == predictions.labels
    baseline = predictions.baseline_class_ids == predictions.labels
    b, c = int((candidate & ~baseline).sum()), int((~candidate & baseline).sum())
    return Comparison(int((candidate & baseline).sum()), b, c, int((~candidate & ~baseline).sum()), mcnemar(b, c))


def reliability(predictions: Predictions) -> list[Bin]:
    """The bins of equal width that hold predictions (Guo et al., On Calibration of Modern Neural Networks, 2017)."""
    right = predictions.class_ids == predictions.labels
    index = np.minimum((predictions.confidence * BINS).astype(int), BINS - 1)
    return [
        Bin(
            number / BINS,
            (number + 1) / BINS,
            float(predictions.confidence[index == number].mean()),
            Proportion(int(right[index == number].sum()), int((index == number).sum())),
        )
        for number in np.unique(index).tolist()
    ]


def worst_mistakes(predictions: Predictions, spec: ExampleSpec) -> list[Mistake]:
    """The most confidently wrong examples of the test split, the worst first."""
    return [
        Mistake(
            position,
            class_name(int(predictions.labels[position]), spec.labels),
            class_name(int(predictions.class_ids[position]), spec.labels),
            float(predictions.confidence[position]),
            draw(values, spec),
        )
        for position, values in zip(predictions.worst.tolist(), predictions.worst_inputs, strict=True)
    ]
