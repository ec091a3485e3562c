"""Writes the data folder of the fork: python write_shards.py FOLDER, in the fork's own checkout."""

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer

from data.records import write_split


def splits() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Sequences float32 [N, 3, 10] and labels [N] of each split."""
    values, labels = load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(4).permutation(len(labels))
    sequences, labels = values.reshape(-1, 3, 10).astype(np.float32)[order], labels[order]
    bounds = {"train": slice(0, 369), "eval": slice(369, 419), "test": slice(419, None)}
    return {split: (sequences[rows], labels[rows]) for split, rows in bounds.items()}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir()
    for split, (sequences, labels) in splits().items():
        write_split(folder, split, sequences, labels, shards=1)
