"""Reader of picture files whose labels are in a table beside them: a file's name and its label in each row."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from data.errors import DataError
from data.labels import plain
from data.readers.source import Images, Source, encoded
from data.readers.text_tables import LABELS, few
from data.readers.tree import Tree, split_of

_SAMPLED = 50
_FOUND = 0.9


def find_list(tree: Tree) -> list[str]:
    """The tables of a folder that list its pictures."""
    tables = [file for kind in ("text file", "csv") for file in tree.files.get(kind, ())]
    if not tree.pictures or not tables:
        return []
    pictures = _pictures(tree)
    return [
        file for file in tables if _column(list(islice(rows_of(tree.root / file), 1, _SAMPLED)), pictures) is not None
    ]


def read_listed(tree: Tree, tables: list[str]) -> Source:
    """The pictures that the tables list, each read when its pixels are asked for.

    Raises:
        DataError: no column of labels.
    """
    pictures = _pictures(tree)
    found: dict[str, list[tuple[str, str]]] = {}
    for table in tables:
        rows = rows_of(tree.root / table)
        header = next(rows)
        start = list(islice(rows, _SAMPLED))
        at = _column(start, pictures)
        assert at is not None
        if header[at] in pictures:  # no header
            start.insert(0, header)
            header = [str(number) for number in range(len(header))]
        label = _label(header, at, tree.root / table)
        for row in (*start, *rows):
            path = pictures.get(row[at]) if len(row) > max(at, label) else None
            if path is None:
                tree.ignored.add("rows of a table without a picture", f"{table}: {','.join(row)[:40]}")
                continue
            found.setdefault(split_of(table) or split_of(path) or "train", []).append((path, row[label].strip()))
    _ignore_rest(tree, {path for pairs in found.values() for path, _ in pairs}, tables)
    parts = {split: _images(tree.root, pairs) for split, pairs in found.items()}
    return Source(f"picture files with their labels in {few(tables)}", parts, {}, tree.ignored)


def _images(root: Path, pairs: list[tuple[str, str]]) -> Images:
    def path(index: int) -> Path:
        return root / pairs[index][0]

    labels = plain(np.asarray([label for _, label in pairs]), "the labels")
    return Images(encoded(path, lambda index: str(path(index)), len(pairs)), labels)


def _pictures(tree: Tree) -> dict[str, str]:
    """The path of each picture by all that a table may call it: path, name, name without its ending."""
    found: dict[str, str] = {}
    for folder, names in tree.pictures.items():
        for name in names:
            path = f"{folder}/{name}" if folder else name
            for called in (path, path.partition("/")[2], name, Path(name).stem):
                found.setdefault(called, path)
    return found


def rows_of(path: Path) -> Iterator[list[str]]:
    """The rows of a table of text, with commas, semicolons, tabs or blanks between its values."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        first = file.readline()
        file.seek(0)
        mark = max(",;\t ", key=first.count)
        yield from filter(None, csv.reader(file, delimiter=mark))


def _column(rows: list[list[str]], pictures: dict[str, str]) -> int | None:
    """The column that names pictures."""
    for at in range(len(rows[0]) if rows else 0):
        named = [len(row) > at and row[at] in pictures for row in rows]
        if sum(named) >= _FOUND * len(named) and len(rows[0]) > 1:
            return at
    return None


def _label(header: list[str], pictures: int, path: Path) -> int:
    lowered = [name.strip().lower() for name in header]
    usual = [lowered.index(name) for name in LABELS if name in lowered]
    if usual:
        return usual[0]
    if len(header) == 2:
        return 1 - pictures
    raise DataError(f"{path} lists pictures, but none of its columns {few(header)} is called label: rename one.")


def _ignore_rest(tree: Tree, used: set[str], tables: list[str]) -> None:
    for folder, names in tree.pictures.items():
        for name in names:
            if (path := f"{folder}/{name}" if folder else name) not in used:
                tree.ignored.add("pictures that no table lists", path)
    for files in tree.files.values():
        for file in files:
            if file not in tables:
                tree.ignored.add("other files", file)
