"""The test digits on the page: ten that most models read well and ten that many models misread.

`digits.npz` holds `pixels` uint8 [20, 28, 28], their true `labels` int64 [20], and their `positions` in MNIST's test
split, int64 [20]. `python -m tests.serving.demo_digits` writes it. The file does not say which of them a model reads
right: the served model is asked.

The digits are from MNIST by Y. LeCun and C. Cortes, CC BY-SA 3.0.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.digits import FIELD, read

FILE = Path(__file__).with_name("digits.npz")


class Digits(NamedTuple):
    """`pixels` uint8 [N, height, width], their true `labels` int64 [N], their `positions` in the test split."""

    pixels: np.ndarray
    labels: np.ndarray
    positions: np.ndarray


def load(size: tuple[int, int] = (FIELD, FIELD)) -> Digits:
    """The digits of the file, in the size of a model."""
    with np.load(FILE) as file:
        pixels = np.stack([read(image.astype(np.float32), size)[0] for image in file["pixels"]])
        return Digits(pixels, file["labels"], file["positions"])
