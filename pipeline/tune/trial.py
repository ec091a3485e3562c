"""One trial: a training like the Trainer's, without its export, judged on the eval split."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import optuna
import tensorflow_transform as tft
import tf_keras

from components.trainer.cluster import connect, with_precision
from components.trainer.fit import DivergedError
from components.trainer.run import TrainingJob, learn
from components.trainer.settings import TrainerSettings
from pipeline.config import Config
from pipeline.tune.study import BACKUP, CUT, SPENT, Search


def train_trial(search: Search, trial: optuna.Trial, config: Config) -> float:
    """Trains with the settings of `trial`, and returns the metric of the weights that the Trainer would keep.

    Raises:
        optuna.TrialPruned: other trials were better at the same part of their epochs, or the training diverged.
    """
    folder = search.trial_folder(trial.study.trials[trial.number])
    callbacks = [Pruning(trial, search.metric), *([Budget(trial, search.budget)] if search.budget else [])]
    try:
        kept = judge(config, search.transform_output, search.examples, folder, callbacks)
    except DivergedError:
        kept = {}
    value = kept.get(search.metric, math.nan)
    if not math.isfinite(value):
        raise optuna.TrialPruned("the loss became NaN or infinite")
    return value


def judge(
    config: Config,
    transform_output: str,
    examples: str,
    folder: Path,
    callbacks: Sequence[tf_keras.callbacks.Callback] = (),
) -> dict[str, float]:
    """Trains as the Trainer does, and returns the val_loss and val_accuracy of the weights that it would keep.

    `transform_output` and `examples` are as in `Search`; the test split is not read. An interrupted training leaves its
    state in `folder`, where TensorBoard finds its curves. `callbacks` come beside the Trainer's own.

    Raises:
        DivergedError: the training gave no usable weights.
    """
    job = TrainingJob(
        settings=TrainerSettings(
            example=config.data.example,
            model=config.model,
            training=with_precision(config.training),
            augmentation=config.augmentation,
            backup_dir=str(folder),
        ),
        transform_output=transform_output,
        train_files=[f"{examples}/Split-train/*"],
        eval_files=[f"{examples}/Split-eval/*"],
        serving_model_dir="",
        model_run_dir=str(folder),
        backup_dir=str(folder / BACKUP),
    )
    try:
        cluster = connect(config.training.replicas)
        model, validation = learn(job, tft.TFTransformOutput(transform_output), cluster, callbacks)
        kept = model.evaluate(
            validation.distribute(cluster.strategy), steps=validation.steps, verbose=0, return_dict=True
        )
    finally:
        tf_keras.backend.clear_session()
    return {f"val_{name}": float(value) for name, value in kept.items()}


class Pruning(tf_keras.callbacks.Callback):
    """Reports each tenth of the epochs to Optuna, and stops a trial that is worse than the others were there.

    Trials of different lengths are compared at the same part of their schedules, not at the same epoch.
    """

    def __init__(self, trial: optuna.Trial, metric: str) -> None:
        super().__init__()
        self._trial, self._metric = trial, metric

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        value = float((logs or {})[self._metric])
        before, now = (10 * done // self.params["epochs"] for done in (epoch, epoch + 1))
        if now == before:
            return
        if math.isfinite(value):
            self._trial.report(value, now)
        if self._trial.should_prune():
            raise optuna.TrialPruned(f"other trials were better in epoch {epoch + 1}")


class Budget(tf_keras.callbacks.Callback):
    """Cuts a trial that has trained for `seconds`, validation included; what came before an interruption counts."""

    def __init__(self, trial: optuna.Trial, seconds: int) -> None:
        super().__init__()
        self._trial, self._seconds = trial, seconds

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        self._began = time.monotonic() - self._trial.user_attrs.get(SPENT, 0.0)

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self._epoch = epoch + 1

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        finished = self._epoch == self.params["epochs"] and batch + 1 == self.params["steps"]
        if not finished and self._spent() > self._seconds:
            self._trial.set_user_attr(CUT, f"in epoch {self._epoch} of {self.params['epochs']}")
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self._trial.set_user_attr(SPENT, self._spent())

    def _spent(self) -> float:
        return time.monotonic() - self._began
