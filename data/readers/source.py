"""What every reader returns: a `Source` of pictures that are read one at a time, and what was left out of it."""

from __future__ import annotations

import gzip
import io
import math
import os
import shutil
import tempfile
import zlib
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
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
            yield self._head(int(index)) if self._head else (*self._read(int(index)).shape, True)

    @property
    def encoded(self) -> bool:
        """Whether these are picture files: of any size each, with a unit of levels that the file knows."""
        return self._head is not None


@dataclass(frozen=True)
class Images:
    """Pictures and what they show: `pixels` uint8 [N, rows, columns] or `Pixels`, and `labels` [N]."""

    pixels: np.ndarray | Pixels
    labels: np.ndarray

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


class Spool:
    """Byte strings in a nameless file of the folder `scratch`, which vanishes with the object."""

    def __init__(self, scratch: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=scratch)
        self._ends = array("q", [0])

    def add(self, content: bytes) -> None:
        self._file.write(content)
        self._ends.append(self._ends[-1] + len(content))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> bytes:
        self._file.flush()
        start, end = self._ends[index : index + 2]
        return os.pread(self._file.fileno(), end - start, start)


class Stored:
    """An array in a file, row after row. Each item is read when it is asked for.

    Args:
        path: the file, not packed; messages call it `name`.
        start: the byte at which the elements begin.

    Raises:
        DataError: when an item is read: the file has become shorter.
    """

    def __init__(self, path: Path, name: object, start: int, dtype: np.dtype, shape: tuple[int, ...]) -> None:
        self._file, self._name, self._start = path.open("rb"), name, start
        self.dtype, self.shape, self.ndim = dtype, shape, len(shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> np.ndarray:
        return self._read(index, self.shape[1:])

    def whole(self) -> np.ndarray:
        return self._read(0, self.shape)

    def _read(self, index: int, shape: tuple[int, ...]) -> np.ndarray:
        size = self.dtype.itemsize * math.prod(shape)
        start = self._start + index * size
        content = os.pread(self._file.fileno(), size, start)
        while 0 < len(content) < size and (more := os.pread(self._file.fileno(), size - len(content), start + len(content))):
            content += more  # one call reads at most 2 GiB
        if len(content) != size:
            raise DataError(f"{self._name} became shorter while it was read: start again when it is complete.")
        return np.ndarray(shape, self.dtype, content)


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
    flipped = Pixels(lambda index: pixels._read(index).T, pixels._name, pixels._order, pixels._head)
    return Images(flipped, images.labels)


def paired(pixels: Pixels, labels: np.ndarray, pixels_from: str, labels_from: str) -> Images:
    """Raises a DataError unless there are as many labels as pictures."""
    if len(pixels) != len(labels):
        raise DataError(
            f"{pixels_from} holds {len(pixels)} images, but {labels_from} holds {len(labels)} labels:"
            " the two must come from the same set."
        )
    return Images(pixels, labels)


def unpacked(path: Path, scratch: Path) -> Path:
    """The file itself, or a copy in the folder `scratch` without its compression by gzip, bzip2 or xz.

    Raises:
        DataError: the file cannot be read, or is damaged.
    """
    import bz2
    import lzma

    try:
        with path.open("rb") as file:
            start = file.read(6)
        openers = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
        opener = next((opener for magic, opener in openers.items() if start.startswith(magic)), None)
        if opener is None:
            return path
        folder = Path(tempfile.mkdtemp(dir=scratch))
        copy = folder / (path.stem if path.suffix in (".gz", ".bz2", ".xz") else path.name)
        with opener(path, "rb") as packed, copy.open("wb") as file:
            shutil.copyfileobj(packed, file)
        return copy
    except FileNotFoundError:
        raise DataError(f"There is no file {path}: name one that is there.") from None
    except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"{path} is a damaged {_packing(start)} file ({error}): fetch it again.") from None
    except OSError as error:
        if error.errno is None:  # bzip2's own
            raise DataError(f"{path} is a damaged {_packing(start)} file ({error}): fetch it again.") from None
        raise


def _packing(start: bytes) -> str:
    return {0x1F: "gzip", 0x42: "bzip2", 0xFD: "xz"}[start[0]]


def unreadable(path: Path, error: OSError) -> DataError:
    """The sentence for a file or folder that the system does not open."""
    if path.is_dir() and isinstance(error, IsADirectoryError):
        return DataError(f"{path} is a folder, but a file is needed: name the file, or move the folder away.")
    kind = "folder" if path.is_dir() else "file"
    return DataError(f"The {kind} {path} cannot be read ({error.strerror}): correct its rights, or fetch it again.")
