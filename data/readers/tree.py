"""What lies in a folder: the files of each kind, pictures by folder, and what is ignored with the reason."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from data.readers.source import Ignored
from data.readers.stored import packing, unreadable

SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("png", "jpg", "jpeg", "jpe", "jfif", "bmp", "dib", "gif", "tif", "tiff", "webp", "tga", "jp2", "heic"),
        *("heif", "avif", "pgm", "ppm", "pbm", "pnm", "pcx"),
    )
)
_SYSTEM = frozenset(("__macosx", "thumbs.db", "desktop.ini", "icon\r", "@eadir", "$recycle.bin"))
# What a name says: which split, and whether it holds images or labels. Digits at the end count the parts of a set.
_SPLITS = {
    "train": r"train(?:ing)?(?:set)?|tra|tr",
    "test": r"test(?:ing)?(?:set)?|t10k|tes|te",
    "eval": r"val|valid|validation|eval|evaluation|dev",
}
_ROLES = {
    "images": r"x|xs|images?|imgs?|image_data|pixels?|pictures?|data|features|inputs?|samples|examples",
    "labels": r"y|ys|labels?|lbls?|targets?|class|annotations?",
    "names": r"names|classnames|labelnames|targetnames|mapping|categories",
}
_ANY = "|".join(_ROLES.values())
_NOISE = re.compile(r"\d+|of|idx\d|ubyte|int|uint8|float32|npy|npz|gz|csv|mat|hdf5|h5|parquet|arrow|tfrecords?|txt|bin")


@dataclass
class Tree:
    """A folder's content.

    Attributes:
        files: the path of each file that is no picture, relative to the root, by kind as `kind_of` names it.
        pictures: the names of the pictures in each folder; "" is the root. Folders are relative paths.
        empty: the paths of the files of 0 bytes.
    """

    root: Path
    files: dict[str, list[str]] = field(default_factory=dict)
    pictures: dict[str, list[str]] = field(default_factory=dict)
    empty: list[str] = field(default_factory=list)
    ignored: Ignored = field(default_factory=Ignored)

    def archives(self) -> dict[str, list[str]]:
        """The .zip and .tar files."""
        return {kind: self.files[kind] for kind in ("zip", "tar") if kind in self.files}


def walk(root: Path) -> Tree:
    """Lists a folder and all that is in it. Links are followed.

    Raises:
        DataError: a folder cannot be read.
    """
    tree = Tree(root)
    _walk(root, "", tree, frozenset())
    return tree


def gather(root: Path, names: list[str]) -> Tree:
    """Lists these files of a folder, and what is in these folders of it, as `walk` does."""
    tree = Tree(root)
    for name in names:
        path = root / name
        if path.is_dir():
            _walk(path, name, tree, frozenset())
        else:
            _add(tree, path, name)
    return tree


def _walk(folder: Path, relative: str, tree: Tree, above: frozenset[tuple[int, int]]) -> None:
    try:
        status = folder.stat()
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise unreadable(folder, error) from None
    here = (status.st_dev, status.st_ino)
    if here in above:
        tree.ignored.add("folders that hold themselves", relative)
        return
    for entry in entries:
        path = f"{relative}/{entry.name}" if relative else entry.name
        if entry.name.lower() in _SYSTEM:
            tree.ignored.add("of the operating system", path)
        elif entry.name.startswith("."):
            tree.ignored.add("hidden", path)
        elif entry.is_dir():
            _walk(folder / entry.name, path, tree, above | {here})
        elif not entry.is_file():
            lost = entry.is_symlink() and not Path(entry.path).exists()
            tree.ignored.add("links to nothing" if lost else "no regular files", path)
        elif entry.stat().st_size == 0:
            tree.empty.append(path)
            tree.ignored.add("empty files", path)
        else:
            _add(tree, folder / entry.name, path)


def _add(tree: Tree, file: Path, path: str) -> None:
    folder, _, name = path.rpartition("/")
    if is_picture(name) or (kind := kind_of(file)) == "picture":
        tree.pictures.setdefault(folder, []).append(name)
    else:
        tree.files.setdefault(kind, []).append(path)


def is_picture(name: str) -> bool:
    """Whether a file is named like a picture."""
    return Path(name).suffix.lower() in SUFFIXES


def kind_of(path: Path) -> str:
    """The kind of a file, by its content: "idx", "npz", "csv", …, "picture", or what it is otherwise in words."""
    try:
        with path.open("rb") as file:
            start = file.read(4096)
    except OSError as error:
        raise unreadable(path, error) from None
    opener = packing(start)
    if opener is None:
        return _kind(start, path)
    try:
        with opener(path, "rb") as unpacked:
            kind = _kind(unpacked.read1(4096), path)
    except Exception:  # each kind of packing has errors of its own
        return "damaged packed file"
    return f"packed {kind}" if kind in ("zip", "npz", "parquet", "picture") else kind


def _kind(start: bytes, path: Path) -> str:
    if start.startswith(b"\x93NUMPY"):
        return "npy"
    if start.startswith(b"PK\x03\x04"):
        return _kind_of_zip(path)
    if start.startswith((b"PAR1", b"ARROW1", b"\xff\xff\xff\xff")):
        return "parquet"
    if start.startswith(b"MATLAB 5.0"):
        return "mat"
    if start.startswith((b"MATLAB 7.3", b"\x89HDF")):
        return "hdf5"
    if start[:2] == b"\0\0" and start[2:3] in b"\x08\x09\x0b\x0c\x0d\x0e" and start[3:4] in b"\1\2\3\4":
        return "idx"
    if re.search(r"\.tfrecords?\b|\.records?$", path.name) or (start[12:13] == b"\x0a" and start[4:8] == bytes(4)):
        return "tfrecord"
    if start.startswith(b"version https://git-lfs"):
        return "pointer of Git LFS"
    if start.lstrip()[:100].lower().startswith((b"<!doctype html", b"<html", b"<?xml")):
        return "web page"
    if start[257:262] == b"ustar":
        return "tar"
    if (start[:1] == b"\x80" and start[1:2] in b"\2\3\4\5") or start.startswith(b"(lp"):
        return "pickle"
    if table := _kind_of_text(start):
        return table
    return "picture" if _opens(path) else "file of an unknown kind"


def _kind_of_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return "npz" if path.suffix == ".npz" else "zip"
    if any(name.endswith("data.pkl") for name in names):
        return "pickle"
    return "npz" if names and all(name.endswith(".npy") for name in names) else "zip"


def _kind_of_text(start: bytes) -> str:
    """ "csv" if the text's lines hold many values, "text file" for other text, "" for bytes."""
    try:
        text = start[: 4090 if len(start) == 4096 else None].decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if len(start) < 4096 or error.start < 4080:  # else the last character is cut
            return ""
        text = start[: error.start].decode("utf-8-sig")
    if "\0" in text:
        return ""
    if re.search(r"^@relation\b", text, re.IGNORECASE | re.MULTILINE):  # ARFF, whose table begins later
        return "csv"
    rows = [line for line in text.splitlines() if line and not line.startswith(("@", "%", "#"))]
    return "csv" if any(len(re.split(r"[,;\t ]+", row.strip())) >= 17 for row in rows[:2]) else "text file"


def _opens(path: Path) -> bool:
    from PIL import Image

    try:
        with Image.open(path):
            return True
    except Exception:
        return False


@cache
def split_of(path: str) -> str | None:
    """The split that a name such as "data/x_train.npy" or "t10k-images" speaks of; its last part counts most."""
    return _said(path, _SPLITS, rf"(?:{_ANY})?(?:{{}})(?:{_ANY})?\d*")


@cache
def role_of(path: str) -> str | None:
    """Whether a name speaks of "images", "labels", or the "names" of the classes."""
    around = "|".join(_SPLITS.values())
    joined = re.sub(r"(class|label|target|feature)_?(names)", r"\1\2", path.lower())
    return _said(joined, {"names": _ROLES["names"], **_ROLES}, rf"(?:{around})?(?:{{}})(?:{around})?\d*")


def _said(path: str, meanings: dict[str, str], around: str) -> str | None:
    for level in reversed(path.split("/")):
        for token in _tokens(level):
            for meaning, words in meanings.items():
                if re.fullmatch(around.format(words), token):
                    return meaning
    return None


def group_of(path: str) -> str:
    """What is left of a name without split, role and number: files of one data set have the same."""
    path = re.sub(r"\d+-of-\d+.*", "", path)  # what follows differs with each file
    kept = [_rest(level) for level in path.split("/")]
    return " ".join(filter(None, kept))


def _rest(level: str) -> str:
    tokens = [token for token in _tokens(level) if not _NOISE.fullmatch(token)]
    return " ".join(token for token in tokens if split_of(token) is None and role_of(token) is None)


def _tokens(level: str) -> Iterator[str]:
    return (token for token in re.split(r"[\W_]+", level.lower()) if token)


def read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8-sig", errors="replace")
