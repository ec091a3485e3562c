"""Small sources for data.build: IDX files, an archive, class folders."""

import gzip
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from data.readers import Images


def write_idx(folder: Path, prefix: str, images: Images, zipped: bool = False) -> None:
    folder.mkdir(exist_ok=True)
    contents = {
        f"{prefix}-images-idx3-ubyte": struct.pack(">IIII", 0x803, *images.pixels.shape) + images.pixels.tobytes(),
        f"{prefix}-labels-idx1-ubyte": struct.pack(">II", 0x801, len(images))
        + images.labels.astype(np.uint8).tobytes(),
    }
    for name, content in contents.items():
        (folder / f"{name}.gz" if zipped else folder / name).write_bytes(gzip.compress(content) if zipped else content)


def save_npz(path: Path, images: tuple[Images, Images], **changes: np.ndarray) -> Path:
    arrays = {"x_train": images[0].pixels, "y_train": images[0].labels, "x_test": images[1].pixels}
    np.savez(path, **{**arrays, "y_test": images[1].labels, **changes})
    return path


def class_folders(root: Path, per_class: int = 6, size: tuple[int, int] = (5, 7)) -> Path:
    for label, name in enumerate(("2", "10")):
        (root / name).mkdir(parents=True)
        for index in range(per_class):
            pixels = np.full(size, 100 * label + index % 100, np.uint8)
            pixels[-1, -1] = 255
            Image.fromarray(pixels).save(root / name / f"{index}.png")
    return root
