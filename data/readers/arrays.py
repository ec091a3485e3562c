"""Reader of NumPy's .npz and .npy files, MATLAB's .mat, and HDF5: arrays with nearly any names and layouts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import DataError
from data.labels import plain
from data.pictures import grey
from data.readers.array_files import open_arrays
from data.readers.idx import is_emnist
from data.readers.source import Ignored, Images, Pixels, Source, numbered, paired, transposed, without_labels
from data.readers.stored import Stored
from data.readers.tree import role_of, split_of

_REMEDY = "save it with np.savez(path, x_train=…, y_train=…, x_test=…, y_test=…)"


@dataclass(frozen=True)
class Found:
    """An array of a file: `path` is the file's, with the array's name as its last part."""

    path: str
    array: Any  # np.ndarray or Stored

    @property
    def name(self) -> str:
        file, _, key = self.path.rpartition("//")
        return f"{key} of {file}" if file else key


def read_arrays(
    root: Path,
    files: list[str],
    ignored: Ignored,
    scratch: Path,
    size: tuple[int, int] | None,
    labelled: bool = True,
) -> Source:
    """Pairs the arrays of images with those of labels, for each split that their names or their files' names speak of.

    Arrays of .npy and .npz files stay in files: those of an .npz are unpacked into the folder `scratch`.

    Args:
        files: paths relative to `root`.
        size: rows and columns of images that are rows of pixels; None is a square.
        labelled: whether the training images need labels.

    Raises:
        DataError: no images, no labels for the training images, shapes that are no images, a damaged file.
    """
    found = [
        Found(f"{root / file}//{key}", array) for file in files for key, array in open_arrays(root / file, scratch)
    ]
    images, labels, names = _roles(root, found, ignored)
    parts: dict[str, Images] = {}
    emnist = all(map(is_emnist, files)) or _is_emnist(found)
    for split, pixels in images.items():
        values = labels.pop(split, None)
        if values is None and not labelled:
            parts[split] = without_labels(_pixels(pixels, len(pixels.array), split, size))
            continue
        if values is None:
            if split == "train" or len(images) == 1:
                raise DataError(
                    f"{pixels.name} has images, but no array holds their labels; {_said(found)}: {_REMEDY}."
                )
            ignored.add("images without labels", pixels.name, len(pixels.array))
            continue
        array = values.array.whole() if isinstance(values.array, Stored) else values.array
        targets = plain(array, values.name)
        part = paired(_pixels(pixels, len(targets), split, size), targets, pixels.name, values.name)
        parts[split] = transposed(part) if emnist else part
    for split, left in labels.items():
        raise DataError(f"{left.name} has labels, but no array holds the images of {split}; {_said(found)}: {_REMEDY}.")
    used = ", ".join(found.path.rpartition("//")[2] for found in images.values())
    kind = {".npz": "an .npz archive", ".npy": "NumPy arrays", ".mat": "a MATLAB file", ".h5": "an HDF5 file"}.get(
        Path(files[0]).suffix, "arrays"
    )
    rows = Path(files[0]).suffix == ".mat" and any(found.array.ndim == 2 for found in images.values())
    order = "; each is read row by row, column by column with --transpose" if rows and not emnist else ""
    turned = "; turned upright, as EMNIST is transposed" if emnist else ""
    return Source(f"{kind} with the images {used}{turned}{order}", parts, names, ignored)


def read_class_arrays(
    root: Path, files: list[str], ignored: Ignored, scratch: Path, size: tuple[int, int] | None
) -> Source:
    """Reads .npy files that hold the images of one class each, which is called like the file.

    Args:
        files: paths relative to `root`.
        size: rows and columns of images that are rows of pixels; None is a square.

    Raises:
        DataError: shapes that are no images, a damaged file.
    """
    found = [Found(str(root / file), next(open_arrays(root / file, scratch))[1]) for file in files]
    pixels = [_pixels(item, len(item.array), "train", size) for item in found]
    starts = np.cumsum([0, *map(len, pixels)])

    def at(index: int) -> tuple[int, int]:
        file = int(np.searchsorted(starts, index, "right")) - 1
        return file, index - int(starts[file])

    def read(index: int) -> np.ndarray:
        file, position = at(index)
        return next(iter(pixels[file][position : position + 1]))

    def name(index: int) -> str:
        file, position = at(index)
        return f"image {position} of {found[file].path}"

    labels = np.repeat(np.arange(len(files)), np.diff(starts))
    images = Images(Pixels(read, name, np.arange(len(labels))), labels)
    names = {label: Path(file).stem for label, file in enumerate(files)}
    return Source(f"NumPy arrays, one for each of {len(files)} classes", {"train": images}, names, ignored)


def _roles(
    root: Path, found: list[Found], ignored: Ignored
) -> tuple[dict[str, Found], dict[str, Found], dict[int, str]]:
    """The images and labels of each split, and the names of the classes."""
    candidates: dict[str, dict[str, list[Found]]] = {"images": {}, "labels": {}}
    names: dict[int, str] = {}
    single = len({item.path.rpartition("//")[0] for item in found}) == 1
    for item in found:
        path = item.path.rpartition("//")[2] if single else _relative(item.path, root)
        role, split = role_of(path), split_of(path) or split_of(_relative(item.path, root)) or "train"
        fits = _fits(item.array)
        if role == "names":
            names = _names(item.array) or names
        elif role in fits or (role is None and fits and len(found) <= 4):
            candidates[role if role in fits else fits[0]].setdefault(split, []).append(item)
        else:
            ignored.add("arrays that are neither images nor labels", item.name)
    chosen: dict[str, dict[str, Found]] = {"images": {}, "labels": {}}
    for role, splits in candidates.items():
        for split, items in splits.items():
            best = max(items, key=lambda item: item.array.ndim)  # pictures before rows of the same pixels
            equals = [item for item in items if item.array.ndim == best.array.ndim]
            if len(equals) > 1:
                raise DataError(
                    f"{root} has several arrays of {role} that no name gives to a split:"
                    f" {', '.join(item.name for item in equals)}. Name them: {_REMEDY}."
                )
            chosen[role][split] = best
            for item in items:
                if item is not best:
                    ignored.add("arrays that are neither images nor labels", item.name)
    if not chosen["images"]:
        raise DataError(f"{root} has no array of images; {_said(found)}: {_REMEDY}.")
    return chosen["images"], chosen["labels"], names


def _relative(path: str, root: Path) -> str:
    return path.removeprefix(str(root)).lstrip("/").replace("//", "/")


def _fits(array: Any) -> list[str]:
    """What an array can be by its shape and type, the likeliest first."""
    if array.ndim == 1 or (array.ndim == 2 and (1 in array.shape or array.dtype.kind in "OSU")):
        return ["labels"]
    if array.dtype.kind not in "biuf" or array.ndim < 2:
        return []
    if array.ndim == 2:
        return ["images", "labels"] if array.shape[1] > 62 else ["labels", "images"]
    return ["images"]


def _names(array: Any) -> dict[int, str]:
    values = array.whole() if isinstance(array, Stored) else np.asarray(array)
    if values.ndim == 2 and values.dtype.kind in "iuf" and values.shape[1] > 1:  # EMNIST's mapping
        return {int(row[0]): chr(int(row[1])) for row in values}
    if values.ndim == 1 and values.dtype.kind in "OSU":
        return dict(enumerate(plain(values.astype(str) if values.dtype.kind == "U" else values, "names").astype(str)))
    return {}


def _is_emnist(found: list[Found]) -> bool:
    keys = {item.path.rpartition("//")[2] for item in found}
    return {"dataset/train/images", "dataset/mapping"} <= keys


def _said(found: list[Found]) -> str:
    shown = [f"{item.name} {item.array.dtype} {list(item.array.shape)}" for item in found[:8]]
    return f"there are {', '.join(shown)}" if shown else "there is no array"


def _pixels(found: Found, count: int, split: str, size: tuple[int, int] | None) -> Pixels:
    array = found.array
    if isinstance(array, np.ndarray) and array.shape[0] != count == array.shape[-1]:
        array = np.moveaxis(array, -1, 0)  # MATLAB's [rows, columns, N] and [pixels, N]
    shape = tuple(length for length in array.shape[1:])
    if array.ndim > 2 and math.prod(shape) == max(shape):  # [N, 784, 1]
        shape = (math.prod(shape),)
    channels_first = len(shape) == 3 and shape[0] in (1, 3, 4) and shape[2] not in (1, 3, 4)
    if len(shape) == 1:
        shape = as_picture(shape[0], size, found.name)
    if len(shape) not in (2, 3) or (len(shape) == 3 and not channels_first and shape[2] not in (1, 3, 4)):
        raise DataError(
            f"{found.name} is {array.dtype} {list(array.shape)}, but images are [N, rows, columns], with 1, 3 or 4"
            " colours or without: convert it first."
        )

    def read(index: int) -> np.ndarray:
        item = np.asarray(array[index]).reshape(shape)
        return grey(np.moveaxis(item, 0, -1) if channels_first else item)

    return Pixels(read, numbered(split), np.arange(len(array)))


def as_picture(pixels: int, size: tuple[int, int] | None, name: str) -> tuple[int, int]:
    """Rows and columns of a row of pixels: a square, or `size` if it has so many.

    Raises:
        DataError: neither.
    """
    side = math.isqrt(pixels)
    if size is not None and math.prod(size) == pixels:
        return size
    if side * side != pixels:
        raise DataError(
            f"{name} has rows of {pixels} pixels, which make no square: say what they are with --size ROWSxCOLUMNS."
        )
    return side, side
