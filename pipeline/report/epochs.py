"""The training's numbers per epoch."""

from __future__ import annotations

import csv
import io
import math
import os
from dataclasses import dataclass
from pathlib import Path

from pipeline.report.artifacts import missing
from pipeline.runs.records import Run


@dataclass(frozen=True)
class Epoch:
    """One epoch, counted from 1: cross-entropy in nats and accuracy as a share, in training and in validation."""

    number: int
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float


def read_epochs(run: Run) -> list[Epoch] | str:
    """The epochs in order, from the Trainer's CSV file or from TensorBoard's files; or why there are none."""
    if reason := missing(run, "Trainer", "model_run"):
        return reason
    artifact = run.output("Trainer", "model_run")
    assert artifact is not None
    found = _from_csv(artifact.uri) or _from_tensorboard(artifact.uri)
    return found or "The Trainer left no numbers per epoch."


def kept_epoch(run: Run, epochs: list[Epoch]) -> Epoch | None:
    """The epoch whose weights the model has; None if the settings were not recorded.

    Early stopping keeps the epoch with the lowest validation loss. Without it the last weights stay.
    """
    patience = run.settings.get("training", {}).get("patience")
    if patience is None:
        return None
    usable = [epoch for epoch in epochs if math.isfinite(epoch.val_loss)]
    return min(usable, key=lambda epoch: epoch.val_loss, default=None) if patience else epochs[-1]


def _from_csv(folder: str) -> list[Epoch]:
    """An epoch that was repeated after an interruption appears twice in the file: the last one counts."""
    from tfx.dsl.io import fileio

    from components.trainer.fit import EPOCHS

    path = os.path.join(folder, EPOCHS)
    if not fileio.exists(path):
        return []
    with fileio.open(path) as file:
        lines = csv.DictReader(io.StringIO(file.read()))
        found = {int(line["epoch"]) + 1: line for line in lines}
    return [
        Epoch(number, *(float(found[number].get(name) or "nan") for name in _NAMES.values()))
        for number in sorted(found)
    ]


_NAMES = {
    ("train", "epoch_loss"): "loss",
    ("train", "epoch_accuracy"): "accuracy",
    ("validation", "epoch_loss"): "val_loss",
    ("validation", "epoch_accuracy"): "val_accuracy",
}


def _from_tensorboard(folder: str) -> list[Epoch]:
    """From the event files of Keras' TensorBoard callback, which an earlier version left alone."""
    import tensorflow as tf
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

    series: dict[str, dict[int, float]] = {}
    for (part, tag), name in _NAMES.items():
        if not (Path(folder) / part).is_dir():
            return []
        accumulator = EventAccumulator(os.path.join(folder, part))
        accumulator.Reload()
        if tag not in accumulator.Tags()["tensors"]:
            return []
        series[name] = {
            event.step + 1: float(tf.make_ndarray(event.tensor_proto)) for event in accumulator.Tensors(tag)
        }
    numbers = sorted(set.intersection(*(set(values) for values in series.values())))
    return [Epoch(number, **{name: values[number] for name, values in series.items()}) for number in numbers]
