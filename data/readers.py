"""Readers of the formats people keep images in: IDX files, Keras `.npz` archives, class folders.

Each returns `Images`. The pixels of IDX files and class folders stay on disk: each image is read when it is asked for.
So the memory does not grow with their number, except for 8 bytes of label and order and, in folders, the file's name.
"""

from __future__ import annotations

import gzip
import math
import os
import shutil
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from data.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

# The magic number of an IDX file: two zero bytes, the element type (0x08 is uint8), the rank.
IDX_IMAGES = 0x00000803
IDX_LABELS = 0x00000801


class Pixels:
    """Grey images, uint8 [N, rows, columns], each of which is read when the iteration comes to it.

    `shape` is an array's. A slice or an array of numbers gives `Pixels` of fewer images or in another order, and reads
    none.

    Args:
        read: reads image `index`. It may raise a DataError.
        size: rows and columns.
        order: int64 [N], the indices of the images.
    """

    def __init__(self, read: Callable[[int], np.ndarray], size: tuple[int, int], order: np.ndarray) -> None:
        self._read, self._size, self._order = read, size, order
        self.shape = (len(order), *size)

    def __getitem__(self, indices: slice | np.ndarray) -> Pixels:
        return Pixels(self._read, self._size, self._order[indices])

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self._read(int(index)) for index in self._order)


@dataclass(frozen=True)
class Images:
    """Grey images and what they show: `pixels` uint8 [N, rows, columns], `labels` int64 [N]."""

    pixels: np.ndarray | Pixels
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray | slice) -> Images:
        return Images(self.pixels[indices], self.labels[indices])


def read_idx_pair(folder: Path, prefix: str, scratch: Path) -> Images:
    """Reads `<prefix>-images-idx3-ubyte` and `<prefix>-labels-idx1-ubyte`, each with or without `.gz`.

    A gzipped file is unpacked into a nameless file in the folder `scratch`, which vanishes with the result.

    Raises:
        DataError: missing or damaged file, another magic number, fewer or more bytes than the header announces, or
            another number of labels than of images.
    """

    def find(stem: str) -> Path:
        return next((p for p in (folder / stem, folder / f"{stem}.gz") if p.exists()), folder / stem)

    images, labels = find(f"{prefix}-images-idx3-ubyte"), find(f"{prefix}-labels-idx1-ubyte")
    file, (count, rows, columns) = _open_idx(images, IDX_IMAGES, scratch)
    start, size = file.tell(), rows * columns

    def read(index: int) -> np.ndarray:
        content = os.pread(file.fileno(), size, start + index * size)
        if len(content) != size:
            raise DataError(f"{images} became shorter while it was read: start again when it is complete.")
        return np.ndarray((rows, columns), np.uint8, content)

    with _open_idx(labels, IDX_LABELS, scratch)[0] as content:
        values = np.frombuffer(content.read(), np.uint8)
    return _paired(Pixels(read, (rows, columns), np.arange(count)), values, str(images), str(labels))


def _open_idx(path: Path, magic: int, scratch: Path) -> tuple[BinaryIO, tuple[int, ...]]:
    """Opens one IDX file, gzipped or not; returns it unpacked, at its first element, and its shape."""
    try:
        file: BinaryIO = path.open("rb")
    except FileNotFoundError:
        raise DataError(f"There is no file {path}: name the folder that holds the IDX files with --idx.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): correct its rights or fetch it again.") from None
    if file.read(2) == b"\x1f\x8b":
        file.seek(0)
        try:
            with gzip.GzipFile(fileobj=file) as packed, file:
                file = tempfile.TemporaryFile(dir=scratch)
                shutil.copyfileobj(packed, file)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"{path} is a damaged gzip file ({error}): fetch it again.") from None
    length = file.seek(0, os.SEEK_END)
    file.seek(0)
    rank = magic & 0xFF
    header = file.read(4 * (1 + rank))
    found = int.from_bytes(header[:4], "big")
    if found != magic:
        raise DataError(
            f"{path} starts with the magic number {found:#010x}, but IDX {'images' if rank == 3 else 'labels'}"
            f" start with {magic:#010x}: check that images and labels were not swapped."
        )
    shape = tuple(int.from_bytes(header[at : at + 4], "big") for at in range(4, 4 * (1 + rank), 4))
    expected = 4 * (1 + rank) + math.prod(shape)
    if length != expected:
        raise DataError(
            f"{path} holds {length} bytes, but its header announces {expected}:"
            " it was cut off or something was appended; fetch it again."
        )
    return file, shape


def read_npz(path: Path) -> tuple[Images, Images]:
    """Reads a Keras-style archive (`x_train`, `y_train`, `x_test`, `y_test`) as (train, test).

    The four arrays are held in memory, once: the format has no way to read a part of one.

    Raises:
        DataError: not an .npz archive, an array missing, pixels that are not uint8 [N, rows, columns].
    """
    needed = ("x_train", "y_train", "x_test", "y_test")
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [key for key in needed if key not in archive]
            if missing:
                raise DataError(
                    f"{path} has no array {', '.join(missing)}; it has {', '.join(archive.files) or 'none'}:"
                    " save it with np.savez(path, x_train=…, y_train=…, x_test=…, y_test=…)."
                )
            arrays = {key: archive[key] for key in needed}
    except FileNotFoundError:
        raise DataError(f"There is no file {path}: name the archive with --npz.") from None
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, AttributeError, TypeError) as error:
        raise DataError(f"{path} cannot be read as an .npz archive ({error}): save it again with np.savez.") from None

    def split(name: str) -> Images:
        pixels = arrays[f"x_{name}"]
        if pixels.ndim != 3 or pixels.dtype != np.uint8:
            raise DataError(
                f"x_{name} of {path} is {pixels.dtype} {list(pixels.shape)}, but grey images are uint8 [N, rows,"
                " columns]: convert it first (for floats in 0..1: np.round(255 * x).astype(np.uint8))."
            )
        count, rows, columns = pixels.shape
        images = Pixels(pixels.__getitem__, (rows, columns), np.arange(count))
        return _paired(images, arrays[f"y_{name}"], f"x_{name} of {path}", f"y_{name} of {path}")

    return split("train"), split("test")


def read_folders(root: Path, size: tuple[int, int] | None) -> tuple[Images, list[str]]:
    """Lists `<root>/<class>/<image>`; returns the images, class by class, and the class names in label order.

    Each file is read, by the rule of `read_image`, when its pixels are asked for. This raises a DataError for an
    unreadable image and, without `size`, for one of another size than the first file's.

    Args:
        root: a folder with one folder per class. Names that are all whole numbers sort as numbers.
        size: (rows, columns) to resize every image to; None keeps sizes, which then must agree.

    Raises:
        DataError: no class folder, an empty one, or an unreadable first image.
    """
    if not root.is_dir():
        raise DataError(f"There is no folder {root}: name the folder that holds one folder per class with --folder.")
    classes = _names(root, os.DirEntry.is_dir)
    if not classes:
        raise DataError(f"{root} holds no class folders: put each class's images into a folder of its own.")
    classes.sort(key=(lambda name: (int(name), name)) if all(c.isdecimal() for c in classes) else str)
    files: list[str] = []
    ends: list[int] = []
    for name in classes:
        found = _names(root / name, os.DirEntry.is_file)
        if not found:
            raise DataError(f"The class folder {root / name} is empty: add images or remove the folder.")
        files += found
        ends.append(len(files))
    labels = np.repeat(np.arange(len(classes)), np.diff(ends, prepend=0))
    first = root / classes[0] / files[0]
    rows, columns = read_image(first, size).shape

    def read(index: int) -> np.ndarray:
        file = root / classes[labels[index]] / files[index]
        pixels = read_image(file, size)
        if pixels.shape != (rows, columns):
            raise DataError(
                f"{file} has {pixels.shape[0]} × {pixels.shape[1]} pixels, but {first} has {rows} × {columns}:"
                " choose one size for all with --size ROWSxCOLUMNS."
            )
        return pixels

    return Images(Pixels(read, (rows, columns), np.arange(len(files))), labels), classes


def read_image(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """Reads an image file as grey levels, uint8 [rows, columns]; the client of a served model has the same rule.

    - Grey stays as it is. Colours, also CMYK and palettes, become their luma: 0.299 R + 0.587 G + 0.114 B.
    - 1 bit becomes 0 and 255. 16 bits are scaled to 8: v // 257. Nothing is clipped.
    - Transparent pixels (RGBA, LA, a palette, or a level that the file names) lie on white.
    - A photograph is turned upright as its EXIF orientation says. Of several frames or pages, the first counts.

    Args:
        path: a file in any format that Pillow reads.
        size: (rows, columns) to resize to, after all this; the proportions may change. None keeps the size.

    Raises:
        DataError: Pillow cannot read the file, for whatever reason.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as odd metadata
            with Image.open(path) as file:
                image = _grey(file)
    except Exception as error:  # a damaged file raises nearly anything, such as struct.error for a TIFF
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path} cannot be read as an image ({reason}): replace or remove it.") from None
    if size is not None:
        image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(image, np.uint8)


def _grey(file: Image.Image) -> Image.Image:
    from PIL import Image, ImageOps

    image: Image.Image = ImageOps.exif_transpose(file)
    if image.mode.startswith("I"):  # 16 bits per pixel; Pillow's convert would clip them at 255
        image = Image.fromarray((np.asarray(image, np.int64) // 257).clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "P") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L")


def _names(folder: Path, kind: Callable[[os.DirEntry[str]], bool]) -> list[str]:
    """The sorted names of a folder's entries of one kind, without hidden ones."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if kind(entry) and not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"The folder {folder} cannot be read ({error.strerror}): correct its rights.") from None


def _paired(pixels: Pixels, labels: np.ndarray, pixels_from: str, labels_from: str) -> Images:
    labels = labels.squeeze(1) if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{labels_from} is {labels.dtype} {list(labels.shape)}, but labels are whole numbers [N].")
    if pixels.shape[0] != len(labels):
        raise DataError(
            f"{pixels_from} holds {pixels.shape[0]} images, but {labels_from} holds {len(labels)} labels:"
            " the two must come from the same set."
        )
    return Images(pixels, labels.astype(np.int64))
