"""serving/client/images.py of a fork: the inputs are sequences of float vectors, float32 [N, steps, features]."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from serving.client.results import Description, Metadata
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


def reading_of(description: Description) -> tuple[int, int]:
    """Steps and features, which the model says."""
    steps, features = description.inputs["size"]
    return int(steps), int(features)


def unknown_reading(metadata: Metadata) -> tuple[int, int]:
    """Steps and features of a model that does not say them."""
    return image_size(metadata)


def read_images(
    paths: str | Path | Sequence[str | Path], reading: tuple[int, int], fit: str | None = None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Reads one sequence from each .npy file; `fit` means nothing here."""
    files = [paths] if isinstance(paths, (str, Path)) else [*paths]
    return np.stack([np.load(file).astype(np.float32).reshape(reading) for file in files]), ("",) * len(files)


def read_image(file: BinaryIO, reading: tuple[int, int], formats: tuple[str, ...], limit: float) -> None:
    """The demo draws pictures, and these are none."""
    raise ImageError("This model does not read pictures.")
