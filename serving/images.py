"""Image files to the pixels a model takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from serving.errors import ImageError


def read_images(
    paths: Sequence[str | Path], size: tuple[int, int], *, resize: bool = False, invert: bool = False
) -> np.ndarray:
    """Reads image files as grey levels, uint8 [N, rows, columns]; transparent pixels count as white.

    Args:
        paths: image files of any format Pillow reads.
        size: rows and columns.
        resize: scale images of another size, keeping their proportions, and centre them.
        invert: turn dark-on-light into the light-on-dark of MNIST.

    Raises:
        ImageError: a file that is no image, or of another size without `resize`.
    """
    return (
        np.stack([_read(Path(path), size, resize, invert) for path in paths]) if paths else np.zeros((0, *size), "u1")
    )


def _read(path: Path, size: tuple[int, int], resize: bool, invert: bool) -> np.ndarray:
    try:
        with Image.open(path) as file:
            image: Image.Image = ImageOps.exif_transpose(file)
            if image.mode.startswith("I"):  # 16 bits a pixel, which Pillow would cut off at 255
                image = Image.fromarray((np.asarray(image, np.int64) // 257).clip(0, 255).astype("u1"))
            if image.mode in ("RGBA", "LA", "PA", "P") or "transparency" in image.info:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            image = image.convert("L")
    except UnidentifiedImageError:
        raise ImageError(f"{path} is no image that can be read; give a PNG file.") from None
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from None
    rows, columns = size
    if invert:
        image = image.point([255 - level for level in range(256)])
    if image.size != (columns, rows):
        if not resize:
            raise ImageError(
                f"{path} has {image.height} × {image.width} pixels, the model takes {rows} × {columns}:"
                " give an image of that size, or ask for it to be resized"
                " (--resize; in Python, read_images(…, resize=True))."
            )
        image = _fitted(image, size)
    return np.asarray(image, np.uint8)


def _fitted(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The image scaled into `size` rows and columns and centred; what is left over takes the border's median level."""
    rows, columns = size
    pixels = np.asarray(image)
    border = int(np.median(np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])))
    scale = min(rows / image.height, columns / image.width)
    small = image.resize(
        (max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.LANCZOS
    )
    canvas = Image.new("L", (columns, rows), border)
    canvas.paste(small, ((columns - small.width) // 2, (rows - small.height) // 2))
    return canvas
