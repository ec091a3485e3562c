"""The demo's way from a drawing or a photograph to what MNIST looks like."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from data.readers import Images
from serving.demo.digits import load
from serving.demo.normalize import MAX_PIXELS, decode, normalize
from serving.errors import ImageError


def png(array: np.ndarray, **options: object) -> bytes:
    """The picture as a file."""
    file = io.BytesIO()
    Image.fromarray(array).save(file, **{"format": "PNG", **options})
    return file.getvalue()


def blob(seed: int, height: int, width: int) -> np.ndarray:
    """Light ink on black: a smooth random shape, well within the picture."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    ink = np.zeros((height, width))
    for _ in range(5):
        at = generator.uniform(0.3, 0.7, 2) * (height, width)
        ink = np.maximum(ink, 400 * np.exp(-((y - at[0]) ** 2 + (x - at[1]) ** 2) / (2 * (height / 18) ** 2)))
    return np.clip(ink, 0, 255).astype(np.uint8)


def lanczos(length: int, new: int) -> np.ndarray:
    """The weights [new, length] of an antialiased Lanczos filter with three lobes."""
    scale = length / new
    offsets = (np.arange(length) + 0.5 - (np.arange(new)[:, None] + 0.5) * scale) / max(scale, 1)
    weights = np.where(np.abs(offsets) < 3, np.sinc(offsets) * np.sinc(offsets / 3), 0)
    return weights / weights.sum(axis=1, keepdims=True)


def reference(light: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """MNIST's convention in plain NumPy, for light ink on a clean black ground, larger than the result."""
    ink = np.where(light < light.max() / 8, 0.0, light)
    y, x = np.nonzero(ink)
    ink = ink[y.min() : y.max() + 1, x.min() : x.max() + 1]
    factor = min(round(rows * 20 / 28) / ink.shape[0], round(columns * 20 / 28) / ink.shape[1])
    height, width = (max(1, round(length * factor)) for length in ink.shape)
    small = np.clip(lanczos(ink.shape[0], height) @ ink @ lanczos(ink.shape[1], width).T, 0, ink.max())
    small *= 255 / small.max()
    y, x = np.mgrid[:height, :width]
    top = min(max(round(rows / 2 - (small * y).sum() / small.sum()), 0), rows - height)
    left = min(max(round(columns / 2 - (small * x).sum() / small.sum()), 0), columns - width)
    field = np.zeros((rows, columns))
    field[top : top + height, left : left + width] = small
    return field


@pytest.mark.parametrize("size", [(28, 28), (32, 32), (20, 40)], ids=str)
@pytest.mark.parametrize("picture", [(300, 300), (480, 200), (90, 700)], ids=str)
def test_a_picture_is_normalized_as_numpy_says(picture: tuple[int, int], size: tuple[int, int]) -> None:
    for seed in range(4):
        light = blob(seed, *picture)
        found = normalize(light, size).astype(int)
        assert np.abs(found - reference(light, *size)).max() <= 1
        assert np.abs(found - normalize(255 - light, size)).max() == 0  # dark on light is the same picture
        ink = np.nonzero(found)
        extent = [int(np.ptp(axis)) + 1 for axis in ink]
        assert all(length <= round(side * 20 / 28) for length, side in zip(extent, size, strict=True))
        assert any(abs(length - side * 20 / 28) <= 1.5 for length, side in zip(extent, size, strict=True))
        centre = [(found * axis).sum() / found.sum() for axis in np.mgrid[: size[0], : size[1]]]
        assert np.abs(np.subtract(centre, np.array(size) / 2)).max() <= 0.51


def test_a_digit_of_mnist_comes_out_as_it_went_in(digits: dict[str, Images]) -> None:
    for pixels in digits["test"].pixels:
        assert np.array_equal(normalize(pixels), pixels)
        assert np.array_equal(normalize(255 - pixels), pixels)


def test_a_digit_drawn_large_is_close_to_itself(digits: dict[str, Images]) -> None:
    differences = []
    for pixels in digits["test"].pixels[:60]:
        large = Image.fromarray(255 - pixels).resize((280, 280), Image.Resampling.BICUBIC)
        paper = Image.new("L", (500, 400), 255)
        paper.paste(large, (180, 30))
        found = normalize(decode(png(np.asarray(paper))))
        differences.append(np.abs(found.astype(int) - pixels).mean())
    assert np.mean(differences) < 8 and max(differences) < 25  # of 255 levels; the mean of a digit is 33


def test_grain_and_grey_paper_do_not_count_as_ink(digits: dict[str, Images]) -> None:
    generator, differences = np.random.default_rng(1), []
    for pixels in digits["test"].pixels[:40]:
        large = np.asarray(Image.fromarray(pixels).resize((280, 280), Image.Resampling.BICUBIC), np.float64)
        clean = normalize(large.astype(np.uint8))
        photograph = 190 - np.pad(large, 60) / 255 * 120 + generator.normal(0, 2.5, (400, 400))
        found = normalize(np.clip(photograph, 0, 255).astype(np.uint8))
        differences.append(np.abs(found.astype(int) - clean).mean())
    assert np.mean(differences) < 6 and max(differences) < 25  # most of it where the place differs by one pixel


def test_a_blank_picture_is_refused() -> None:
    grain = np.random.default_rng(2).normal(128, 4, (200, 200)).astype(np.uint8)
    for blank in (
        np.zeros((28, 28), np.uint8),
        np.full((300, 200), 255, np.uint8),
        np.full((1, 1), 9, np.uint8),
        grain,
    ):
        with pytest.raises(ImageError):
            normalize(blank)


def test_the_smallest_pictures_are_pictures() -> None:
    dot = np.zeros((3, 3), np.uint8)
    dot[1, 1] = 255
    assert normalize(dot).sum() > 0 and normalize(dot, (1, 1)).shape == (1, 1)
    line = np.zeros((400, 400), np.uint8)
    line[5:395, 200] = 255  # thinner than a pixel of the result
    assert normalize(line).max() == 255 and (normalize(line).any(axis=1)).sum() == 20


def test_a_file_is_read_by_the_clients_rule() -> None:
    levels = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    assert np.array_equal(decode(png(levels)), levels)
    clear = np.dstack([np.zeros((3, 4), np.uint8)] * 3 + [np.zeros((3, 4), np.uint8)])
    assert (decode(png(clear)) == 255).all()  # what is transparent is white
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    assert decode(png(levels, exif=exif)).shape == (4, 3)
    assert decode(png(np.zeros((600, 3000), np.uint8))).shape == (205, 1024)


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


@pytest.mark.parametrize("side", [2**12 + 1, 2**16, 2**30])
def test_a_picture_with_too_many_pixels_is_not_decoded(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("it was decoded"))
    with pytest.raises(ImageError, match=f"more than {MAX_PIXELS:,} pixels|exceeds limit"):
        decode(bomb)


def test_what_is_no_picture_gets_a_sentence() -> None:
    whole = png(np.random.default_rng(3).integers(0, 256, (50, 50), np.uint8))
    other = png(np.zeros((5, 5), np.uint8), format="TIFF")
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n"
    for content in (b"", b"text", whole[:30], whole[:200], other, postscript):
        with pytest.raises(ImageError) as caught:
            decode(content)
        assert str(caught.value).endswith(".") and "/" not in str(caught.value)


def test_the_page_has_each_digit_twice() -> None:
    digits = load()
    assert digits.labels.tolist() == [*range(10), *range(10)] and len(set(digits.positions.tolist())) == 20
    assert digits.pixels.shape == (20, 28, 28) and load((32, 24)).pixels.shape == (20, 32, 24)


@pytest.mark.slow
def test_the_digits_are_those_of_the_shards() -> None:
    from tests.serving.demo_digits import pick

    digits = load()
    pixels, labels = pick(digits.positions.tolist())
    assert np.array_equal(pixels, digits.pixels) and np.array_equal(labels, digits.labels)
