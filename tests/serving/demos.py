"""The demo as a process, and a model that says nothing row by row."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from tests.conftest import ROOT

COMMAND = [sys.executable, "-m", "serving.demo"]


@dataclass
class Demo:
    """The running command and the address of its page."""

    process: subprocess.Popen[str]
    url: str
    lines: list[str]

    def end(self, number: signal.Signals) -> tuple[int, str]:
        """The exit code after a signal, and what was written to standard error."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=30)
        return self.process.returncode, errors


@contextmanager
def demo(*arguments: object) -> Iterator[Demo]:
    """Runs the command on a free port."""
    command = [*COMMAND, "--port", "0", *map(str, arguments)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line.strip())
            if found := re.search(r"http://\S+:\d+", line):
                yield Demo(process, found[0], lines)
                break
        else:
            raise AssertionError(f"the demo did not start: {process.communicate()[1]}")
    finally:
        process.kill()
        process.communicate()


def save_both_directions(folder: Path, rows: int, columns: int) -> None:
    """A model with `predict_images` alone, as a bidirectional one: three classes without names."""
    module = tf.Module()
    module.weights = tf.Variable(np.random.default_rng(0).normal(0, 0.1, (rows * columns, 3)).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec([None, rows, columns], tf.uint8, "images")], autograph=False)
    def predict_images(images: tf.Tensor) -> dict[str, tf.Tensor]:
        flat = tf.reshape(tf.cast(images, tf.float32) / 255, [-1, rows * columns])
        probabilities = tf.nn.softmax(flat @ module.weights)
        return {"probabilities": probabilities, "class_ids": tf.argmax(probabilities, axis=-1)}

    tf.saved_model.save(module, str(folder), signatures={"predict_images": predict_images})
