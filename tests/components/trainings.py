"""Trainings of seconds, as the Trainer runs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_transform as tft
import tf_keras

from components.trainer.cluster import connect
from components.trainer.run import TrainingJob, learn
from components.trainer.settings import Augmentation, Model, TrainerSettings, Training
from data.example import ExampleSpec

SMALL = Model(cell="simple_rnn", units=32)
"""TensorFlow traces it in half the time of an LSTM."""


class Trained(NamedTuple):
    """What a training leaves: the model, its loss on the validation split, and each epoch's figures by their names."""

    model: tf_keras.Model
    loss: float
    history: dict[str, list[float]]

    @property
    def weights(self) -> list[np.ndarray]:
        return self.model.get_weights()


def training_job(
    folder: Path,
    transform: tft.TFTransformOutput,
    files: dict[str, list[str]],
    model: Model | None = None,
    augmentation: Augmentation | None = None,
    **training: Any,
) -> TrainingJob:
    """A job as `run_fn` makes it."""
    return TrainingJob(
        settings=TrainerSettings(
            example=ExampleSpec(),
            model=model or SMALL,
            training=Training(**{"batch_size": 50, "epochs": 2, "learning_rate": 5e-3, **training}),
            augmentation=augmentation or Augmentation(),
            backup_dir=str(folder / "backup"),
        ),
        transform_output=transform.transform_savedmodel_dir.rsplit("/", 1)[0],
        train_files=files["train"],
        eval_files=files["eval"],
        serving_model_dir=str(folder / "model"),
        model_run_dir=str(folder / "logs"),
        backup_dir=str(folder / "backup" / "job"),
    )


def train(job: TrainingJob) -> Trained:
    """Trains as the Trainer does, without the export."""
    history = tf_keras.callbacks.History()
    transform = tft.TFTransformOutput(job.transform_output)
    cluster = connect(job.settings.training.replicas)
    model, validation = learn(job, transform, cluster, [history])
    loss, _ = model.evaluate(validation.distribute(cluster.strategy), steps=validation.steps, verbose=0)
    return Trained(model, loss, history.history)
