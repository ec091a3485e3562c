"""serving/client/images.py of a fork: the inputs are sequences of float vectors, float32 [N, steps, features]."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from serving.client.results import Metadata
from serving.errors import ImageError


def check_images(sequences: np.ndarray) -> np.ndarray:
    """Returns `sequences` if they are float32 [N, steps, features].

    Raises:
        ImageError: another dtype or rank.
    """
    if sequences.dtype != np.float32 or sequences.ndim != 3:
        raise ImageError(
            f"Sequences must be float32 [N, steps, features], not {sequences.dtype} {list(sequences.shape)}."
        )
    return sequences


def image_size(metadata: Metadata) -> tuple[int, int]:
    """Steps and features of the model's input."""
    _, steps, features = metadata.signatures["predict_images"].inputs["images"].shape
    return steps, features


def random_images(count: int, size: tuple[int, int]) -> np.ndarray:
    """Random sequences, float32 [count, steps, features]."""
    return np.random.default_rng(0).normal(size=(count, *size)).astype(np.float32)


def read_images(
    paths: str | Path | Sequence[str | Path], size: tuple[int, int], *, resize: bool = False, invert: bool = False
) -> np.ndarray:
    """Reads one sequence from each .npy file; `resize` and `invert` mean nothing here."""
    files = [paths] if isinstance(paths, (str, Path)) else [*paths]
    return np.stack([np.load(file).astype(np.float32).reshape(size) for file in files])
