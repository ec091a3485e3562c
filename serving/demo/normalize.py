"""Brings any picture to the convention of MNIST.

MNIST's digits are NIST's black and white scans, antialiased into a box of 20 × 20 pixels with their proportions. Their
centre of mass lies at row 14 and column 14 of 28 × 28 pixels, counted from 0, rounded to whole pixels. With this centre
a digit of MNIST comes out as it went in. (Y. LeCun, C. Cortes, C. Burges: The MNIST database of handwritten digits.)

A drawing or a photograph also needs a background level, a side of it where the ink is, and a limit below which a level
is grain.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from serving.client.images import read_grey
from serving.errors import ImageError

FIELD, BOX = 28, 20
FAINTEST = 32
"""A picture without a difference of so many levels, of 255, shows nothing."""
MAX_PIXELS = 2**24
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP")
_ENOUGH = 1024  # pixels of the longer side: more tell nothing about a box of 20 × 20


def decode(content: bytes) -> np.ndarray:
    """The picture of a file as grey levels, uint8 [height, width], by the rules of the client's `read_images`.

    No pixel is decoded before the header has told how many there are.

    Raises:
        ImageError: not a picture in one of `FORMATS`, more than `MAX_PIXELS` pixels, or damaged.
    """
    picture = read_grey(io.BytesIO(content), "The picture", FORMATS, MAX_PIXELS)
    picture.thumbnail((_ENOUGH, _ENOUGH), Image.Resampling.LANCZOS)
    return np.asarray(picture)


def normalize(grey: np.ndarray, size: tuple[int, int] = (FIELD, FIELD)) -> np.ndarray:
    """The picture as light ink on black, uint8 of `size`, scaled into 20/28 of it, its centre of mass in the middle.

    Args:
        grey: a picture, uint8 [height, width], dark on light or light on dark.
        size: the height and width that the model needs.

    Raises:
        ImageError: the picture shows no ink.
    """
    finished = grey.shape == size  # a picture of the model's own size keeps its levels
    ink = _ink(grey.astype(np.float32), finished)
    ink = ink[_extent(ink.max(axis=1)), _extent(ink.max(axis=0))]
    scaled = _scale(ink, [round(length * BOX / FIELD) for length in size])
    if not finished:
        scaled *= 255 / scaled.max()  # a thin pen is as strong as a thick one
    field = np.zeros(size, np.uint8)
    place = tuple(
        slice(start := _start(scaled.sum(axis=1 - axis), size[axis]), start + scaled.shape[axis]) for axis in (0, 1)
    )
    field[place] = np.rint(scaled)
    return field


def _ink(grey: np.ndarray, finished: bool) -> np.ndarray:
    """How far each pixel lies from the background, on the side where the ink is; 0 for the background and its grain."""
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    background = np.median(border)
    dark, light = background - grey.min(), grey.max() - background
    ink = np.maximum(background - grey if dark > light else grey - background, 0)
    grain = 8 * np.median(np.abs(border - background))
    if ink.max() < FAINTEST + grain:
        raise ImageError("The picture is blank: there is no ink on it. Draw a digit first.")
    if not finished:
        ink[ink < max(grain, ink.max() / 8)] = 0
    return ink


def _extent(used: np.ndarray) -> slice:
    """From the first to the last row or column with ink."""
    found = np.flatnonzero(used)
    return slice(found[0], found[-1] + 1)


def _scale(ink: np.ndarray, box: list[int]) -> np.ndarray:
    """The picture as large as it fits into the box, with its proportions, antialiased."""
    factor = min(box[0] / ink.shape[0], box[1] / ink.shape[1])
    height, width = (max(1, round(length * factor)) for length in ink.shape)
    scaled = Image.fromarray(ink).resize((width, height), Image.Resampling.LANCZOS)
    return np.clip(np.asarray(scaled), 0, ink.max())


def _start(mass: np.ndarray, length: int) -> int:
    """Where a picture begins whose centre of mass lies at the centre of `length` pixels; none of it is cut off."""
    centre = float(mass @ np.arange(len(mass)) / mass.sum())
    return min(max(0, round(length / 2 - centre)), length - len(mass))
