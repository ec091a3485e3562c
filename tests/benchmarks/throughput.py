"""Images per second in the second epoch: python -m tests.benchmarks.throughput ours PROFILE | keras CELL."""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import sys
import tempfile
import time
from pathlib import Path

import tensorflow_transform as tft
import tf_keras

from data.records import read_split
from tests.benchmarks.__main__ import MNIST


class Clock(tf_keras.callbacks.Callback):
    """Notes when the training part of each epoch begins and ends."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch, logs=None) -> None:
        self._began = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None) -> None:
        self._last = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None) -> None:
        self.seconds.append(self._last - self._began)


def ours(profile: str) -> float:
    """The Trainer's own input, network and compile settings, after real ExampleGen and Transform steps."""
    from components.trainer.distribution import choose_strategy
    from components.trainer.fit import compile_network
    from components.trainer.input import read_splits
    from components.trainer.model import build_network
    from pipeline.config import load
    from pipeline.run_local import main

    config, clock = load(profile), Clock()
    with tempfile.TemporaryDirectory() as root:
        assert main(["--profile", profile, "--run-root", root, "--to", "Transform"]) == 0
        artifacts = Path(root, "artifacts")
        examples = next((artifacts / "ExampleGen" / "examples").iterdir())
        transform = tft.TFTransformOutput(str(next((artifacts / "Transform" / "transform_graph").iterdir())))
        files = [[f"{examples}/Split-{split}/*"] for split in ("train", "eval")]
        strategy = choose_strategy(config.training.replicas)
        train, _ = read_splits(*files, transform, config.training, config.training.batch_size)
        with strategy.scope():
            network = build_network(config.model, config.data.image)
            compile_network(network, config.training, len(train.dataset))
        network.fit(train.dataset.repeat(), epochs=2, steps_per_epoch=len(train.dataset), verbose=0, callbacks=[clock])
    return train.examples / clock.seconds[1]


def keras(cell: str) -> float:
    """The first article's script: arrays in memory, batches of 128, Adam, plain fit."""
    images = read_split(MNIST, "train", 28, 28)
    layer = {"lstm": tf_keras.layers.LSTM(128), "simple_rnn": tf_keras.layers.SimpleRNN(128, activation="relu")}[cell]
    network = tf_keras.Sequential([tf_keras.Input([28, 28]), layer, tf_keras.layers.Dense(10, activation="softmax")])
    network.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    clock = Clock()
    network.fit(images.pixels / 255.0, images.labels, batch_size=128, epochs=2, verbose=0, callbacks=[clock])
    return len(images) / clock.seconds[1]


if __name__ == "__main__":
    print({"ours": ours, "keras": keras}[sys.argv[1]](sys.argv[2]))
