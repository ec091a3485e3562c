"""Writes serving/demo/digits.npz from data/mnist: the test digits that the demo shows.

python -m tests.serving.demo_digits

Both lists have one digit of each class. When they were made, two pushed models of this project read every digit of
`WELL` right and every digit of `MISREAD` wrong. MNIST is by Y. LeCun and C. Cortes, CC BY-SA 3.0. The file is an
excerpt and has the same licence.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data.example import ExampleSpec, parse
from data.records import list_shards, read_serialized
from serving.demo.digits import FILE
from tests.conftest import MNIST

WELL = (3, 2, 1, 18, 4, 15, 11, 0, 61, 7)
MISREAD = (1621, 5457, 4176, 449, 247, 2597, 2654, 9009, 582, 4761)


def pick(positions: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The images, uint8 [N, 28, 28], and the labels, int64 [N], at these positions of the test split."""
    records = [record for path in list_shards(MNIST, "test") for record in read_serialized(path)]
    found = [parse(records[position], ExampleSpec()) for position in positions]
    return np.stack([image for image, _ in found]), np.asarray([label for _, label in found], np.int64)


if __name__ == "__main__":
    positions = (*WELL, *MISREAD)
    pixels, labels = pick(positions)
    np.savez_compressed(FILE, pixels=pixels, labels=labels, positions=np.asarray(positions, np.int64))
    print(f"{FILE}: {labels.tolist()}")
