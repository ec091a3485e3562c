"""The training's numbers per epoch."""

from __future__ import annotations

import csv
import io
import math
import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Epoch:
    """One epoch, counted from 1: cross-entropy in nats and accuracy as a share, in training and in validation."""

    number: int
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float


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
