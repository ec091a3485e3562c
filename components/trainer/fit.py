"""How the network learns: optimizer, schedule, callbacks."""

from __future__ import annotations

import io
import logging
import math
import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tf_keras

from components.trainer.cluster import Cluster
from components.trainer.input import SplitDataset
from components.trainer.settings import Training
from data.errors import UserError

EPOCHS = "epochs.csv"
"""The loss and the accuracy of each epoch, also of those before an interruption."""
_STATE = "state"

log = logging.getLogger(__name__)


class DivergedError(UserError):
    """A training that gave no usable weights."""


def compile_model(model: tf_keras.Model, training: Training, steps_per_epoch: int) -> None:
    """Compiles with the optimizer, cross-entropy on logits, and accuracy; call it in the strategy's scope."""
    options: dict[str, float | bool] = {"global_clipnorm": training.clip_norm} if training.clip_norm else {}
    if training.ema_momentum:
        options |= {"use_ema": True, "ema_momentum": training.ema_momentum}
    rate = learning_rate(training, steps_per_epoch, tf.distribute.get_strategy().num_replicas_in_sync)
    if training.optimizer == "adamw":
        optimizer = tf_keras.optimizers.AdamW(rate, weight_decay=training.weight_decay, **options)
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    else:
        optimizer = tf_keras.optimizers.Adam(rate, **options)
    if training.precision == "mixed_float16":
        # float16 has few exponents: small gradients would become 0.
        optimizer = tf_keras.mixed_precision.LossScaleOptimizer(optimizer)
    # A training that was interrupted after its last epoch takes no further step, which would build it.
    optimizer.build(model.trainable_variables)
    model.compile(
        optimizer,
        tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[tf_keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        steps_per_execution=min(training.steps_per_execution, steps_per_epoch),
    )


def learning_rate(
    training: Training, steps_per_epoch: int, replicas: int = 1
) -> float | tf_keras.optimizers.schedules.LearningRateSchedule:
    """A constant, or a linear warm-up from 0 followed by a cosine decay to 0 (Loshchilov and Hutter, SGDR, 2017).

    `replicas` multiply the batch; the rate grows by their square root, the rule for adaptive optimizers (Malladi
    et al., On the SDEs and Scaling Rules for Adaptive Gradient Algorithms, NeurIPS 2022). The warm-up is counted in
    epochs, so it does not change.
    """
    peak = training.learning_rate * math.sqrt(replicas)
    if training.schedule == "constant":
        return peak
    warmup = round(training.warmup_epochs * steps_per_epoch)
    return tf_keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else peak,
        decay_steps=training.epochs * steps_per_epoch - warmup,
        warmup_target=peak if warmup else None,
        warmup_steps=warmup,
    )


def fit(
    model: tf_keras.Model,
    data: SplitDataset,
    validation: SplitDataset,
    training: Training,
    cluster: Cluster,
    log_dir: str,
    backup_dir: str,
    callbacks: Sequence[tf_keras.callbacks.Callback] = (),
) -> None:
    """Trains, and leaves in `model` the weights of the epoch with the lowest validation loss.

    If `training.patience` is 0, all epochs run and the last weights stay: with `training.ema_momentum`, their average.

    An interrupted training continues from its last finished epoch if `backup_dir` is the same, with the batches that it
    would have seen. Without dropout it ends with the weights of an uninterrupted training. Only the chief of several
    hosts writes to `log_dir` and `backup_dir`; all read the latter.

    Raises:
        DivergedError: the loss or the validation loss became NaN or infinite, and no epoch had usable weights.
    """
    finished = finished_epochs(backup_dir)
    if finished:
        log.info("Continues a training that was interrupted after epoch %d.", finished)
    best = BestWeights(backup_dir, training.patience, cluster.is_chief) if training.patience else None
    epochs = os.path.join(backup_dir, EPOCHS)
    tf.io.gfile.makedirs(backup_dir)
    history = model.fit(
        data.distribute(cluster.strategy, finished),
        epochs=finished if best and best.stopped else training.epochs,
        steps_per_epoch=data.steps,
        validation_data=validation.distribute(cluster.strategy),
        validation_steps=validation.steps,
        verbose=0,
        callbacks=[
            tf_keras.callbacks.TerminateOnNaN(),
            *([best] if best else []),
            *([AveragedWeights()] if training.ema_momentum else []),
            *([tf_keras.callbacks.TensorBoard(log_dir, write_graph=False)] if cluster.is_chief else []),
            # Every host takes part. Keras lets the others write to a temporary folder.
            tf_keras.callbacks.BackupAndRestore(os.path.join(backup_dir, _STATE), delete_checkpoint=False),
            *([tf_keras.callbacks.CSVLogger(epochs, append=True)] if cluster.is_chief else []),
            # ProgressLogger is after it, so an epoch is saved before it is reported.
            ProgressLogger(training.epochs, data.steps, cluster),
            *callbacks,
        ],
    )
    if cluster.is_chief and tf.io.gfile.exists(epochs):
        tf.io.gfile.copy(epochs, os.path.join(log_dir, EPOCHS), overwrite=True)
    # A training that was resumed after its last epoch has no history.
    last = {name: values[-1] for name, values in history.history.items()}
    judged = [best.best] if best else [last.get(name, 0.0) for name in ("loss", "val_loss")]
    if not np.isfinite(judged).all():
        if cluster.is_chief:
            tf.io.gfile.rmtree(backup_dir)  # it has the NaN weights: the same command must not continue from them
        culprit = "validation loss" if np.isfinite(last.get("loss", 0.0)) else "loss"
        raise DivergedError(
            f"Training diverged: the {culprit} became NaN or infinite and no epoch gave usable weights."
            " Lower training.learning_rate or set training.clip_norm."
        )
    if not np.isfinite(last.get("loss", 0.0)):
        log.warning("The loss became NaN or infinite and training stopped; lower training.learning_rate.")
    if best:
        log.info("Kept the weights of epoch %d, validation loss %.4f.", best.best_epoch + 1, best.best)


def finished_epochs(backup_dir: str) -> int:
    """How many epochs of an interrupted training Keras' BackupAndRestore has saved in `backup_dir`."""
    checkpoint = tf.train.latest_checkpoint(os.path.join(backup_dir, _STATE, "chief"))
    if checkpoint is None:
        return 0
    return int(tf.train.load_variable(checkpoint, "ckpt_saved_epoch/.ATTRIBUTES/VARIABLE_VALUE")) + 1


class BestWeights(tf_keras.callbacks.EarlyStopping):
    """EarlyStopping on the validation loss whose best weights survive an interruption, beside the backup."""

    def __init__(self, folder: str, patience: int, writes: bool) -> None:
        super().__init__(monitor="val_loss", patience=patience, restore_best_weights=True)
        self._writes = writes
        self._file = os.path.join(folder, "best.npz")
        self._saved: dict[str, np.ndarray] = {}
        if tf.io.gfile.exists(self._file):
            with np.load(io.BytesIO(tf.io.gfile.GFile(self._file, "rb").read())) as saved:
                self._saved = dict(saved)

    @property
    def stopped(self) -> bool:
        """True if the interrupted training had stopped early."""
        return bool(self._saved.get("stopped", False))

    def on_train_begin(self, logs: dict | None = None) -> None:
        super().on_train_begin(logs)
        if self._saved:
            self.best, self.best_epoch = self._saved["best"].item(), self._saved["epoch"].item()
            count = sum(name.startswith("w") for name in self._saved)
            self.best_weights = [self._saved[f"w{i}"] for i in range(count)]

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        super().on_epoch_begin(epoch, logs)
        # An epoch that is repeated after an interruption counts once.
        self.wait = max(0, epoch - 1 - self.best_epoch)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        super().on_epoch_end(epoch, logs)
        if not self._writes:
            return
        content = io.BytesIO()
        weights = {f"w{i}": array for i, array in enumerate(self.best_weights or [])}
        np.savez(content, best=self.best, epoch=self.best_epoch, stopped=self.model.stop_training, **weights)
        tf.io.gfile.makedirs(os.path.dirname(self._file))
        with tf.io.gfile.GFile(f"{self._file}.new", "wb") as file:
            file.write(content.getvalue())
        tf.io.gfile.rename(f"{self._file}.new", self._file, overwrite=True)


class AveragedWeights(tf_keras.callbacks.Callback):
    """Validates the optimizer's moving average of the weights, and leaves it in the model until the epoch's end.

    So BestWeights, which comes before, keeps the average. BackupAndRestore, which comes after, saves the weights that
    go on training. Keras' fit itself leaves the average in the model after the last epoch.
    """

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._trained: list[np.ndarray] | None = None

    def on_test_begin(self, logs: dict | None = None) -> None:
        self._trained = self.model.get_weights()
        self.model.optimizer.finalize_variable_values(self.model.trainable_variables)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if self._trained is not None:
            self.model.set_weights(self._trained)


class ProgressLogger(tf_keras.callbacks.Callback):
    """Logs each epoch in a line, and each execution's step and metrics in a record with the attribute `progress`."""

    def __init__(self, epochs: int, steps: int, cluster: Cluster) -> None:
        super().__init__()
        self._epochs, self._steps, self._cluster = epochs, steps, cluster
        self._epoch = 1

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._epoch = epoch + 1
        self._cluster.stage = f"in epoch {self._epoch} of {self._epochs}"

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        position = {"epoch": self._epoch, "epochs": self._epochs, "step": batch + 1, "steps": self._steps}
        log.debug("Step %d of %d.", batch + 1, self._steps, extra={"progress": {**position, **(logs or {})}})

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        metrics = {key: float(value) for key, value in (logs or {}).items()}
        log.info(
            "epoch %d/%d  loss %.4f  accuracy %.4f  val_loss %.4f  val_accuracy %.4f",
            epoch + 1,
            self._epochs,
            *(metrics.get(key, float("nan")) for key in ("loss", "accuracy", "val_loss", "val_accuracy")),
            extra={"epoch_end": {"epoch": epoch + 1, "epochs": self._epochs, **metrics}},
        )
