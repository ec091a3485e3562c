"""What the model's inputs are: grey images, uint8 [N, rows, columns], light on dark.

This file alone knows it. A fork with other inputs, for example float32 [N, T, F], replaces these functions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from serving.client.results import Metadata
from serving.errors import ConfigError, ImageError

if TYPE_CHECKING:
    from PIL import Image


def check_images(images: np.ndarray) -> np.ndarray:
    """Returns `images` if they are uint8 [N, rows, columns].

    Raises:
        ImageError: not an array, or another dtype or rank.
    """
    if not isinstance(images, np.ndarray):
        raise ImageError(f"Images must be one array, uint8 [N, rows, columns], not {type(images).__name__}.")
    if images.dtype != np.uint8 or images.ndim != 3:
        raise ImageError(
            f"Images must be uint8 [N, rows, columns], not {images.dtype} {list(images.shape)}. Scale the pixels to"
            " 0 … 255 and convert them with .astype('uint8'). For one image, use image[None]."
        )
    return images


def image_size(metadata: Metadata) -> tuple[int, int]:
    """The rows and columns of the model's input images.

    Raises:
        ConfigError: the model has no signature `predict_images` with an input `images` of a fixed size.
    """
    signature = metadata.signatures.get("predict_images")
    if signature is None or "images" not in signature.inputs:
        raise ConfigError(
            f"Version {metadata.version} has no signature predict_images with an input images."
            f" It has these signatures: {', '.join(metadata.signatures)}."
        )
    shape = signature.inputs["images"].shape
    if shape is None or len(shape) != 3 or min(shape[1:]) < 1:
        raise ConfigError(
            f"The model's input images has the shape {shape}: no fixed size. Give the images as an array."
        )
    return shape[1], shape[2]


def random_images(count: int, size: tuple[int, int]) -> np.ndarray:
    """Random pixels, uint8 [count, rows, columns]. Every call gives the same pixels."""
    return np.random.default_rng(0).integers(0, 256, (count, *size), np.uint8)


def read_images(
    paths: str | Path | Sequence[str | Path], size: tuple[int, int], *, resize: bool = False, invert: bool = False
) -> np.ndarray:
    """Reads image files as grey levels, uint8 [N, rows, columns].

    serving/README.md says what becomes of each mode of Pillow. Of several frames the first counts. An image lies as its
    EXIF orientation says.

    Args:
        paths: image files in a format that Pillow reads.
        size: rows and columns.
        resize: scales images of another size. The proportions stay, and the image is centred.
        invert: turns dark on light into light on dark, as in MNIST.

    Raises:
        ImageError: `paths` are not paths, a file is not an image or is damaged, or it has another size and `resize` is
            False.
    """
    files = [paths] if isinstance(paths, (str, Path)) or not isinstance(paths, Iterable) else [*paths]
    if not all(isinstance(file, (str, Path)) for file in files):
        raise ImageError("Give the images as one uint8 array [N, rows, columns] or as paths of image files.")
    images = [_read(Path(file), size, resize, invert) for file in files]
    return np.stack(images) if images else np.zeros((0, *size), np.uint8)


def _read(path: Path, size: tuple[int, int], resize: bool, invert: bool) -> np.ndarray:
    image = read_grey(path, path)
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


def read_grey(
    file: Path | BinaryIO, name: object, formats: tuple[str, ...] | None = None, limit: float = math.inf
) -> Image.Image:
    """Reads one image in mode L, by the rules of `read_images`.

    Args:
        file: the file, which an error calls `name`.
        formats: the formats of Pillow to try; None is every one.
        limit: the largest number of pixels. More are not decoded.

    Raises:
        ImageError: it is not an image of these formats, is damaged, or has too many pixels.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError  # only files need Pillow

    try:
        with Image.open(file, formats=formats) as image:
            if image.width * image.height > limit:
                raise ImageError(f"has more than {limit:,} pixels. Make it smaller.")
            return _grey(ImageOps.exif_transpose(image))
    except UnidentifiedImageError:
        raise ImageError(f"{name} is not an image. Give a PNG file.") from None
    except ImageError as error:
        raise ImageError(f"{name} {error}") from None
    except Exception as error:  # a damaged file raises whatever Pillow's decoder meets
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ImageError(f"{name} cannot be read: {reason}.") from None


def _grey(image: Image.Image) -> Image.Image:
    from PIL import Image

    if image.mode == "F":
        raise ImageError("has floating-point pixels, whose range is not known. Give a PNG file.")
    if image.mode.startswith("I"):  # Pillow's convert would clip at 255
        levels, transparent = np.array(image, np.int64), image.info.get("transparency")
        if levels.min() < 0 or levels.max() > 65535:
            raise ImageError(f"has levels from {levels.min()} to {levels.max()}, not 0 to 65535. Give a PNG file.")
        if isinstance(transparent, int):
            levels[levels == transparent] = 65535
        return Image.fromarray((levels // 257).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "P") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L")


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
