"""Readers of the formats people keep images in: IDX files, Keras `.npz` archives, class folders.

Each returns `Images`: `pixels` uint8 [N, rows, columns] and `labels` int64 [N].
"""

from __future__ import annotations

import gzip
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.errors import DataError

# The magic number of an IDX file: two zero bytes, the element type (0x08 is uint8), the rank.
IDX_IMAGES = 0x00000803
IDX_LABELS = 0x00000801


@dataclass(frozen=True)
class Images:
    """Grey images and what they show: `pixels` uint8 [N, rows, columns], `labels` int64 [N]."""

    pixels: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray | slice) -> Images:
        return Images(self.pixels[indices], self.labels[indices])


def read_idx(path: Path, magic: int) -> np.ndarray:
    """Reads one IDX file, gzipped or not, as a uint8 array of the rank its magic number says.

    Raises:
        DataError: missing file, another magic number than `magic`, or fewer or more bytes
            than the header announces.
    """
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except FileNotFoundError:
        raise DataError(f"There is no file {path}: name the folder that holds the IDX files with --idx.") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is a damaged gzip file ({error}): fetch it again.") from None
    rank = magic & 0xFF
    header = 4 * (1 + rank)
    found = int.from_bytes(content[:4], "big")
    if found != magic:
        raise DataError(
            f"{path} starts with the magic number {found:#010x}, but IDX {'images' if rank == 3 else 'labels'}"
            f" start with {magic:#010x}: check that images and labels were not swapped."
        )
    shape = tuple(int(size) for size in np.frombuffer(content[4:header], ">u4")) if len(content) >= header else ()
    expected = header + int(np.prod(shape, dtype=np.int64))
    if len(shape) != rank or len(content) != expected:
        raise DataError(
            f"{path} holds {len(content)} bytes, but its header announces {expected}:"
            " it was cut off or something was appended; fetch it again."
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def read_idx_pair(folder: Path, prefix: str) -> Images:
    """Reads `<prefix>-images-idx3-ubyte` and `<prefix>-labels-idx1-ubyte`, each with or without `.gz`."""

    def find(stem: str) -> Path:
        return next((p for p in (folder / stem, folder / f"{stem}.gz") if p.exists()), folder / stem)

    images, labels = find(f"{prefix}-images-idx3-ubyte"), find(f"{prefix}-labels-idx1-ubyte")
    return _paired(read_idx(images, IDX_IMAGES), read_idx(labels, IDX_LABELS), str(images), str(labels))


def read_npz(path: Path) -> tuple[Images, Images]:
    """Reads a Keras-style archive (`x_train`, `y_train`, `x_test`, `y_test`) as (train, test).

    Raises:
        DataError: not an .npz archive, an array missing, pixels that are not uint8 [N, rows, columns].
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [key for key in ("x_train", "y_train", "x_test", "y_test") if key not in archive]
            if missing:
                raise DataError(
                    f"{path} has no array {', '.join(missing)}; it has {', '.join(archive.files) or 'none'}:"
                    " save it with np.savez(path, x_train=…, y_train=…, x_test=…, y_test=…)."
                )
            arrays = {key: archive[key] for key in archive.files}
    except FileNotFoundError:
        raise DataError(f"There is no file {path}: name the archive with --npz.") from None
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, AttributeError, TypeError) as error:
        raise DataError(f"{path} cannot be read as an .npz archive ({error}): save it again with np.savez.") from None

    def split(name: str) -> Images:
        return _paired(arrays[f"x_{name}"], arrays[f"y_{name}"], f"x_{name} of {path}", f"y_{name} of {path}")

    return split("train"), split("test")


def read_folders(root: Path, size: tuple[int, int] | None) -> tuple[Images, list[str]]:
    """Reads `<root>/<class>/<image>` as grey images; returns them with the class names in label order.

    Args:
        root: a folder with one folder per class. Names that are all whole numbers sort as numbers.
        size: (rows, columns) to resize every image to; None keeps sizes, which then must agree.

    Raises:
        DataError: no class folder, an empty one, an unreadable image, or sizes that differ without `size`.
    """
    from PIL import Image, UnidentifiedImageError

    if not root.is_dir():
        raise DataError(f"There is no folder {root}: name the folder that holds one folder per class with --folder.")
    classes = [entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    if not classes:
        raise DataError(f"{root} holds no class folders: put each class's images into a folder of its own.")
    classes.sort(key=(lambda name: (int(name), name)) if all(c.isdecimal() for c in classes) else str)

    pixels: list[np.ndarray] = []
    labels: list[int] = []
    first: Path | None = None
    for label, name in enumerate(classes):
        files = sorted(f for f in (root / name).iterdir() if f.is_file() and not f.name.startswith("."))
        if not files:
            raise DataError(f"The class folder {root / name} is empty: add images or remove the folder.")
        for file in files:
            try:
                with Image.open(file) as image:
                    grey = image.convert("L")
            except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
                raise DataError(f"{file} cannot be read as an image ({error}): replace or remove it.") from None
            if size is not None:
                grey = grey.resize((size[1], size[0]), Image.Resampling.BILINEAR)
            first = first or file
            array = np.asarray(grey, np.uint8)
            if pixels and array.shape != pixels[0].shape:
                raise DataError(
                    f"{file} has {array.shape[0]} × {array.shape[1]} pixels, but {first} has"
                    f" {pixels[0].shape[0]} × {pixels[0].shape[1]}: choose one size for all with --size ROWSxCOLUMNS."
                )
            pixels.append(array)
            labels.append(label)
    return Images(np.stack(pixels), np.asarray(labels, np.int64)), classes


def _paired(pixels: np.ndarray, labels: np.ndarray, pixels_from: str, labels_from: str) -> Images:
    if pixels.ndim != 3 or pixels.dtype != np.uint8:
        raise DataError(
            f"{pixels_from} is {pixels.dtype} {list(pixels.shape)}, but grey images are uint8 [N, rows, columns]:"
            " convert it first (for floats in 0..1: np.round(255 * x).astype(np.uint8))."
        )
    labels = labels.squeeze(1) if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{labels_from} is {labels.dtype} {list(labels.shape)}, but labels are whole numbers [N].")
    if len(pixels) != len(labels):
        raise DataError(
            f"{pixels_from} holds {len(pixels)} images, but {labels_from} holds {len(labels)} labels:"
            " the two must come from the same set."
        )
    return Images(pixels, labels.astype(np.int64))
