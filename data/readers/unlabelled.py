"""Readers of picture files of which no labels are needed: whatever lies in a folder, or what a list names."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np

from data.labels import plain
from data.readers.folders import class_folders
from data.readers.listed import read_listed, rows_of
from data.readers.source import Ignored, Images, Pixels, Source, encoded
from data.readers.text_tables import LABELS
from data.readers.tree import Tree, is_picture


def read_pictures(tree: Tree, tables: list[str]) -> Source:
    """All pictures of a folder; an id is the path in it. Labels come from the tables, else from class folders.

    A picture of 0 bytes is one that cannot be read.
    """
    paths = [f"{folder}/{name}" if folder else name for folder, names in tree.pictures.items() for name in names]
    paths = sorted([*paths, *filter(is_picture, tree.empty)])
    known = _listed(tree, tables) if tables else _by_folder(tree)
    labels = [known.get(path, "") for path in paths]
    images = _images(tree.root, paths, labels if known else None)
    return Source(f"picture files{', with labels' if known else ''}", {"train": images}, {}, Ignored())


def read_list(root: Path, name: str) -> Source | None:
    """The pictures that a text file names, one in each line or in a column of a table; None if it names none.

    A path counts from the list's folder, and is the id as it stands there. A missing file is a picture that cannot be
    read.
    """
    folder = (root / name).parent
    with (root / name).open(encoding="utf-8-sig", errors="replace") as file:
        lines = [line.strip() for line in file if line.strip()]
    if any(map(is_picture, lines[:1])) and (folder / lines[0]).is_file():
        return Source(f"a list of {len(lines):,} picture files", {"train": _images(folder, lines, None)})
    rows = list(rows_of(root / name))
    header, *first = rows[:2]
    at = next((at for at, cell in enumerate((first or [header])[0]) if (folder / cell).is_file()), None)
    if at is None:
        return None
    lowered = [cell.strip().lower() for cell in header]
    label = next((lowered.index(usual) for usual in LABELS if usual in lowered), None)
    rows = [row for row in (rows if (folder / header[at]).is_file() else rows[1:]) if len(row) > max(at, label or 0)]
    paths = [row[at] for row in rows]
    labels = None if label is None else [row[label].strip() for row in rows]
    return Source(f"a list of {len(paths):,} picture files", {"train": _images(folder, paths, labels)})


def _images(root: Path, paths: list[str], labels: list[str] | None) -> Images:
    def path(index: int) -> Path:
        return root / paths[index]

    values = plain(np.asarray(labels), "the labels") if labels else np.full(len(paths), -1)
    return Images(encoded(path, lambda index: paths[index], len(paths)), values, paths)


def _listed(tree: Tree, tables: list[str]) -> dict[str, str]:
    """The label of each picture that the tables list."""
    found: dict[str, str] = {}
    for part in read_listed(tree, tables).parts.values():
        assert isinstance(part.pixels, Pixels)
        names = map(part.pixels.name, range(len(part)))
        found |= {
            name.removeprefix(f"{tree.root}/"): str(label) for name, label in zip(names, part.labels, strict=True)
        }
    return found


def _by_folder(tree: Tree) -> dict[str, str]:
    """The class of each picture in class folders."""
    tops = {
        top: name for classes in class_folders(tree).values() for name, folders in classes.items() for top in folders
    }
    found: dict[str, str] = {}
    for folder, names in tree.pictures.items():
        at = PurePosixPath(folder)
        label = next((tops[str(above)] for above in (at, *at.parents) if str(above) in tops), None)
        if label is not None:
            found |= {f"{folder}/{name}": label for name in names}
    return found
