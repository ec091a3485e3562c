"""The arrays in .npz, .npy, .mat and HDF5 files, with their names; those of NumPy stay in files."""

from __future__ import annotations

import math
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import DataError, storage_problem
from data.readers.stored import Stored, unpacked
from data.readers.tree import kind_of


def open_arrays(path: Path, scratch: Path) -> Iterator[tuple[str, Any]]:
    """The arrays of one file, and their names; an .npy file's has the name of the file."""
    file = unpacked(path, scratch)
    kind = kind_of(file)
    try:
        if kind == "npz":
            yield from _open_npz(file, path, scratch)
        elif kind == "npy":
            yield path.stem.removesuffix(".npy"), _stored(file, path)
        elif kind == "mat":
            from scipy.io import loadmat  # type: ignore[import-untyped]

            content = loadmat(file, struct_as_record=False, squeeze_me=False)
            yield from _flat({key: value for key, value in content.items() if not key.startswith("__")})
        elif kind == "hdf5":
            yield from _open_hdf5(file)
        else:
            raise DataError(
                f"{path} is no file of arrays, but a {kind}: name an .npz, .npy or .mat file, or fetch it again."
            )
    except DataError:
        raise
    except Exception as error:  # each format has errors of its own
        if storage_problem(error):
            raise
        reason = " ".join(str(error).split())
        if "Object arrays" in reason or "pickled" in reason.lower():
            raise DataError(
                f"{path} holds Python objects, which could run any program: save them as numbers or text, for example"
                " labels.astype(str)."
            ) from None
        raise DataError(f"{path} cannot be read as an {path.suffix or kind} file ({reason}): save it again.") from None


def _open_npz(file: Path, path: Path, scratch: Path) -> Iterator[tuple[str, Any]]:
    folder = Path(tempfile.mkdtemp(dir=scratch))
    with zipfile.ZipFile(file) as archive:
        for number, member in enumerate(archive.namelist()):
            copy = folder / f"{number}.npy"
            with archive.open(member) as packed, copy.open("wb") as target:
                shutil.copyfileobj(packed, target)
            key = member.removesuffix(".npy")
            try:
                yield key, _stored(copy, f"{key} of {path}")
            except ValueError as error:
                raise ValueError(f"{key}: {error}") from None


def _open_hdf5(file: Path) -> list[tuple[str, np.ndarray]]:
    """All arrays of a file, in memory, with their paths. MATLAB's have their axes in the opposite order."""
    import h5py  # type: ignore[import-untyped]

    with file.open("rb") as opened:
        matlab = opened.read(6) == b"MATLAB"
    found: list[tuple[str, np.ndarray]] = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.shape and not name.startswith("#"):
            found.append((name, item[()].T if matlab else item[()]))

    with h5py.File(file, "r") as content:
        content.visititems(visit)
    return found


def _stored(file: Path, name: object) -> Any:
    """The array of an .npy file, in the file if its order allows it."""
    with file.open("rb") as opened:
        version = np.lib.format.read_magic(opened)
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = reader(opened)
        start = opened.tell()
    if fortran or dtype.hasobject or not shape:
        return np.load(file, allow_pickle=False)
    if file.stat().st_size < start + dtype.itemsize * math.prod(shape):
        raise ValueError("it was cut off")
    return Stored(file, name, start, dtype, shape)


def _flat(tree: Any, path: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """The arrays in MATLAB's nested structures, with their paths, such as dataset/train/images."""
    if isinstance(tree, np.ndarray) and tree.dtype == object and tree.size == 1:
        tree = tree.flat[0]
    if hasattr(tree, "_fieldnames"):
        tree = {name: getattr(tree, name) for name in tree._fieldnames}
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield from _flat(value, f"{path}/{name}".lstrip("/"))
    elif isinstance(tree, np.ndarray):
        if tree.dtype == object and all(isinstance(cell, np.ndarray) and cell.size == 1 for cell in tree.flat):
            tree = np.asarray([str(cell.flat[0]) for cell in tree.flat])
        yield path, tree
