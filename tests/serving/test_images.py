"""Image files of many kinds, and the pixels that the model gets."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from serving.client.images import read_images
from serving.errors import ImageError

SIZE = (28, 28)


def save(folder: Path, pixels: np.ndarray, mode: str | None = None, name: str = "image.png", **options: object) -> Path:
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(folder / name, **options)
    return folder / name


def read(path: Path, size: tuple[int, int] = SIZE, **options: bool) -> np.ndarray:
    (image,) = read_images([path], size, **options)
    assert image.dtype == np.uint8 and image.shape == size
    return image


def test_grey_files_of_the_right_size_are_read_exactly_and_in_order(images: np.ndarray, tmp_path: Path) -> None:
    pixels = images[:5]
    paths = [save(tmp_path, image, name=f"{index}.png") for index, image in enumerate(pixels)]
    np.testing.assert_array_equal(read_images(paths, SIZE), pixels)
    np.testing.assert_array_equal(read_images([str(path) for path in paths[::-1]], SIZE), pixels[::-1])
    assert read_images([], SIZE).shape == (0, 28, 28)


def test_rows_and_columns_are_not_swapped(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 40), np.uint8)
    np.testing.assert_array_equal(read(save(tmp_path, pixels), (20, 40)), pixels)
    with pytest.raises(ImageError, match="has 20 × 40 pixels, but the model needs 40 × 20"):
        read(save(tmp_path, pixels), (40, 20))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "CMYK"])
def test_grey_levels_survive_every_colour_mode(mode: str, digit: np.ndarray, tmp_path: Path) -> None:
    name = "image.tif" if mode == "CMYK" else "image.png"
    np.testing.assert_array_equal(read(save(tmp_path, digit, mode, name)), digit)


def test_sixteen_bits_of_every_kind_are_scaled_and_their_transparent_level_is_white(
    digit: np.ndarray, tmp_path: Path
) -> None:
    deep = digit.astype(np.uint16) * 257
    for name in ("deep.png", "deep.tif"):
        np.testing.assert_array_equal(read(save(tmp_path, deep, name=name)), digit)
    Image.fromarray(deep.astype(np.int32)).save(tmp_path / "wide.tif")
    np.testing.assert_array_equal(read(tmp_path / "wide.tif"), digit)
    marked = np.full(SIZE, 257, np.uint16)
    found = read(save(tmp_path, marked, name="marked.png", transparency=257))
    np.testing.assert_array_equal(found, 255)


def test_what_has_no_rule_is_refused_with_its_reason(tmp_path: Path) -> None:
    for image, reason in (
        (Image.fromarray(np.full(SIZE, 0.5, np.float32)), "has floating-point pixels, whose range is not known"),
        (Image.fromarray(np.full(SIZE, 70_000, np.int32)), "has levels from 70000 to 70000, not 0 to 65535"),
        (Image.fromarray(np.full(SIZE, -1, np.int32)), "has levels from -1 to -1, not 0 to 65535"),
        (Image.new("LAB", SIZE), "cannot be read: conversion from LAB"),
    ):
        image.save(tmp_path / "odd.tif")
        with pytest.raises(ImageError, match=rf"odd\.tif {reason}"):
            read(tmp_path / "odd.tif")


def test_several_frames_are_the_first(digit: np.ndarray, tmp_path: Path) -> None:
    for name in ("frames.gif", "frames.tif"):
        frames = [Image.fromarray(255 - digit) for _ in range(2)]
        Image.fromarray(digit).save(tmp_path / name, save_all=True, append_images=frames)
        np.testing.assert_array_equal(read(tmp_path / name), digit)


@pytest.mark.parametrize(
    "failure",
    [ValueError("not enough"), IndexError(), KeyError("tag"), TypeError("None"), EOFError(), struct.error("unpack"),
     zlib.error("Error -3"), OverflowError("big"), MemoryError(), SyntaxError("broken PNG"), RuntimeError("codec"),
     AttributeError("palette")],
    ids=lambda failure: type(failure).__name__,
)  # fmt: skip
def test_whatever_pillow_raises_is_an_image_error(
    failure: Exception, digit: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Image.Image) -> None:
        raise failure

    path = save(tmp_path, digit)
    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    with pytest.raises(ImageError, match=r"image\.png cannot be read: \S"):
        read(path)


def test_a_palette_is_looked_up(digit: np.ndarray, tmp_path: Path) -> None:
    image = Image.fromarray(255 - digit).convert("P")
    image.putpalette([level for index in range(256) for level in [255 - index] * 3])
    image.putdata((255 - digit).ravel().tolist())
    image.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read(tmp_path / "palette.png"), digit)


def test_one_and_sixteen_bits_a_pixel_become_eight(digit: np.ndarray, tmp_path: Path) -> None:
    ink = digit > 127
    np.testing.assert_array_equal(read(save(tmp_path, ink)), ink * np.uint8(255))
    deep = digit.astype(np.uint16) * 257
    np.testing.assert_array_equal(read(save(tmp_path, deep, name="deep.png")), digit)


def test_colours_become_luma(tmp_path: Path) -> None:
    for colour, grey in (((255, 0, 0), 76), ((0, 255, 0), 150), ((0, 0, 255), 29)):
        found = read(save(tmp_path, np.full((*SIZE, 3), colour, np.uint8)))
        np.testing.assert_allclose(found, grey, atol=1)


def test_transparent_pixels_count_as_white(digit: np.ndarray, tmp_path: Path) -> None:
    ink = np.zeros((*SIZE, 4), np.uint8)  # black ink of varying opacity, as drawing programs save it
    ink[..., 3] = digit
    np.testing.assert_allclose(read(save(tmp_path, ink)), 255 - digit, atol=1)
    np.testing.assert_allclose(read(save(tmp_path, ink), invert=True), digit, atol=1)
    # A grey file may name one level as transparent.
    marked = save(tmp_path, np.full(SIZE, 7, np.uint8), transparency=7)
    np.testing.assert_array_equal(read(marked), 255)


def test_a_photograph_lies_as_it_was_taken(digit: np.ndarray, tmp_path: Path) -> None:
    rotated = Image.Exif()
    rotated[0x0112] = 6  # the camera was turned: rotate by 270° to see it upright
    path = save(tmp_path, np.rot90(digit), exif=rotated)
    np.testing.assert_array_equal(read(path), digit)


def test_another_size_is_refused_unless_it_may_be_resized(digit: np.ndarray, tmp_path: Path) -> None:
    path = save(tmp_path, np.kron(digit, np.ones((10, 10), np.uint8)))
    with pytest.raises(ImageError, match=r"image\.png has 280 × 280 pixels, but the model needs 28 × 28. .*--resize"):
        read(path)
    back = read(path, resize=True)
    np.testing.assert_allclose(back, digit, atol=40)  # the filter reaches over the edges of strokes
    assert np.abs(back.astype(int) - digit).mean() < 4
    assert np.corrcoef(back.ravel(), digit.ravel())[0, 1] > 0.99


def test_resizing_keeps_proportions_and_continues_the_border(tmp_path: Path) -> None:
    wide = np.full((20, 40), 200, np.uint8)
    wide[5:15, 10:30] = 0
    found = read(save(tmp_path, wide), resize=True)
    np.testing.assert_array_equal(found[[0, 6, 21, 27]], 200)  # 14 rows of picture between 7 above and 7 below
    np.testing.assert_array_equal(found[:, [0, -1]], 200)
    rows, columns = np.nonzero(found < 100)  # 10 × 20 dark pixels, scaled by 0.7
    assert np.ptp(rows) + 1 in (6, 7, 8) and np.ptp(columns) + 1 in (13, 14, 15)
    np.testing.assert_allclose([rows.mean(), columns.mean()], 13.5, atol=0.6)
    sliver = read(save(tmp_path, np.full((3, 900), 9, np.uint8)), resize=True)
    np.testing.assert_array_equal(sliver, 9)


def test_invert_turns_dark_on_light_round_also_before_resizing(digit: np.ndarray, tmp_path: Path) -> None:
    paper = save(tmp_path, 255 - digit)
    np.testing.assert_array_equal(read(paper, invert=True), digit)
    large = save(tmp_path, np.kron(255 - digit, np.ones((4, 2), np.uint8)))
    found = read(large, resize=True, invert=True)
    np.testing.assert_array_equal(found[:, :7], 0)  # the rest is background


def test_what_is_no_image_is_named_with_its_reason(digit: np.ndarray, tmp_path: Path) -> None:
    text, folder, missing = tmp_path / "notes.txt", tmp_path / "folder", tmp_path / "missing.png"
    text.write_text("no image")
    (tmp_path / "empty.png").touch()
    folder.mkdir()
    whole = save(tmp_path, digit).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    for path, reason in (
        (text, "is not an image"),
        (tmp_path / "empty.png", "is not an image"),
        (folder, "cannot be read: Is a directory"),
        (missing, "cannot be read: No such file or directory"),
        (tmp_path / "cut.png", "cannot be read: .*truncated"),
    ):
        with pytest.raises(ImageError, match=f"{path.name} {reason}"):
            read_images([tmp_path / "image.png", path], SIZE)


def test_a_small_file_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(bomb)
    with pytest.raises(ImageError, match=r"bomb\.png cannot be read: Image size .* exceeds limit"):
        read(tmp_path / "bomb.png", resize=True)


@pytest.mark.parametrize("kind", ["png", "gif", "tif", "bmp", "jpg", "pgm"])
def test_damage_is_an_image_error_and_nothing_else(kind: str, digit: np.ndarray, tmp_path: Path) -> None:
    whole = np.frombuffer(save(tmp_path, digit, name=f"whole.{kind}").read_bytes(), np.uint8)
    generator = np.random.default_rng(3)
    refused = 0
    for _ in range(150):
        damaged = whole.copy()
        damaged[generator.integers(0, len(whole), 3)] = generator.integers(0, 256, 3)
        path = tmp_path / f"damaged.{kind}"
        path.write_bytes(damaged.tobytes()[: generator.integers(8, len(whole) + 1)])
        try:
            read(path)
        except ImageError:
            refused += 1
    assert refused
