"""Trainings of seconds, as the Trainer runs them."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft

from components.trainer.run import run_fn
from components.trainer.settings import Augmentation, Model, TrainerSettings, Training
from data.example import ExampleSpec


def train(
    folder: Path,
    transform: tft.TFTransformOutput,
    files: dict[str, list[str]],
    caplog: pytest.LogCaptureFixture,
    model: Model | None = None,
    augmentation: Augmentation | None = None,
    **training: Any,
) -> list[dict[str, float]]:
    """Runs run_fn as the Trainer does; returns each epoch's figures."""
    options = {"batch_size": 50, "epochs": 2, "learning_rate": 5e-3, **training}
    settings = TrainerSettings(
        example=ExampleSpec(),
        model=model or Model(units=32),
        training=Training(**options),
        augmentation=augmentation or Augmentation(),
        backup_dir=str(folder / "backup"),
    )
    caplog.clear()
    with caplog.at_level(logging.INFO, "components"):
        run_fn(
            SimpleNamespace(
                custom_config=settings.model_dump(),
                transform_output=transform.transform_savedmodel_dir.rsplit("/", 1)[0],
                train_files=files["train"],
                eval_files=files["eval"],
                serving_model_dir=str(folder / "model"),
                model_run_dir=str(folder / "logs"),
            )
        )
    return [record.epoch_end for record in caplog.records if hasattr(record, "epoch_end")]


def weights(folder: Path) -> list[np.ndarray]:
    """The weights of the model that `train` exported."""
    return [variable.numpy() for variable in tf.saved_model.load(str(folder / "model")).model_variables]
