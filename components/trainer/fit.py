"""How the network learns: optimizer, schedule, callbacks."""

from __future__ import annotations

import io
import logging
import math
import os

import numpy as np
import tensorflow as tf
import tf_keras

from components.settings import Training
from components.trainer.cluster import loss_of_host_told
from components.trainer.input import Split
from data.errors import UserError

log = logging.getLogger(__name__)


def compile_network(network: tf_keras.Model, training: Training, steps_per_epoch: int) -> None:
    """Compiles with the optimizer, cross-entropy on logits, and accuracy; call it in the strategy's scope."""
    options = {"global_clipnorm": training.clip_norm} if training.clip_norm else {}
    rate = learning_rate(training, steps_per_epoch, tf.distribute.get_strategy().num_replicas_in_sync)
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
    training: Training, steps_per_epoch: int, replicas: int = 1
) -> float | tf_keras.optimizers.schedules.LearningRateSchedule:
    """A constant, or a linear warm-up from 0 followed by a cosine decay to 0 (Loshchilov and Hutter, SGDR, 2017).

    `replicas` make the batch as many times larger and the rate by the square root of that, the rule for adaptive
    optimizers (Malladi et al., On the SDEs and Scaling Rules for Adaptive Gradient Algorithms, NeurIPS 2022).
    The warm-up counts in epochs, so it stays as it is.
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
    network: tf_keras.Model, train: Split, validation: Split, training: Training, logs: str, backup_dir: str
) -> None:
    """Trains, and leaves in `network` the weights of the epoch with the lowest validation loss.

    Where `training.patience` is 0, all epochs are run and the last one's weights stay.

    An interrupted training goes on from its last finished epoch if `backup_dir` is the same. Of several hosts
    only the chief writes to `logs` and `backup_dir`; all read the latter.

    Raises:
        UserError: the loss became NaN or infinite, or a training host was lost.
    """
    strategy = network.distribute_strategy
    chief = strategy.extended.should_checkpoint
    best = BestWeights(backup_dir, training.patience, chief) if training.patience else None
    progress = Progress(training.epochs, train.steps)
    with loss_of_host_told(strategy, lambda: f"in epoch {progress.epoch} of {training.epochs}"):
        history = network.fit(
            train.distributed(strategy),
            epochs=training.epochs,
            steps_per_epoch=train.steps,
            validation_data=validation.distributed(strategy),
            validation_steps=validation.steps,
            verbose=0,
            callbacks=[
                tf_keras.callbacks.TerminateOnNaN(),
                *([best] if best else []),
                *([tf_keras.callbacks.TensorBoard(logs, write_graph=False)] if chief else []),
                # Every host takes part; Keras lets the others write to a folder of their own and removes it.
                tf_keras.callbacks.BackupAndRestore(os.path.join(backup_dir, "state"), delete_checkpoint=False),
                # Last, so that an epoch that was told of is safe.
                progress,
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

    def __init__(self, folder: str, patience: int, writes: bool) -> None:
        super().__init__(monitor="val_loss", patience=patience, restore_best_weights=True)
        self._writes = writes
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
        if not self._writes:
            return
        content = io.BytesIO()
        weights = {f"w{i}": array for i, array in enumerate(self.best_weights or [])}
        np.savez(content, best=self.best, epoch=self.best_epoch, last=epoch, **weights)
        tf.io.gfile.makedirs(os.path.dirname(self._file))
        with tf.io.gfile.GFile(f"{self._file}.new", "wb") as file:
            file.write(content.getvalue())
        tf.io.gfile.rename(f"{self._file}.new", self._file, overwrite=True)


class Progress(tf_keras.callbacks.Callback):
    """Notes the running `epoch`, from 1, and logs each in a line.

    Each execution's place and figures go into a record of their own, as its `progress`.
    """

    def __init__(self, epochs: int, steps: int) -> None:
        super().__init__()
        self._epochs, self._steps, self.epoch = epochs, steps, 1

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.epoch = epoch + 1

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        place = {"epoch": self.epoch, "epochs": self._epochs, "step": batch + 1, "steps": self._steps}
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
