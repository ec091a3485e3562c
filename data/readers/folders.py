"""Reader of folders of picture files: one folder per class, in folders for the splits or not, below any wrapping."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np

from data.errors import DataError
from data.labels import one_form
from data.readers.source import Images, Source, encoded
from data.readers.tree import Tree, split_of

Splits = dict[str, dict[str, list[str]]]  # the folders of each class of each split


class _Folders:
    """The folders with pictures: `below`, those at and under each folder, and `inner`, the names directly in it."""

    def __init__(self, tree: Tree) -> None:
        self.below: dict[str, list[str]] = {}
        inner: dict[str, set[str]] = {}
        for folder in sorted(tree.pictures):
            at = PurePosixPath(folder)
            for above in (at, *at.parents):
                self.below.setdefault(_key(above), []).append(folder)
                if above.name:
                    inner.setdefault(_key(above.parent), set()).add(above.name)
        self.inner = {folder: sorted(names) for folder, names in inner.items()}
        self.direct = tree.pictures

    def only(self, folder: str) -> str | None:
        """The folder that `folder` wraps: the only one in it, if no pictures lie beside it."""
        inner = self.inner.get(folder, [])
        return _join(folder, inner[0]) if len(inner) == 1 and folder not in self.direct else None


def class_folders(tree: Tree) -> Splits:
    """The folders of each class of each split; empty if there are no two classes.

    Folders that only wrap others are passed over. Pictures in folders below a class belong to it. The class names are
    in Unicode's composed form, so one class may have several folders.
    """
    folders = _Folders(tree)
    top: str | None = ""
    while top is not None:
        inner = folders.inner.get(top, [])
        bases: dict[str, list[str]] = {}
        for name in inner:
            if (split := split_of(name)) is not None:
                bases.setdefault(split, []).append(_join(top, name))
        if bases and (len(inner) == sum(map(len, bases.values())) or {"train", "test"} <= bases.keys()):
            return _splits(folders, bases)
        if (wrapped := folders.only(top)) is None:
            classes = _classes(folders, [top])
            return _splits_inside(folders, classes) or {"train": classes} if len(classes) > 1 else {}
        top = wrapped
    return {}


def _splits(folders: _Folders, bases: dict[str, list[str]]) -> Splits:
    if len(bases) == 1:
        bases = {"train": next(iter(bases.values()))}
    found = {split: _classes(folders, tops) for split, tops in bases.items()}
    train = found.get("train", {})
    if len(train) < 2:
        return {}
    # One folder that is no class, or none, is a heap of pictures without labels.
    return {split: classes for split, classes in found.items() if len(classes) > 1 or classes.keys() & train.keys()}


def _splits_inside(folders: _Folders, classes: dict[str, list[str]]) -> Splits:
    """The splits if each class has folders for them; empty if one has not."""
    found: Splits = {}
    for name, tops in classes.items():
        for top in tops:
            inner = {split_of(part): _join(top, part) for part in folders.inner.get(top, [])}
            if None in inner or "train" not in inner or top in folders.direct:
                return {}
            for split, folder in inner.items():
                found.setdefault(str(split), {}).setdefault(name, []).append(folder)
    return found if len(found) > 1 else {}


def _classes(folders: _Folders, tops: list[str]) -> dict[str, list[str]]:
    classes: dict[str, list[str]] = {}
    for top in tops:
        while (wrapped := folders.only(top)) is not None and folders.inner.get(wrapped):
            top = wrapped  # noqa: PLW2901
        for name in folders.inner.get(top, []):
            classes.setdefault(one_form(name), []).append(_join(top, name))
    return classes


def read_folders(tree: Tree) -> Source:
    """Lists the pictures of all classes; each file is read when its pixels are asked for.

    Raises:
        DataError: no class folders, or one without pictures.
    """
    found = class_folders(tree)
    if not found:
        count = sum(map(len, tree.pictures.values()))
        raise DataError(
            f"{tree.root} holds no class folders: put each class's images into a folder of its own, in two classes at"
            f" least. It has {count} picture files." + _examples(tree)
        )
    classes = sorted({name for split in found.values() for name in split})
    classes.sort(key=(lambda name: (int(name), name)) if all(name.isdecimal() for name in classes) else str)
    below = _Folders(tree).below
    _refuse_empty(tree, found, below)
    parts = {split: _images(tree, folders, classes, below) for split, folders in found.items()}
    _ignore_rest(tree, found)
    apart = f", with folders for {' and '.join(parts)}" if len(parts) > 1 else ""
    kind = f"a folder of picture files for each of {len(classes)} classes{apart}"
    return Source(kind, parts, dict(enumerate(classes)), tree.ignored)


def _examples(tree: Tree) -> str:
    seen = [path for files in tree.files.values() for path in files][:3]
    return f" Other files are {', '.join(seen)}." if seen else ""


def _key(path: PurePosixPath) -> str:
    return "" if path == PurePosixPath(".") else str(path)


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _images(tree: Tree, folders: dict[str, list[str]], classes: list[str], below: dict[str, list[str]]) -> Images:
    holders = [
        (path, label) for label, name in enumerate(classes) for top in folders.get(name, ()) for path in below[top]
    ]
    files = [file for path, _ in holders for file in tree.pictures[path]]
    where = np.repeat(np.arange(len(holders)), [len(tree.pictures[path]) for path, _ in holders])

    def path(index: int) -> Path:
        return tree.root / holders[where[index]][0] / files[index]

    labels = np.asarray([label for _, label in holders], np.int64)[where]
    return Images(encoded(path, lambda index: str(path(index)), len(files)), labels)


def _refuse_empty(tree: Tree, found: Splits, below: dict[str, list[str]]) -> None:
    """Stops at a folder beside the class folders that holds no pictures: it may be a class that lost them."""
    for base in {
        _key(PurePosixPath(top).parent) for split in found.values() for tops in split.values() for top in tops
    }:
        for entry in sorted((tree.root / base).iterdir()):
            system = entry.name.startswith(".") or entry.name.lower() in ("__macosx", "@eadir")
            if entry.is_dir() and not system and _join(base, entry.name) not in below:
                what = "holds no pictures" if any(entry.iterdir()) else "is empty"
                raise DataError(f"The class folder {entry} {what}: add images or remove the folder.")


def _ignore_rest(tree: Tree, found: Splits) -> None:
    """Counts pictures outside of class folders, and files that are no pictures."""
    used = {top for split in found.values() for tops in split.values() for top in tops}
    for folder, names in tree.pictures.items():
        at = PurePosixPath(folder)
        if not any(_key(above) in used for above in (at, *at.parents)):
            tree.ignored.add("pictures outside of the class folders", _join(folder, names[0]), len(names))
    for files in tree.files.values():
        for file in files:
            tree.ignored.add("no picture files", file)
