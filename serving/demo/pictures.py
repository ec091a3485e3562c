"""Turns uploaded bytes into grey pixels: limits before anything is decoded, then the client's own rule."""

from __future__ import annotations

import io
import tempfile
import warnings

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from serving.client.images import read_images
from serving.errors import ImageError

MAX_BYTES = 4 * 2**20
MAX_PIXELS = 2**24
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP")
_ENOUGH = 1024  # pixels of the longer side: more tell nothing about a box of 20 × 20


class PictureError(Exception):
    """A sentence about a picture that cannot be read."""


def decode(content: bytes) -> np.ndarray:
    """The picture as grey levels, uint8 [height, width], by the rules of `serving.client.images.read_images`.

    No pixel is decoded before the header has told how many there are.

    Raises:
        PictureError: not such a picture, too many pixels, or damaged.
    """
    height, width = _size(content)
    scale = min(1, _ENOUGH / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    with tempfile.NamedTemporaryFile() as file:  # the client reads paths
        file.write(content)
        file.flush()
        try:
            return read_images(file.name, size, resize=True)[0]
        except ImageError as error:
            raise PictureError(str(error).replace(file.name, "The picture")) from None


def _size(content: bytes) -> tuple[int, int]:
    """Height and width of the picture as it lies after its EXIF orientation."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit here is lower
        try:
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise Image.DecompressionBombError
                turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
        except Image.DecompressionBombError:
            raise PictureError(f"The picture has more than {MAX_PIXELS:,} pixels. Make it smaller.") from None
        except UnidentifiedImageError:
            raise PictureError("That is not a picture. Give a PNG, JPEG, GIF, BMP or WebP file.") from None
        except Exception as error:  # a damaged file raises whatever Pillow's reader meets
            raise PictureError(f"The picture cannot be read: {error or type(error).__name__}.") from None
    return (width, height) if turned else (height, width)
