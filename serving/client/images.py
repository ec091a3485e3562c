"""What the model's inputs are: grey images, uint8 [N, rows, columns], light on dark.

This file alone knows it. A fork with other inputs, for example float32 [N, T, F], replaces these functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from serving.client.results import Metadata
from serving.errors import ConfigError, ImageError

if TYPE_CHECKING:
    from PIL import Image


def check_images(images: np.ndarray) -> np.ndarray:
    """Returns `images` if they are uint8 [N, rows, columns].

    Raises:
        ImageError: another dtype or rank.
    """
    if images.dtype != np.uint8 or images.ndim != 3:
        raise ImageError(
            f"Images must be uint8 [N, rows, columns], not {images.dtype} {list(images.shape)}. Scale the pixels to"
            " 0 … 255 and convert them with .astype('uint8'). For one image, use image[None]."
        )
    return images


def image_size(metadata: Metadata) -> tuple[int, int]:
    """The rows and columns of the model's input images.

    Raises:
        ConfigError: the model has no signature `predict_images` with an input `images`.
    """
    signature = metadata.signatures.get("predict_images")
    if signature is None or "images" not in signature.inputs:
        raise ConfigError(
            f"Version {metadata.version} has no signature predict_images with an input images."
            f" It has these signatures: {', '.join(metadata.signatures)}."
        )
    _, rows, columns = signature.inputs["images"].shape
    return rows, columns


def random_images(count: int, size: tuple[int, int]) -> np.ndarray:
    """Random pixels, uint8 [count, rows, columns]. Every call gives the same pixels."""
    return np.random.default_rng(0).integers(0, 256, (count, *size), np.uint8)


def read_images(
    paths: str | Path | Sequence[str | Path], size: tuple[int, int], *, resize: bool = False, invert: bool = False
) -> np.ndarray:
    """Reads image files as grey levels, uint8 [N, rows, columns]. Transparent pixels become white.

    Args:
        paths: image files in a format that Pillow reads.
        size: rows and columns.
        resize: scales images of another size. The proportions stay, and the image is centred.
        invert: turns dark on light into light on dark, as in MNIST.

    Raises:
        ImageError: `paths` are not paths, a file is not an image, or it has another size and `resize` is False.
    """
    files = [paths] if isinstance(paths, (str, Path)) else [*paths]
    if not all(isinstance(file, (str, Path)) for file in files):
        raise ImageError("Give the images as one uint8 array [N, rows, columns] or as paths of image files.")
    images = [_read(Path(file), size, resize, invert) for file in files]
    return np.stack(images) if images else np.zeros((0, *size), np.uint8)


def _read(path: Path, size: tuple[int, int], resize: bool, invert: bool) -> np.ndarray:
    from PIL import Image, ImageOps, UnidentifiedImageError  # only files need Pillow

    try:
        with Image.open(path) as file:
            image: Image.Image = ImageOps.exif_transpose(file)
            if image.mode.startswith("I"):  # 16 bits per pixel; Pillow's convert would clip them at 255
                image = Image.fromarray((np.asarray(image, np.int64) // 257).clip(0, 255).astype("u1"))
            if image.mode in ("RGBA", "LA", "PA", "P") or "transparency" in image.info:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            image = image.convert("L")
    except UnidentifiedImageError:
        raise ImageError(f"{path} is not an image. Give a PNG file.") from None
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from None
    rows, columns = size
    if invert:
        image = image.point([255 - level for level in range(256)])
    if image.size != (columns, rows):
        if not resize:
            raise ImageError(
                f"{path} has {image.height} × {image.width} pixels, but the model needs {rows} × {columns}. Give an"
                " image of that size, or use --resize (in Python: read_images(…, resize=True))."
            )
        image = _fit(image, size)
    return np.asarray(image, np.uint8)


def _fit(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Scales an image into `size` and centres it. The rest gets the median level of the image's border."""
    from PIL import Image

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
