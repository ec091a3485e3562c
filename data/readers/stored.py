"""Images that stay in files: unpacked files, arrays in a file, and byte strings in a scratch file."""

from __future__ import annotations

import bz2
import gzip
import lzma
import math
import os
import shutil
import tempfile
import zlib
from array import array
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import DataError


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
        while 0 < len(content) < size and (
            more := os.pread(self._file.fileno(), size - len(content), start + len(content))
        ):
            content += more  # one call reads at most 2 GiB
        if len(content) != size:
            raise DataError(f"{self._name} became shorter while it was read: start again when it is complete.")
        return np.ndarray(shape, self.dtype, content)


def packing(start: bytes) -> Any:
    """The function that opens a file that starts like this: that of gzip, bzip2 or xz; None if it is not packed."""
    openers = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
    return next((opener for magic, opener in openers.items() if start.startswith(magic)), None)


def unpacked(path: Path, scratch: Path) -> Path:
    """The file itself, or a copy in the folder `scratch` without its compression by gzip, bzip2 or xz.

    Raises:
        DataError: the file cannot be read, or is damaged.
    """
    try:
        with path.open("rb") as file:
            opener = packing(file.read(6))
    except OSError as error:
        raise unreadable(path, error) from None
    if opener is None:
        return path
    copy = Path(tempfile.mkdtemp(dir=scratch)) / (path.stem if path.suffix in (".gz", ".bz2", ".xz") else path.name)
    try:
        with opener(path, "rb") as packed, copy.open("wb") as file:
            shutil.copyfileobj(packed, file)
    except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DataError(f"{path} is a damaged {opener.__module__.strip('_')} file ({error}): fetch it again.") from None
    return copy


def unreadable(path: Path, error: OSError) -> DataError:
    """The sentence for a file or folder that the system does not open."""
    if path.is_dir() and isinstance(error, IsADirectoryError):
        return DataError(f"{path} is a folder, but a file is needed: name the file, or move the folder away.")
    kind = "folder" if path.is_dir() else "file"
    return DataError(f"The {kind} {path} cannot be read ({error.strerror}): correct its rights, or fetch it again.")
