"""How the network learns: optimizer, schedule, callbacks."""

from __future__ import annotations

import io
import logging
import os

import numpy as np
import tensorflow as tf
import tf_keras

from components.settings import Training
from components.trainer.input import Split
from data.errors import UserError

log = logging.getLogger(__name__)


def compile_network(network: tf_keras.Model, training: Training, steps_per_epoch: int) -> None:
    """Compiles with the optimizer, cross-entropy on logits, and accuracy; call it in the strategy's scope."""
    options = {"global_clipnorm": training.clip_norm} if training.clip_norm else {}
    rate = learning_rate(training, steps_per_epoch)
    if training.optimizer == "adamw":
        optimizer = tf_keras.optimizers.AdamW(rate, weight_decay=training.weight_decay, **options)
        optimizer.exclude_from_weight_decay(var_names=["bias"])
    else:
        optimizer = tf_keras.optimizers.Adam(rate, **options)
    network.compile(
        optimizer,
        tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[tf_keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        steps_per_execution=min(training.steps_per_execution, steps_per_epoch),
    )


def learning_rate(
    training: Training, steps_per_epoch: int
) -> float | tf_keras.optimizers.schedules.LearningRateSchedule:
    """A constant, or a linear warm-up from 0 followed by a cosine decay to 0 (Loshchilov and Hutter, SGDR, 2017)."""
    if training.schedule == "constant":
        return training.learning_rate
    warmup = round(training.warmup_epochs * steps_per_epoch)
    return tf_keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else training.learning_rate,
        decay_steps=training.epochs * steps_per_epoch - warmup,
        warmup_target=training.learning_rate if warmup else None,
        warmup_steps=warmup,
    )


def fit(
    network: tf_keras.Model, train: Split, validation: Split, training: Training, logs: str, backup_dir: str
) -> None:
    """Trains, and leaves in `network` the weights of the epoch with the lowest validation loss.

    Where `training.patience` is 0, all epochs are run and the last one's weights stay.

    An interrupted training goes on from its last finished epoch if `backup_dir` is the same.

    Raises:
        UserError: the loss became NaN or infinite.
    """
    best = BestWeights(backup_dir, training.patience) if training.patience else None
    steps = len(train.dataset)
    history = network.fit(
        train.dataset.repeat(),
        epochs=training.epochs,
        steps_per_epoch=steps,
        validation_data=validation.dataset,
        verbose=0,
        callbacks=[
            tf_keras.callbacks.TerminateOnNaN(),
            *([best] if best else []),
            tf_keras.callbacks.TensorBoard(logs, write_graph=False),
            tf_keras.callbacks.BackupAndRestore(os.path.join(backup_dir, "state"), delete_checkpoint=False),
            # Last, so that an epoch that was told of is safe.
            Progress(training.epochs, steps),
        ],
    )
    # A training that was resumed after its last epoch has no history.
    if not np.isfinite(history.history.get("loss", [0.0])[-1]):
        if best is None or not np.isfinite(best.best):
            raise UserError(
                "Training diverged: the loss became NaN or infinite and no epoch gave usable weights."
                " Lower training.learning_rate or set training.clip_norm."
            )
        log.warning("The loss became NaN or infinite and training stopped; lower training.learning_rate.")
    if best:
        log.info("Kept the weights of epoch %d, validation loss %.4f.", best.best_epoch + 1, best.best)


class BestWeights(tf_keras.callbacks.EarlyStopping):
    """EarlyStopping on the validation loss whose best weights survive an interruption, beside the backup."""

    def __init__(self, folder: str, patience: int) -> None:
        super().__init__(monitor="val_loss", patience=patience, restore_best_weights=True)
        self._file = os.path.join(folder, "best.npz")

    def on_train_begin(self, logs: dict | None = None) -> None:
        super().on_train_begin(logs)
        if tf.io.gfile.exists(self._file):
            with np.load(io.BytesIO(tf.io.gfile.GFile(self._file, "rb").read())) as saved:
                self.best, self.best_epoch, last = saved["best"].item(), saved["epoch"].item(), saved["last"].item()
                self.best_weights = [saved[f"w{i}"] for i in range(len(saved.files) - 3)]
            self.wait = last - self.best_epoch
            log.info("Going on with a training that was interrupted after epoch %d.", last + 1)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        super().on_epoch_end(epoch, logs)
        content = io.BytesIO()
        weights = {f"w{i}": array for i, array in enumerate(self.best_weights or [])}
        np.savez(content, best=self.best, epoch=self.best_epoch, last=epoch, **weights)
        tf.io.gfile.makedirs(os.path.dirname(self._file))
        with tf.io.gfile.GFile(f"{self._file}.new", "wb") as file:
            file.write(content.getvalue())
        tf.io.gfile.rename(f"{self._file}.new", self._file, overwrite=True)


class Progress(tf_keras.callbacks.Callback):
    """Logs each epoch in a line, and each execution's place and figures as the record's `progress`."""

    def __init__(self, epochs: int, steps: int) -> None:
        super().__init__()
        self._epochs, self._steps, self._epoch = epochs, steps, 0

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._epoch = epoch + 1

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        place = {"epoch": self._epoch, "epochs": self._epochs, "step": batch + 1, "steps": self._steps}
        log.debug("Step %d of %d.", batch + 1, self._steps, extra={"progress": {**place, **(logs or {})}})

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        figures = {key: float(value) for key, value in (logs or {}).items()}
        log.info(
            "epoch %d/%d  loss %.4f  accuracy %.4f  val_loss %.4f  val_accuracy %.4f",
            epoch + 1,
            self._epochs,
            *(figures.get(key, float("nan")) for key in ("loss", "accuracy", "val_loss", "val_accuracy")),
            extra={"epoch_end": {"epoch": epoch + 1, "epochs": self._epochs, **figures}},
        )
