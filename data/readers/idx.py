"""Reader of IDX files, MNIST's format: gzipped or not, under any name, of any number type."""

from __future__ import annotations

import filecmp
import math
from pathlib import Path

import numpy as np

from data.errors import DataError
from data.labels import plain
from data.pictures import grey
from data.readers.source import Ignored, Pixels, Source, numbered, paired, transposed, without_labels
from data.readers.stored import Stored, unpacked
from data.readers.tree import group_of, kind_of, read_text, role_of, split_of

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(root: Path, files: list[str], ignored: Ignored, scratch: Path, labelled: bool = True) -> Source:
    """Reads pairs of IDX files: images [N, rows, columns] and labels [N].

    Packed files are unpacked into the folder `scratch`. EMNIST's files, which are transposed and whose names say so,
    are turned, and get their names from a mapping beside them.

    Args:
        files: paths relative to `root`.
        labelled: whether the images need labels.

    Raises:
        DataError: a damaged file, several data sets, images without labels, another number of labels than of images.
    """
    images: dict[str, tuple[str, Stored]] = {}
    labels: dict[str, tuple[str, Stored]] = {}
    for file in _without_twins(files, ignored):
        array = _open(root / file, scratch)
        role, split = role_of(file), split_of(file) or "train"
        kind = images if array.ndim > 2 or (array.ndim == 2 and role == "images") else labels
        if role == ("labels" if kind is images else "images"):
            raise DataError(
                f"{root / file} holds {list(array.shape)} values, so no {role}: check that images and labels were not"
                " swapped, or fetch it again."
            )
        if split in kind and filecmp.cmp(root / file, root / kind[split][0], shallow=False):
            ignored.add("copies of files that are here", file)
            continue
        if split in kind:
            raise DataError(
                f"{root} holds two IDX files with the {'images' if kind is images else 'labels'} of one split,"
                f" {kind[split][0]} and {file}: name one pair's file, or move one away."
            )
        kind[split] = file, array
    parts = {}
    for split, (file, array) in images.items():
        if split not in labels and not labelled:
            part = without_labels(_pixels(root / file, array, split))
            parts[split] = transposed(part) if is_emnist(file) else part
            continue
        if split not in labels:
            hint = f", only {labels['train'][0]}" if "train" in labels and split != "train" else ""
            raise DataError(f"There is no file with the labels of {root / file}{hint}: put it beside the images.")
        name, stored = labels.pop(split)
        values = stored.whole()
        if values.ndim == 2 and "qmnist" in name:
            values = values[:, 0]
        images_of, labels_of = str(root / file), str(root / name)
        part = paired(_pixels(root / file, array, split), plain(values, labels_of), images_of, labels_of)
        parts[split] = transposed(part) if is_emnist(file) else part
    for split, (file, _) in labels.items():
        raise DataError(
            f"There is no file with the images of {root / file}, the labels of {split}: put it beside them."
        )
    emnist = any(is_emnist(file) for file, _ in images.values())
    found = ", ".join(file for file, _ in images.values())
    return Source(
        f"IDX files: {found}{'; turned upright, as EMNIST is transposed' if emnist else ''}",
        parts,
        emnist_names(root, next(iter(images.values()))[0]) if emnist else {},
        ignored,
    )


def companions(file: Path) -> list[str]:
    """The names of the IDX files beside `file` that belong to the same data set."""
    beside = sorted(entry.name for entry in file.parent.iterdir() if entry.is_file() and entry.stat().st_size)
    same = [name for name in beside if group_of(name) == group_of(file.name)]
    return [name for name in same if kind_of(file.parent / name) == "idx"]


def emnist_names(folder: Path, file: str) -> dict[int, str]:
    """The class names of the `…mapping.txt` of EMNIST's `file`: a label and the codes of its character in each line."""
    group = group_of(Path(file).name)
    found = [path for path in sorted((folder / file).parent.glob("*mapping.txt")) if group_of(path.name) in (group, "")]
    if not found:
        return {}
    lines = [line.split() for line in read_text(found[0]).splitlines() if line.strip()]
    if not all(len(line) >= 2 and all(word.isdecimal() for word in line) for line in lines):
        raise DataError(f"{found[0]} is no mapping of labels to characters: correct it, or move it away.")
    return {int(line[0]): chr(int(line[1])) for line in lines}


def is_emnist(file: str) -> bool:
    """Whether a file is named like EMNIST's, whose pictures have rows and columns exchanged."""
    return Path(file).name.lower().startswith("emnist")


def _without_twins(files: list[str], ignored: Ignored) -> list[str]:
    """Without files that are there both packed and unpacked."""
    stems = {file.lower() for file in files}
    kept = []
    for file in files:
        if file.lower().endswith(".gz") and file.lower()[:-3] in stems:
            ignored.add("copies of files that are here", file)
        else:
            kept.append(file)
    return kept


def _pixels(path: Path, array: Stored, split: str) -> Pixels:
    shape = array.shape[1:]
    if array.ndim == 2:
        side = math.isqrt(shape[0])
        shape = (side, side)
        if side * side != array.shape[1]:
            raise DataError(
                f"{path} holds rows of {array.shape[1]} pixels, which make no square: save it as [N, rows, columns]."
            )

    return Pixels(lambda index: grey(array[index].reshape(shape)), numbered(split), np.arange(len(array)))


def _open(path: Path, scratch: Path) -> Stored:
    plain_file = unpacked(path, scratch)
    with plain_file.open("rb") as file:
        header = file.read(4 + 4 * 4)
    length = plain_file.stat().st_size
    rank, kind = header[3] if len(header) > 3 else 0, header[2] if len(header) > 2 else 0
    if header[:2] != bytes(2) or kind not in _TYPES or rank not in range(1, 5):
        raise DataError(
            f"{path} is no IDX file, but a {kind_of(path)}: fetch it again, or name the folder of the IDX files."
        )
    start = 4 * (1 + rank)
    if length < start:
        raise DataError(f"{path} holds {length} bytes, but an IDX header of rank {rank} has {start}: fetch it again.")
    shape = tuple(int.from_bytes(header[at : at + 4], "big") for at in range(4, start, 4))
    dtype = np.dtype(_TYPES[kind])
    expected = start + dtype.itemsize * math.prod(shape)
    if length != expected:
        raise DataError(
            f"{path} holds {length} bytes, but its header announces {expected}:"
            " it was cut off or something was appended; fetch it again."
        )
    return Stored(plain_file, path, start, dtype, shape)
