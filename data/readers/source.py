"""What every reader returns: a `Source` of pictures that are read one at a time, and what was left out of it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data.errors import DataError
from data.pictures import load

WORDS = {"train": "training example", "eval": "eval example", "test": "test example"}


class Pixels:
    """Pictures, each of which is read when the iteration comes to it: grey levels, float32 [height, width].

    A slice or an array of numbers gives `Pixels` of fewer pictures or in another order, and reads none.

    Args:
        read: reads picture `index`. It may raise a DataError.
        name: what messages call picture `index`.
        order: int64 [N], the indices of the pictures.
        head: the height and width of picture `index`, and whether its levels have a unit of their own. Pictures
            without `head` have one size, and levels in the unit of the data set.
    """

    def __init__(
        self,
        read: Callable[[int], np.ndarray],
        name: Callable[[int], str],
        order: np.ndarray,
        head: Callable[[int], tuple[int, int, bool]] | None = None,
    ) -> None:
        self._read, self._name, self._order, self._head = read, name, order, head

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, indices: slice | np.ndarray) -> Pixels:
        return Pixels(self._read, self._name, self._order[indices], self._head)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self._read(int(index)) for index in self._order)

    def name(self, position: int) -> str:
        return self._name(int(self._order[position]))

    def heads(self) -> Iterator[tuple[int, int, bool]]:
        """Height, width and "raw" of each picture: a raw one has levels of no fixed unit. Decodes no picture file."""
        for index in self._order:
            if self._head:
                yield self._head(int(index))
            else:
                height, width = self._read(int(index)).shape
                yield height, width, True

    def turned(self) -> Pixels:
        """The pictures with rows and columns exchanged."""
        read, head = self._read, self._head

        def turned_head(index: int) -> tuple[int, int, bool]:
            assert head is not None
            height, width, raw = head(index)
            return width, height, raw

        return Pixels(lambda index: read(index).T, self._name, self._order, turned_head if head else None)

    @property
    def encoded(self) -> bool:
        """Whether these are picture files: of any size each, with a unit of levels that the file knows."""
        return self._head is not None


@dataclass(frozen=True)
class Images:
    """Pictures and what they show: `pixels` uint8 [N, rows, columns] or `Pixels`, and `labels` [N].

    Where no labels are needed, an unknown one is -1 or "". `ids` are the pictures' own names; None is their numbers.
    """

    pixels: np.ndarray | Pixels
    labels: np.ndarray
    ids: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray | slice) -> Images:
        return Images(self.pixels[indices], self.labels[indices])


class Ignored:
    """What was left out: how often for each reason, and the first name."""

    def __init__(self) -> None:
        self.reasons: dict[str, tuple[int, str]] = {}

    def add(self, reason: str, name: object, count: int = 1) -> None:
        before, first = self.reasons.get(reason, (0, str(name)))
        self.reasons[reason] = before + count, first


@dataclass
class Source:
    """A data set as its files have it.

    Attributes:
        kind: what the files were taken for, in words.
        parts: the pictures of "train" and, where the files set them apart, of "eval" and "test". Labels are whole
            numbers or text.
        names: what labels that are numbers are called, if the files say so.
    """

    kind: str
    parts: dict[str, Images]
    names: Mapping[int, str] = field(default_factory=dict)
    ignored: Ignored = field(default_factory=Ignored)


def numbered(split: str) -> Callable[[int], str]:
    """The names of pictures that have a number only, such as "training example 17"."""
    return lambda index: f"{WORDS.get(split, 'example')} {index}"


def encoded(open_: Callable[[int], Path | bytes], name: Callable[[int], str], count: int) -> Pixels:
    """`Pixels` of `count` picture files, each of which `open_` gives as a path or as its content."""

    def file(index: int) -> Path | io.BytesIO:
        content = open_(index)
        return io.BytesIO(content) if isinstance(content, bytes) else content

    def read(index: int) -> np.ndarray:
        return load(file(index), name(index))

    def head(index: int) -> tuple[int, int, bool]:
        from PIL import Image

        try:
            with Image.open(file(index)) as image:
                turned = image.getexif().get(0x0112, 1) >= 5
                size = (image.width, image.height) if turned else (image.height, image.width)
                return *size, image.mode in ("I", "F")
        except Exception:  # a damaged file, which `read` names, or a format that only `load` knows
            height, width = read(index).shape
            return height, width, False

    return Pixels(read, name, np.arange(count), head)


def transposed(images: Images) -> Images:
    """The pictures with rows and columns exchanged."""
    pixels = images.pixels
    assert isinstance(pixels, Pixels)
    return Images(pixels.turned(), images.labels, images.ids)


def without_labels(pixels: Pixels) -> Images:
    """Pictures whose labels are not known."""
    return Images(pixels, np.full(len(pixels), -1))


def paired(pixels: Pixels, labels: np.ndarray, pixels_from: str, labels_from: str) -> Images:
    """Raises a DataError unless there are as many labels as pictures."""
    if len(pixels) != len(labels):
        raise DataError(
            f"{pixels_from} holds {len(pixels)} images, but {labels_from} holds {len(labels)} labels:"
            " the two must come from the same set."
        )
    return Images(pixels, labels)
