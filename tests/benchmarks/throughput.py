"""Images per second in the second epoch.

python -m tests.benchmarks.throughput ours PROFILE [KEY=VALUE …]    the Trainer's input and network
python -m tests.benchmarks.throughput no-input PROFILE […]          the same network, always with the same batch
python -m tests.benchmarks.throughput keras CELL                    the script of the first article
"""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import sys
import tempfile
import time
from pathlib import Path

import tensorflow as tf
import tensorflow_transform as tft
import tf_keras

from data.example import ExampleSpec
from data.records import read_split
from tests.benchmarks.__main__ import MNIST


class Clock(tf_keras.callbacks.Callback):
    """Measures the training part of each epoch, without the validation."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch, logs=None) -> None:
        self._began = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None) -> None:
        self._last = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None) -> None:
        self.seconds.append(self._last - self._began)


def ours(profile: str, *overrides: str, same_batch: bool = False) -> float:
    """The input, network and compile settings of the Trainer, after real ExampleGen and Transform steps."""
    from components.trainer.cluster import connect, with_precision
    from components.trainer.fit import compile_model
    from components.trainer.input import read_splits
    from components.trainer.model import build_model
    from pipeline.config import load
    from pipeline.local.cli import main

    config, clock = load(profile, overrides), Clock()
    training = with_precision(config.training)
    with tempfile.TemporaryDirectory() as root:
        given = ["--set", *overrides] if overrides else []
        assert main(["--profile", profile, "--run-root", root, "--to", "Transform", *given]) == 0
        artifacts = Path(root, "artifacts")
        examples = next((artifacts / "ExampleGen" / "examples").iterdir())
        transform = tft.TFTransformOutput(str(next((artifacts / "Transform" / "transform_graph").iterdir())))
        files = [[f"{examples}/Split-{split}/*"] for split in ("train", "eval")]
        strategy = connect(training.replicas).strategy
        batch = training.batch_size * strategy.num_replicas_in_sync
        train, _ = read_splits(*files, transform, training, batch, config.augmentation)
        with strategy.scope():
            network = build_model(config.model, config.data.example, training.precision)
            compile_model(network, training, train.steps)
        batches = train.distribute(strategy)
        if same_batch:
            (batch,) = list(train.dataset.take(1))
            options = tf.data.Options()
            options.autotune.enabled = False
            batches = tf.data.Dataset.from_tensors(batch).repeat().with_options(options)
        network.fit(batches, epochs=2, steps_per_epoch=train.steps, verbose=0, callbacks=[clock])
    return train.examples / clock.seconds[1]


def no_input(profile: str, *overrides: str) -> float:
    """As `ours`, without reading, parsing and augmenting."""
    return ours(profile, *overrides, same_batch=True)


def keras(cell: str) -> float:
    """The script of the first article: arrays in memory, batches of 128, Adam, plain fit."""
    pixels, labels = read_split(MNIST, "train", ExampleSpec())
    layer = {"lstm": tf_keras.layers.LSTM(128), "simple_rnn": tf_keras.layers.SimpleRNN(128, activation="relu")}[cell]
    network = tf_keras.Sequential([tf_keras.Input([28, 28]), layer, tf_keras.layers.Dense(10, activation="softmax")])
    network.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    clock = Clock()
    network.fit(pixels / 255.0, labels, batch_size=128, epochs=2, verbose=0, callbacks=[clock])
    return len(labels) / clock.seconds[1]


if __name__ == "__main__":
    print({"ours": ours, "no-input": no_input, "keras": keras}[sys.argv[1]](*sys.argv[2:]))
