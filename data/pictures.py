"""From a picture file to the pixels that a model reads: one rule for the builder, the client, the demo and batches.

`load` decodes a file, `read` brings the levels and the size into the form of a data set. How a data set's pictures are
read is a `Reading`: it is in the profile, the Trainer exports it with the model, and the client asks the server for it.
This file needs NumPy and Pillow only.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from data.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

FITS = ("digit", "letterbox", "stretch")
BACKGROUNDS = ("any", "dark", "light")
BLANK = "blank: every pixel has the same level"


class PictureError(DataError):
    """A file that cannot be read as a picture."""


@dataclass(frozen=True)
class Reading:
    """How the pictures of a data set are read.

    Attributes:
        size: the rows and columns of the result.
        fit: "digit" finds the ink and places it as MNIST does, "letterbox" keeps the proportions and fills the rest
            with the level of the border, "stretch" scales each side by itself.
        levels: the levels that become 0 and 255. Levels outside are clipped. "digit" does not need them.
        background: "dark" or "light" inverts a picture whose border is on the other side; "any" inverts none. "digit"
            does not need it.
        ink: the least and the greatest mean level of an image of the training.
    """

    size: tuple[int, int]
    fit: str = "letterbox"
    levels: tuple[float, float] = (0.0, 255.0)
    background: str = "any"
    ink: tuple[float, float] = (0.0, 255.0)

    @classmethod
    def described(cls, constants: Mapping[str, Any]) -> Reading:
        """The reading that a model's signature `describe` answers, as `data.example.reading` has it.

        Raises:
            KeyError, IndexError, AttributeError, ValueError: they are not the constants of a model of images.
        """
        return cls(
            size=(int(constants["size"][0]), int(constants["size"][1])),
            fit=constants["fit"].decode(),
            levels=(float(constants["levels"][0]), float(constants["levels"][1])),
            background=constants["background"].decode(),
            ink=(float(constants["ink"][0]), float(constants["ink"][1])),
        )


def read(picture: np.ndarray, reading: Reading) -> tuple[np.ndarray, str]:
    """The pixels of a picture, uint8 of the reading's size, and a note if something is odd about it; else "".

    Args:
        picture: grey levels, float32 [height, width], as `load` and `grey` give them.
    """
    from data import digits  # only files need Pillow

    low, high = reading.levels
    if picture.min() < low or picture.max() > high or picture.max() <= 255 < high:  # another unit than the data set's
        low, high = _full_scale(picture)
    levels = np.clip((picture - low) * (255 / (high - low or 1)), 0, 255)
    pixels, note = digits.read(levels, reading.size) if reading.fit == "digit" else _fitted(levels, reading)
    mean = float(pixels.mean())
    if not note and not reading.ink[0] * 0.9 <= mean <= reading.ink[1] * 1.1:
        least, most = (f"{level / 255:.2f}" for level in reading.ink)
        note = f"unlike the training: {mean / 255:.2f} of it is ink, there {least} to {most}"
    return pixels, note


def _fitted(levels: np.ndarray, reading: Reading) -> tuple[np.ndarray, str]:
    border = border_of(levels)
    if reading.background != "any" and (np.median(border) > 127.5) != (reading.background == "light"):
        levels, border = 255 - levels, 255 - border
    note = BLANK if np.ptp(levels) == 0 else ""
    if levels.shape != reading.size:
        levels = _resized(levels, reading, float(np.median(border)))
    return np.rint(levels).astype(np.uint8), note


def border_of(picture: np.ndarray) -> np.ndarray:
    """The levels of the outermost pixels."""
    return np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])


def _full_scale(picture: np.ndarray) -> tuple[float, float]:
    """The usual range that holds the levels of a picture."""
    lowest, highest = float(picture.min()), float(picture.max())
    usual = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (0.0, 65535.0))
    return next(((low, high) for low, high in usual if low <= lowest and highest <= high), (lowest, highest))


def _resized(levels: np.ndarray, reading: Reading, border: float) -> np.ndarray:
    from PIL import Image

    height, width = rows, columns = reading.size
    if reading.fit == "letterbox":
        scale = min(rows / levels.shape[0], columns / levels.shape[1])
        height, width = (max(1, round(length * scale)) for length in levels.shape)
    image = Image.fromarray(levels.astype(np.float32)).resize((width, height), Image.Resampling.LANCZOS)
    canvas = np.full(reading.size, border)
    top, left = (rows - height) // 2, (columns - width) // 2
    canvas[top : top + height, left : left + width] = np.clip(np.asarray(image), 0, 255)
    return canvas


def load(
    file: Path | BinaryIO, name: object = None, formats: tuple[str, ...] | None = None, limit: float = math.inf
) -> np.ndarray:
    """The grey levels of a picture file, float32 [height, width].

    - Colours, also CMYK and palettes, become their luma: 0.299 R + 0.587 G + 0.114 B.
    - 1, 8 and 16 bits are on the scale 0 … 255. Integers of 32 bits and floating-point levels stay as they are.
    - Transparent pixels lie on white; if what is opaque is light, on black.
    - The picture is turned upright as its EXIF orientation says. Of several frames or pages, the first counts.

    Args:
        file: in any format that Pillow reads; HEIC with pillow-heif, the extra `heic`.
        name: what an error calls the file; None is its path, or "The picture".
        formats: the formats of Pillow to try; None is every one.
        limit: the largest number of pixels. More are not decoded.

    Raises:
        PictureError: it is not a picture of these formats, is damaged, or has too many pixels.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    name = name or (file if isinstance(file, Path) else "The picture")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as odd metadata
            with Image.open(file, formats=formats) as image:
                if image.width * image.height > limit:
                    raise PictureError(f"{name} has more than {limit:,} pixels. Make it smaller.")
                return _levels(ImageOps.exif_transpose(image))
    except PictureError:
        raise
    except UnidentifiedImageError:
        heic = _is_heic(file)
        if heic and _with_heic():
            return load(file, name, formats, limit)
        install = "is a HEIC picture: install pillow-heif (the extra heic), or save it as PNG or JPEG"
        unknown = "is not a picture that can be read: give a PNG file"
        raise PictureError(f"{name} {install if heic and not formats else unknown}.") from None
    except Exception as error:  # a damaged file raises nearly anything, such as struct.error for a TIFF
        if isinstance(error, OSError) and error.strerror:
            raise PictureError(f"{name} cannot be read: {error.strerror}.") from None
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PictureError(f"{name} cannot be read as a picture: {reason.rstrip('.')}. Replace it.") from None


def _is_heic(file: Path | BinaryIO) -> bool:
    """Whether the file has the mark of HEIC, which Pillow reads with pillow-heif only."""
    if isinstance(file, Path):
        with file.open("rb") as opened:
            start = opened.read(32)
    else:
        file.seek(0)
        start = file.read(32)
        file.seek(0)
    return start[4:8] == b"ftyp" and any(brand in start[8:] for brand in (b"heic", b"heix", b"heif", b"hevc", b"mif1"))


def _with_heic() -> bool:
    """Teaches Pillow to read HEIC; False if it knows it already, or pillow-heif is not installed."""
    from PIL import Image

    if "HEIF" in Image.OPEN:
        return False
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def _levels(image: Image.Image) -> np.ndarray:
    from PIL import Image

    if image.mode.startswith("I;16"):
        return _opaque(np.asarray(image).astype(np.float32) / 257, image.info.get("transparency"), 257)
    if image.mode in ("I", "F"):
        return np.asarray(image).astype(np.float32)
    if image.mode in ("RGBA", "LA", "PA", "P") or "transparency" in image.info:
        image = image.convert("RGBA")
        pixels = np.asarray(image.convert("L"), np.float32), np.asarray(image.getchannel("A"), np.float32)
        light = float(np.average(pixels[0], weights=pixels[1])) > 127.5 if pixels[1].any() else False
        under = Image.new("RGBA", image.size, "black" if light and pixels[1].min() < 255 else "white")
        image = Image.alpha_composite(under, image)
    return np.asarray(image.convert("L"), np.float32)


def _opaque(levels: np.ndarray, transparent: object, scale: int) -> np.ndarray:
    """The levels with white where a level is declared transparent."""
    if isinstance(transparent, int):
        levels[levels == np.float32(transparent) / scale] = 255
    return levels


def grey(array: np.ndarray) -> np.ndarray:
    """The grey levels of an array, float32 [height, width], in the array's own unit.

    Args:
        array: numbers [height, width], [height, width, 1] or [height, width, 3 or 4]: grey, RGB or RGBA.

    Raises:
        PictureError: another shape.
    """
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim == 3 and array.shape[2] in (3, 4):
        array = array[:, :, :3] @ np.array([0.299, 0.587, 0.114])
    if array.ndim != 2:
        raise PictureError(f"An array of the shape {list(array.shape)} is no picture: give [rows, columns].")
    return array.astype(np.float32)
