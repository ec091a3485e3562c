"""What the model's inputs are: grey images, uint8 [N, rows, columns], light on dark.

This file alone knows it. A fork with other inputs, for example float32 [N, T, F], replaces these functions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from data.pictures import FITS, PictureError, Reading, load, read
from serving.client.results import Description, Metadata
from serving.errors import ConfigError, ImageError, ServerError


def check_images(images: np.ndarray) -> np.ndarray:
    """Returns `images` if they are uint8 [N, rows, columns].

    Raises:
        ImageError: not an array, or another dtype or rank.
    """
    if not isinstance(images, np.ndarray):
        raise ImageError(f"Images must be one array, uint8 [N, rows, columns], not {type(images).__name__}.")
    if images.dtype != np.uint8 or images.ndim != 3:
        raise ImageError(
            f"Images must be uint8 [N, rows, columns], not {images.dtype} {list(images.shape)}. Scale the pixels to"
            " 0 … 255 and convert them with .astype('uint8'). For one image, use image[None]."
        )
    return images


def image_size(metadata: Metadata) -> tuple[int, int]:
    """The rows and columns of the model's input images.

    Raises:
        ConfigError: the model has no signature `predict_images` with an input `images` of a fixed size.
    """
    signature = metadata.signatures.get("predict_images")
    if signature is None or "images" not in signature.inputs:
        raise ConfigError(
            f"Version {metadata.version} has no signature predict_images with an input images."
            f" It has these signatures: {', '.join(metadata.signatures)}."
        )
    shape = signature.inputs["images"].shape
    if shape is None or len(shape) != 3 or min(shape[1:]) < 1:
        raise ConfigError(
            f"The model's input images has the shape {shape}: no fixed size. Give the images as an array."
        )
    return shape[1], shape[2]


def random_images(count: int, size: tuple[int, int]) -> np.ndarray:
    """Random pixels, uint8 [count, rows, columns]. Every call gives the same pixels."""
    return np.random.default_rng(0).integers(0, 256, (count, *size), np.uint8)


def reading_of(description: Description) -> Reading:
    """How the model's pictures are read, as its training read them.

    Raises:
        ServerError: the description is not that of a model of images.
    """
    try:
        return Reading.described(description.inputs)
    except (KeyError, IndexError, AttributeError, ValueError) as error:
        raise ServerError(
            f"Version {description.version} does not say how its pictures are read ({error!r}): give them as an array."
        ) from None


def unknown_reading(metadata: Metadata) -> Reading:
    """The reading of a model without the signature `describe`, which only takes pictures of its own size."""
    return Reading(image_size(metadata), fit="")


def read_images(
    paths: str | Path | Sequence[str | Path], reading: Reading, fit: str | None = None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Reads picture files by the rule of `data.pictures`, which is that of the training.

    Args:
        paths: picture files in a format that Pillow reads.
        reading: the model's. Without a fit, as a model of another project has it, the size must be right.
        fit: another fit than the model's: "digit", "letterbox" or "stretch".

    Returns:
        uint8 [N, rows, columns], and a note for each file; "" if nothing is odd about it.

    Raises:
        ImageError: `paths` are not paths, or a file is not a picture, is damaged, or has a wrong size.
    """
    files = [paths] if isinstance(paths, (str, Path)) or not isinstance(paths, Iterable) else [*paths]
    if not all(isinstance(file, (str, Path)) for file in files):
        raise ImageError("Give the images as one uint8 array [N, rows, columns] or as paths of image files.")
    if fit not in (None, *FITS):
        raise ImageError(f"fit = {fit!r} is none of {', '.join(FITS)}.")
    reading = replace(reading, fit=fit or reading.fit)
    found = [read_image(Path(file), reading) for file in files]
    images = np.stack([pixels for pixels, _ in found]) if found else np.zeros((0, *reading.size), np.uint8)
    return images, tuple(note for _, note in found)


def read_image(
    file: Path | BinaryIO, reading: Reading, formats: tuple[str, ...] | None = None, limit: float = math.inf
) -> tuple[np.ndarray, str]:
    """Reads one picture file: uint8 [rows, columns] and a note. `data.pictures.load` has the arguments.

    Raises:
        ImageError: as `read_images`.
    """
    try:
        picture = load(file, formats=formats, limit=limit)
    except PictureError as error:
        raise ImageError(str(error)) from None
    if not reading.fit and picture.shape != reading.size:
        raise ImageError(
            f"{file} has {picture.shape[0]} × {picture.shape[1]} pixels, but the model needs {reading.size[0]} ×"
            f" {reading.size[1]}, and it does not say how pictures are read. Choose with --fit (in Python: fit=…), or"
            " give a picture of that size."
        )
    return read(picture, reading)
