"""The test digits on the page: ten that most models read well and ten that many models misread.

`digits.npz` holds `pixels` uint8 [20, 28, 28], their true `labels` int64 [20], and their `positions` in MNIST's test
split, int64 [20]. `python -m tests.serving.demo_digits` writes it. The file does not say which of them a model reads
right: the served model is asked.

The digits are from MNIST by Y. LeCun and C. Cortes, CC BY-SA 3.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from serving.demo.normalize import normalize

FILE = Path(__file__).with_name("digits.npz")


@dataclass(frozen=True)
class Digits:
    """`pixels` uint8 [N, height, width], their true `labels` int64 [N], their `positions` in the test split."""

    pixels: np.ndarray
    labels: np.ndarray
    positions: np.ndarray


@cache
def load() -> Digits:
    """The digits of the file."""
    with np.load(FILE, allow_pickle=False) as file:
        return Digits(file["pixels"], file["labels"], file["positions"])


def of_size(size: tuple[int, int]) -> Digits:
    """The digits in the size of a model."""
    digits = load()
    return Digits(np.stack([normalize(image, size) for image in digits.pixels]), digits.labels, digits.positions)
