"""Looks at all pictures of a data set once, and chooses how they are read: size, fit, levels and background."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from data.errors import DataError
from data.pictures import Reading, border_of, read
from data.readers.source import Images, Pixels

SAMPLE = 500
_UNCHANGED, _AGREED = 0.99, 0.95
_ALIKE = 0.4  # of the range of levels: so much of it a split may leave unused at an end
_SMALL = 64  # pixels of a side: larger pictures are never in MNIST's convention


@dataclass
class Survey:
    """Sizes (rows, columns) with their counts; the levels of pictures without a fixed unit, if there are such."""

    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    firsts: dict[tuple[int, int], str] = field(default_factory=dict)  # the first picture of each size
    spans: dict[str, tuple[float, float]] = field(default_factory=dict)  # the lowest and the highest, by split
    whole: bool = True
    raw: str = ""  # the first picture with levels of no fixed unit
    fixed: str = ""  # the first picture whose levels are 0 to 255


Track = Callable[[Iterable[Any], int, str], Iterable[Any]]


def survey(parts: Mapping[str, Images], track: Track = lambda items, *_: items) -> Survey:
    """Goes through all pictures; decodes a picture file only if its levels have no fixed unit.

    Args:
        track: passes on the items of an iterable, of whose length and name it is told.

    Raises:
        DataError: a pixel that is not a number, with the name of its picture.
    """
    found = Survey()
    for split, part in parts.items():
        pixels = part.pixels
        assert isinstance(pixels, Pixels)
        if not pixels.encoded:
            for position, picture in enumerate(track(pixels, len(pixels), "looking")):
                _measure(found, split, picture, pixels, position)
            continue
        for position, (height, width, raw) in enumerate(track(pixels.heads(), len(pixels), "looking")):
            if raw:
                _measure(found, split, next(iter(pixels[position : position + 1])), pixels, position)
            else:
                _count(found, (height, width), pixels, position)
                found.fixed = found.fixed or pixels.name(position)
    return found


def _measure(found: Survey, split: str, picture: np.ndarray, pixels: Pixels, position: int) -> None:
    if not np.isfinite(picture).all():
        odd = picture[~np.isfinite(picture)][0]
        raise DataError(
            f"A pixel of {pixels.name(position)} is {odd}, which is no level: correct it, or leave the image out."
        )
    _count(found, picture.shape, pixels, position)
    found.raw = found.raw or pixels.name(position)
    if picture.size:
        low, high = found.spans.get(split, (math.inf, -math.inf))
        found.spans[split] = min(low, float(picture.min())), max(high, float(picture.max()))
        found.whole = found.whole and bool((picture == np.rint(picture)).all())


def _count(found: Survey, size: tuple[int, ...], pixels: Pixels, position: int) -> None:
    height, width = size
    found.sizes[height, width] += 1
    if len(found.firsts) < len(found.sizes):
        found.firsts[height, width] = pixels.name(position)


def levels_of(found: Survey) -> tuple[float, float]:
    """The levels that become 0 and 255, from those of the data set as a whole.

    Raises:
        DataError: some files have levels of a fixed unit and others of none, or a split has levels of its own.
    """
    if not found.raw:
        return 0.0, 255.0
    if found.fixed:
        raise DataError(
            f"{found.raw} has levels of 32 bits, but {found.fixed} has levels 0 to 255: save all in one form, or say"
            " what becomes 0 and 255 with --levels LOW,HIGH."
        )
    low, high = min(low for low, _ in found.spans.values()), max(high for _, high in found.spans.values())
    for split, (least, most) in found.spans.items():
        if least < most and max(least - low, high - most) > _ALIKE * (high - low):
            raise DataError(
                f"The images of the {split} split have levels {least:g} to {most:g}, but all have {low:g} to {high:g}:"
                " save them in one unit, or say what becomes 0 and 255 with --levels LOW,HIGH."
            )
    if low < 0:
        return (-1.0, 1.0) if not found.whole and low >= -1 and high <= 1 else (low, high)
    if high <= 1:
        return 0.0, 1.0
    if found.whole and high <= 127:
        return 0.0, high
    for most, full in ((255, 127), (65535, 32767)):
        if full < high <= most:
            return 0.0, float(most)
    return (0.0, high) if found.whole else (low, high)


def sample_of(images: Images) -> Pixels:
    """Some pictures from everywhere in the training images."""
    pixels = images.pixels
    assert isinstance(pixels, Pixels)
    return pixels[np.sort(np.random.default_rng(0).permutation(len(images))[:SAMPLE])]


@dataclass(frozen=True)
class Wish:
    """What the command line says about the reading; None is what it leaves open."""

    size: tuple[int, int] | None = None
    fit: str | None = None
    levels: tuple[float, float] | None = None


def choose(found: Survey, train: Images, names: Iterable[str], wish: Wish, source: object) -> tuple[Reading, str]:
    """How the pictures are read, and why in one sentence.

    Raises:
        DataError: no size can be chosen, images without pixels, or levels that differ in kind.
    """
    for size in found.sizes:
        if 0 in size:
            raise DataError(
                f"{source} holds images of {size[0]} × {size[1]} pixels, which show nothing: save them again."
            )
    levels = wish.levels or levels_of(found)
    if levels[0] == levels[1]:
        levels = levels[0], levels[0] + 1  # all blank, which is said for each
    one = next(iter(found.sizes)) if len(found.sizes) == 1 else None
    sample = _Sample(
        _limited(sample_of(train), found), one, levels, wish.fit is None and all(len(name) == 1 for name in names)
    )
    fit, reason = (wish.fit, "as told") if wish.fit else sample.fit()
    chosen = wish.size or one
    if fit == "digit" and not wish.size and (one is None or not sample.kept):
        chosen = (28, 28)
    if chosen is None:
        raise DataError(_sizes(found, source))
    return Reading(chosen, fit, levels, sample.background()), f"{fit}, {reason}"


def _limited(sample: Pixels, found: Survey) -> Pixels:
    largest = max((rows * columns for rows, columns in found.sizes), default=0)
    return sample if largest <= 256 * 256 else sample[: SAMPLE // 10]


@dataclass
class _Misses:
    """How many of `total` are not as they should be, and whether the share of the others still reaches `share`."""

    total: int
    share: float
    count: int = 0

    @property
    def few(self) -> bool:
        return self.count <= (1 - self.share) * self.total


class _Sample:
    """What a sample of the pictures shows: whether `digit` keeps them or finds ink, and the level of their borders.

    Args:
        one: the size of all pictures, or None.
        characters: whether each class is called like a character.
    """

    def __init__(
        self, pixels: Pixels, one: tuple[int, int] | None, levels: tuple[float, float], characters: bool
    ) -> None:
        self._encoded, self._characters = pixels.encoded, characters
        low, high = levels
        small = one is not None and min(one) >= 8 and max(one) <= _SMALL
        changed, lost, borders = _Misses(len(pixels), _UNCHANGED), _Misses(len(pixels), _AGREED), []
        for raw in pixels:
            picture = np.clip(raw, low, high)
            borders.append((np.median(border_of(picture)) - low) / (high - low))
            if small and changed.few:
                changed.count += not _kept(picture, levels)
            if characters and pixels.encoded and lost.few:
                lost.count += bool(read(picture, Reading((28, 28), "digit", levels))[1])
        self.kept, self._inked, self._borders = small and changed.few, lost.few, np.asarray(borders)

    def fit(self) -> tuple[str, str]:
        """The fit, and why."""
        if self.kept:
            return "digit", "they lie as MNIST's digits do"
        if self._encoded and self._characters:
            if self._inked:
                return "digit", "each class is a character, whose ink is found"
            return "letterbox", "many pictures show more than one character, or no ink"
        return "letterbox", "they are no digits as MNIST has them"

    def background(self) -> str:
        if np.mean(self._borders < 0.25) >= _AGREED:
            return "dark"
        return "light" if np.mean(self._borders > 0.75) >= _AGREED else "any"


def _kept(picture: np.ndarray, levels: tuple[float, float]) -> bool:
    """Whether `digit` leaves the picture as it is, perhaps inverted."""
    height, width = picture.shape
    digit, note = read(picture, Reading((height, width), "digit", levels))
    same, _ = read(picture, Reading((height, width), "letterbox", levels))
    return not note and (np.array_equal(digit, same) or np.array_equal(digit, 255 - same))


def _sizes(found: Survey, source: object) -> str:
    """The sentence that asks for a size."""
    (first, _), (second, _), *more = found.sizes.most_common()
    examples = (f"{size[0]} × {size[1]} ({found.firsts[size]})" for size in (first, second))
    sides = np.asarray(list(found.sizes.elements()))
    rows, columns = np.median(sides, axis=0)
    scale = min(1.0, _SMALL / max(rows, columns))
    proposal = f"{max(1, round(rows * scale))}x{max(1, round(columns * scale))}"
    return (
        f"{source} holds images of {len(more) + 2} sizes, such as {' and '.join(examples)}"
        f" pixels: choose one size for all, for example with --size {proposal}."
    )
