"""Finds out what a file or folder is, and has it read."""

from __future__ import annotations

import os
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from data.errors import DataError
from data.readers.arrays import read_arrays, read_class_arrays
from data.readers.folders import class_folders, read_folders
from data.readers.idx import companions, read_idx
from data.readers.listed import find_list, read_listed
from data.readers.records import read_records
from data.readers.source import Ignored, Source
from data.readers.stored import unpacked
from data.readers.tables import read_tables
from data.readers.tree import Tree, gather, group_of, is_picture, kind_of, role_of, split_of, walk
from data.readers.unlabelled import read_list, read_pictures

Reader = Callable[[Path, list[str], Ignored, Path, "tuple[int, int] | None", bool], Source]

# The kinds that an option can name, and what they are.
KINDS = {
    "idx": "IDX files, gzipped or not",
    "npz": "an .npz archive, or several",
    "npy": "NumPy's .npy files",
    "mat": "MATLAB's .mat files",
    "hdf5": "HDF5 files of arrays, also MATLAB's of version 7.3",
    "csv": "tables of pixels, such as Kaggle's",
    "parquet": "Parquet or Arrow files, such as Hugging Face's",
    "tfrecord": "TFRecords, such as TensorFlow Datasets'",
    "folder": "picture files, in a folder for each class or listed in a table",
}
_ARRAYS = ("npz", "npy", "mat", "hdf5")
_REMEDIES = {
    "pickle": "which could run any program: save it with np.savez(path, x_train=…, y_train=…, x_test=…, y_test=…)",
    "web page": "perhaps of a download that failed: fetch the file again",
    "damaged packed file": "cut off or changed: fetch it again",
    "pointer of Git LFS": "not the file itself: fetch that with git lfs pull",
    "picture": "one picture only: name a folder with one folder of pictures for each class",
}


def open_source(path: Path, kind: str | None, scratch: Path, size: tuple[int, int] | None = None) -> Source:
    """Opens a data set.

    Args:
        path: a file or a folder, which may be packed as .zip or .tar.
        kind: a key of KINDS, to read it as that; None finds it out.
        scratch: a folder for what must be unpacked.
        size: rows and columns of images that are rows of pixels; None is a square.

    Raises:
        DataError: nothing is there, nothing that can be read, several data sets, or what the reader raises.
    """
    if not os.path.lexists(path):
        what = "folder" if kind == "folder" else "file or folder"
        raise DataError(f"There is no {what} {path}: name the data set.")
    if not path.exists():
        raise DataError(f"{path} is a link to nothing: name the data set itself.")
    if path.is_dir():
        return _open_folder(walk(path), kind, scratch, size)
    found = kind_of(path)
    if found.startswith("packed "):
        return open_source(unpacked(path, scratch), kind, scratch, size)
    if found in ("zip", "tar"):
        folder = Path(tempfile.mkdtemp(dir=scratch))
        _unpack(path, found, folder)
        source = _open_folder(walk(folder), kind, scratch, size)
        source.kind = f"an archive with {source.kind}"
        return source
    if found not in KINDS or (kind is not None and kind != found):
        raise DataError(_refusal(path, found, kind))
    files = _beside(path, found)
    source = _checked(path, _read(found, path.parent, files, Ignored(), scratch, size))
    if others := [name for name in files if name != path.name]:
        source.kind += f"; with {', '.join(others[:3])}{', …' if len(others) > 3 else ''} beside it"
    return source


def open_unlabelled(root: Path, names: list[str], scratch: Path) -> Source:
    """Opens pictures of which no labels are needed; the labels that are known come with them.

    Args:
        root: a folder.
        names: of files and folders in it: pictures, a table that lists pictures, or a data set. Empty: all of it.
        scratch: a folder for what must be unpacked.

    Raises:
        DataError: nothing that can be read, several data sets, or what the reader raises.
    """
    tree = gather(root, names) if names else walk(root)
    if packed := [files[0] for kind, files in tree.files.items() if kind.startswith("packed ")]:
        file = unpacked(root / packed[0], scratch)
        return open_unlabelled(file.parent, [file.name], scratch)
    if not tree.pictures and not any(kind in tree.files for kind in KINDS) and tree.archives():
        tree = _unpacked_archives(tree, scratch)
    texts = [file for kind in ("text file", "csv") for file in tree.files.get(kind, ())] if names else []
    if texts and not tree.pictures and (listed := read_list(root, texts[0])):
        return listed
    tables = find_list(tree)
    found = {
        kind: kept for kind in KINDS if (kept := [name for name in tree.files.get(kind, ()) if name not in tables])
    }
    if len(found) + bool(tree.pictures) > 1:
        kinds = [f"{kind} files such as {files[0]}" for kind, files in found.items()]
        kinds += ["pictures"] * bool(tree.pictures)
        raise DataError(f"{tree.root} holds {' and '.join(kinds)}: name the files to read.")
    if not found and not tree.pictures and not any(is_picture(name) for name in tree.empty):
        raise DataError(_nothing(tree, None))
    if not found:
        return read_pictures(tree, tables)
    ((kind, files),) = found.items()
    if kind == "idx" and len(files) == 1:
        files = [name for name in companions(tree.root / files[0]) if split_of(name) == split_of(files[0])]
    _ignore_rest(tree, set(files))
    return _read(kind, tree.root, files, tree.ignored, scratch, None, labelled=False)


def _refusal(path: Path, found: str, kind: str | None) -> str:
    if found in KINDS:
        return f"{path} is no {kind} source, but is of the kind {found} ({KINDS[found]}): leave out --{kind}."
    remedy = _REMEDIES.get(found, f"which is not read. These are: {_kinds()}")
    return f"{path} is a {found}, {remedy}."


def _beside(path: Path, kind: str) -> list[str]:
    """The file's name, and those of the files beside it that its data set needs."""
    if kind == "idx":
        return companions(path)
    if split_of(path.name) != "train" and (kind not in _ARRAYS or role_of(path.name) is None):
        return [path.name]
    beside = (entry for entry in path.parent.iterdir() if entry.is_file() and entry.stat().st_size)
    same = sorted(entry.name for entry in beside if group_of(entry.name) == group_of(path.name))
    return [name for name in same if kind_of(path.parent / name) == kind]


def _unpack(path: Path, kind: str, folder: Path) -> None:
    try:
        if kind == "zip":
            with zipfile.ZipFile(path) as archive:
                archive.extractall(folder)
        else:
            with tarfile.open(path) as archive:
                archive.extractall(folder, filter="data")
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, RuntimeError, NotImplementedError) as error:
        raise DataError(
            f"{path} is a damaged or locked {kind} archive ({error}): fetch it again, or unpack it."
        ) from None


def _open_folder(tree: Tree, kind: str | None, scratch: Path, size: tuple[int, int] | None) -> Source:
    folders = class_folders(tree) if kind in (None, "folder") else {}
    found = {name: files for name, files in tree.files.items() if name in KINDS and kind in (None, name)}
    if not found and not folders and tree.archives():
        return _open_folder(_unpacked_archives(tree, scratch), kind, scratch, size)
    for broken in ("damaged packed file", "pointer of Git LFS"):
        if broken in tree.files and not folders:
            raise DataError(_refusal(tree.root / tree.files[broken][0], broken, None))
    tables = find_list(tree) if kind in (None, "folder") and not folders else []
    groups = [(name, files) for name, files in _groups(found) if not set(files) & set(tables)]
    if tables and not groups:
        return _checked(tree.root, read_listed(tree, tables))
    if not groups:
        if kind == "folder" or (kind is None and tree.pictures):
            return read_folders(tree)
        raise DataError(_nothing(tree, kind))
    files = [file for _, (file, *_) in groups]
    if len(groups) > 1 and not folders and all(_is_class(*group) for group in groups):
        _ignore_rest(tree, set(files))
        return read_class_arrays(tree.root, files, tree.ignored, scratch, size)
    if len(groups) + bool(folders) > 1:
        listed = [f"{name} files such as {files[0]}" for name, files in groups]
        listed += ["class folders of pictures"] * bool(folders)
        kinds = sorted({name for name, _ in groups} | ({"folder"} if folders else set()))
        hint = f", or its kind: --{' or --'.join(kinds)}" if len(kinds) > 1 else ""
        hint += "; unpack the archive before" if tree.root.is_relative_to(scratch) else ""
        raise DataError(f"{tree.root} holds several data sets: {'; '.join(listed[:6])}. Name the one to read{hint}.")
    ((name, files),) = groups
    _ignore_rest(tree, set(files))
    return _checked(tree.root, _read(name, tree.root, files, tree.ignored, scratch, size))


def _is_class(kind: str, files: list[str]) -> bool:
    """Whether an .npy file has the name of a class rather than of a split, as in Google's QuickDraw."""
    return kind == "npy" and len(files) == 1 and split_of(files[0]) is None and role_of(files[0]) is None


def _checked(path: Path, source: Source) -> Source:
    """The source without splits whose labels are all -1, as Hugging Face marks unknown ones. A lone split is "train".

    Raises:
        DataError: several splits, but none to train on.
    """
    for split, part in list(source.parts.items()):
        if split != "train" and part.labels.dtype.kind == "i" and len(part) and (part.labels == -1).all():
            source.ignored.add("images without labels (all are -1)", f"the {split} split", len(part))
            del source.parts[split]
    if len(source.parts) == 1:
        source.parts = {"train": next(iter(source.parts.values()))}
    if "train" not in source.parts:
        raise DataError(f"{path} holds {' and '.join(source.parts)} images, but none to train on: add them.")
    return source


def _unpacked_archives(tree: Tree, scratch: Path) -> Tree:
    """The content of all archives of a folder that holds nothing else, each in a folder that is called like it."""
    folder = Path(tempfile.mkdtemp(dir=scratch))
    for kind, files in tree.archives().items():
        for file in files:
            _unpack(tree.root / file, kind, folder / file.partition(".")[0])
    return walk(folder)


def _groups(found: dict[str, list[str]]) -> list[tuple[str, list[str]]]:
    """The data sets in a folder: kind and files. .npz, .npy and .mat files in one folder may be one."""
    groups: dict[tuple[str, str], list[str]] = {}
    for kind, files in found.items():
        for file in files:
            groups.setdefault((kind, group_of(file)), []).append(file)
    return [(kind, files) for (kind, _), files in groups.items()]


def _nothing(tree: Tree, kind: str | None) -> str:
    others = [f"{files[0]} ({found})" for found, files in tree.files.items()]
    remedy = next((_REMEDIES[found] for found in tree.files if found in _REMEDIES), None)
    what = f"nothing of the kind {kind} ({KINDS[kind]})" if kind else "nothing that is read"
    has = f"It has {', '.join(others[:5])}" if others else "It has no files"
    return f"{tree.root} holds {what}. {has}{f', {remedy}' if remedy else f'. These are read: {_kinds()}'}."


def _kinds() -> str:
    return "; ".join(KINDS.values())


def _ignore_rest(tree: Tree, used: set[str]) -> None:
    """Counts what is not of the data set."""
    for folder, names in tree.pictures.items():
        tree.ignored.add("pictures beside the data", f"{folder}/{names[0]}".lstrip("/"), len(names))
    for files in tree.files.values():
        for file in files:
            if file not in used:
                tree.ignored.add("other files", file)


def _read(
    kind: str,
    root: Path,
    files: list[str],
    ignored: Ignored,
    scratch: Path,
    size: tuple[int, int] | None,
    labelled: bool = True,
) -> Source:
    if kind == "idx":
        return read_idx(root, files, ignored, scratch, labelled)
    reader: Reader = {"csv": read_tables, "parquet": read_tables, "tfrecord": read_records}.get(kind, read_arrays)
    return reader(root, files, ignored, scratch, size, labelled)
