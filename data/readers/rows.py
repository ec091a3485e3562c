"""Examples that come one after the other, as in tables and records: the images go into a scratch file."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import DataError
from data.labels import plain, with_unknown
from data.pictures import grey, load
from data.readers.source import Ignored, Images, Pixels, Source, encoded, numbered, transposed
from data.readers.stored import Spool


class _Part:
    """One split while it is read. Pixels take 4 bytes each unless all fit into one."""

    def __init__(self, scratch: Path) -> None:
        self.spool = Spool(scratch)
        self.labels: list[Any] = []
        self.ids: list[str] = []
        self.shapes: list[tuple[tuple[int, ...], str]] = []  # a run of equal ones is one entry
        self.starts: list[int] = []


class Rows:
    """Collects examples, and makes a `Source` of them. The images are in files in the folder `scratch`.

    Args:
        labelled: whether each example needs a label. If not, a label may be None, the examples have ids, and the
            picture of one that cannot be read raises its error.
    """

    def __init__(self, scratch: Path, labelled: bool = True) -> None:
        self._scratch, self.labelled = scratch, labelled
        self._parts: dict[str, _Part] = {}

    def add_file(self, split: str | None, content: bytes, label: Any, id_: str) -> None:
        """Adds a picture file."""
        self._add(split, content, label, id_, ((), "file"))

    def add(self, split: str | None, array: np.ndarray, label: Any, id_: str) -> None:
        """Adds pixels [rows, columns] or [rows, columns, colours]."""
        if array.dtype.kind == "O":
            array = array.astype(np.float64)
        dtype = array.dtype if array.dtype.itemsize <= 4 else np.dtype(np.float32)
        self._add(split, array.astype(dtype).tobytes(), label, id_, (array.shape, dtype.str))

    def add_error(self, split: str | None, error: DataError, label: Any, id_: str) -> None:
        """Adds an example whose picture cannot be read. If labels are needed, none may be left out: it is raised."""
        if self.labelled:
            raise error
        self._add(split, str(error).encode(), label, id_, ((), "error"))

    def _add(self, split: str | None, content: bytes, label: Any, id_: str, shape: tuple[tuple[int, ...], str]) -> None:
        part = self._parts.setdefault(split or "train", _Part(self._scratch))
        if not part.shapes or part.shapes[-1] != shape:
            part.shapes.append(shape)
            part.starts.append(len(part.spool))
        part.spool.add(content)
        part.labels.append(sys.intern(label) if isinstance(label, str) else label)
        if not self.labelled:
            part.ids.append(id_)

    def source(self, kind: str, names: Mapping[int, str], ignored: Ignored, name: str, turned: bool = False) -> Source:
        """The source. With `turned`, rows and columns are exchanged.

        Raises:
            DataError: no examples, no training examples, or labels that are none.
        """
        parts: dict[str, Images] = {}
        for split, part in self._parts.items():
            values = part.labels if self.labelled else with_unknown(part.labels)
            labels = plain(_array(values), f"the labels of {split} in {name}")
            images = Images(_pixels(part, split), labels, None if self.labelled else part.ids)
            parts[split] = transposed(images) if turned else images
        if not parts:
            raise DataError(f"{name} holds no examples{' with labels' if self.labelled else ''}: fetch it again.")
        return Source(kind + ("; turned upright, as EMNIST is transposed" if turned else ""), parts, names, ignored)


def _array(labels: list[Any]) -> np.ndarray:
    try:
        return np.asarray(labels)
    except ValueError:  # lists of different lengths
        raise DataError("Some labels are single values and some are lists: give each image one label.") from None


def _pixels(part: _Part, split: str) -> Pixels:
    kinds = {kind for _, kind in part.shapes}
    if kinds == {"file"}:
        return encoded(part.spool.__getitem__, numbered(split), len(part.spool))
    if "file" in kinds and kinds != {"file", "error"}:
        raise DataError(f"Some images of {split} are picture files and some are raw pixels: make them all of one kind.")
    starts, name = np.asarray(part.starts), numbered(split)

    def read(index: int) -> np.ndarray:
        shape, dtype = part.shapes[int(np.searchsorted(starts, index, "right")) - 1]
        content = part.spool[index]
        if dtype == "error":
            raise DataError(content.decode())
        if dtype == "file":
            return load(io.BytesIO(content), name(index))
        return grey(np.frombuffer(content, dtype).reshape(shape))

    def head(index: int) -> tuple[int, int, bool]:
        height, width = read(index).shape
        return height, width, False

    return Pixels(read, name, np.arange(len(part.spool)), head if "file" in kinds else None)
