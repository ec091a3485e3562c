"""Picture files of many kinds, and the pixels that the model gets."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from data.pictures import PictureError, Reading, grey, load
from data.pictures import read as read_picture
from data.readers import Images

SIZE = (28, 28)


def save(folder: Path, pixels: np.ndarray, mode: str | None = None, name: str = "image.png", **options: object) -> Path:
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(folder / name, **options)
    return folder / name


@pytest.fixture
def digit(digits: dict[str, Images]) -> np.ndarray:
    return digits["test"].pixels[0]


def read(path: Path, size: tuple[int, int] = SIZE, **reading: object) -> np.ndarray:
    image, _ = read_picture(load(path), Reading(size, **reading))
    assert image.dtype == np.uint8 and image.shape == size
    return image


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
def test_whatever_pillow_raises_is_a_picture_error(
    failure: Exception, digit: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Image.Image) -> None:
        raise failure

    path = save(tmp_path, digit)
    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    with pytest.raises(PictureError, match=r"image\.png cannot be read as a picture: \S"):
        read(path)


def test_a_palette_is_looked_up(digit: np.ndarray, tmp_path: Path) -> None:
    image = Image.fromarray(255 - digit).convert("P")
    image.putpalette([level for index in range(256) for level in [255 - index] * 3])
    image.putdata((255 - digit).ravel().tolist())
    image.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read(tmp_path / "palette.png"), digit)


def test_colours_become_luma(tmp_path: Path) -> None:
    for colour, luma in (((255, 0, 0), 76), ((0, 255, 0), 150), ((0, 0, 255), 29)):
        found = read(save(tmp_path, np.full((*SIZE, 3), colour, np.uint8)))
        np.testing.assert_allclose(found, luma, atol=1)


def test_a_photograph_lies_as_it_was_taken(digit: np.ndarray, tmp_path: Path) -> None:
    rotated = Image.Exif()
    rotated[0x0112] = 6  # the camera was turned: rotate by 270° to see it upright
    path = save(tmp_path, np.rot90(digit), exif=rotated)
    np.testing.assert_array_equal(read(path), digit)


def test_resizing_keeps_proportions_and_continues_the_border(tmp_path: Path) -> None:
    wide = np.full((20, 40), 200, np.uint8)
    wide[5:15, 10:30] = 0
    found = read(save(tmp_path, wide))
    np.testing.assert_array_equal(found[[0, 6, 21, 27]], 200)  # 14 rows of picture between 7 above and 7 below
    np.testing.assert_array_equal(found[:, [0, -1]], 200)
    rows, columns = np.nonzero(found < 100)  # 10 × 20 dark pixels, scaled by 0.7
    assert np.ptp(rows) + 1 in (6, 7, 8) and np.ptp(columns) + 1 in (13, 14, 15)
    np.testing.assert_allclose([rows.mean(), columns.mean()], 13.5, atol=0.6)
    sliver = read(save(tmp_path, np.full((3, 900), 9, np.uint8)))
    np.testing.assert_array_equal(sliver, 9)


def test_a_small_file_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(bomb)
    with pytest.raises(PictureError, match=r"bomb\.png cannot be read as a picture: Image size .* exceeds limit"):
        read(tmp_path / "bomb.png")


@pytest.mark.parametrize("kind", ["png", "gif", "tif", "bmp", "jpg", "pgm"])
def test_damage_is_a_picture_error_and_nothing_else(kind: str, digit: np.ndarray, tmp_path: Path) -> None:
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
        except PictureError:
            refused += 1
    assert refused


def test_transparent_pixels_lie_on_white_and_light_ink_on_black(digit: np.ndarray, tmp_path: Path) -> None:
    ink = np.zeros((*SIZE, 4), np.uint8)  # ink of varying opacity, as drawing programs save it
    ink[..., 3] = digit
    np.testing.assert_allclose(read(save(tmp_path, ink)), 255 - digit, atol=1)
    ink[..., :3] = 255
    np.testing.assert_allclose(read(save(tmp_path, ink)), digit, atol=1)
    for fit in ("digit", "letterbox"):
        assert np.ptp(read(save(tmp_path, np.zeros_like(ink)), fit=fit)) == 0


def test_a_picture_on_the_other_background_is_inverted_before_it_is_resized(digit: np.ndarray, tmp_path: Path) -> None:
    paper = save(tmp_path, 255 - digit)
    np.testing.assert_array_equal(read(paper), 255 - digit)
    for background, expected in (("dark", digit), ("light", 255 - digit)):
        np.testing.assert_array_equal(read(paper, background=background), expected)
    large = save(tmp_path, np.kron(255 - digit, np.ones((4, 2), np.uint8)))
    found = read(large, background="dark")
    np.testing.assert_array_equal(found[:, :7], 0)  # the rest is background
    assert np.corrcoef(read(large, background="dark", fit="stretch").ravel(), digit.ravel())[0, 1] > 0.98


@pytest.mark.parametrize(
    ("dtype", "scale", "levels"),
    [
        (np.float32, 1 / 255, (0, 1)),
        (np.float32, 2 / 255, (0, 2)),
        (np.int32, 257, (0, 65535)),
        (np.uint8, 64 / 255, (0, 64)),
    ],
)
def test_levels_are_those_of_the_data_set(
    dtype: type, scale: float, levels: tuple[float, float], digit: np.ndarray, tmp_path: Path
) -> None:
    Image.fromarray((digit * scale).astype(dtype)).save(tmp_path / "levels.tif")
    np.testing.assert_allclose(read(tmp_path / "levels.tif", levels=levels), digit, atol=4)
    # A caller's picture may have another unit: that of its own kind.
    np.testing.assert_array_equal(read(save(tmp_path, digit), levels=levels), digit)


def test_arrays_of_grey_rgb_and_rgba_are_grey_levels(digit: np.ndarray) -> None:
    for array in (digit, digit[..., None], np.stack([digit] * 3, -1), np.stack([digit] * 4, -1)):
        np.testing.assert_allclose(grey(array), digit, rtol=1e-6)
    with pytest.raises(PictureError, match=r"shape \[2, 3, 4, 5\] is no picture"):
        grey(np.zeros((2, 3, 4, 5)))


@pytest.mark.parametrize("fit", ["digit", "letterbox"])
def test_a_picture_unlike_the_training_and_a_blank_one_have_a_note(fit: str, digit: np.ndarray) -> None:
    reading = Reading(SIZE, fit, ink=(digit.mean() * 0.95, digit.mean() * 1.05))
    assert read_picture(digit.astype(np.float32), reading)[1] == ""
    disc = ((np.mgrid[:90, :90] - 45) ** 2).sum(axis=0) < 1600
    assert read_picture(disc * np.float32(255), reading)[1].startswith("unlike the training: 0.")
    assert read_picture(np.full((50, 40), 77, np.float32), reading)[1].startswith("blank")


def test_what_is_no_picture_is_named_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "empty.png").touch()
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(50))
    for name, reason in (
        ("notes.txt", "is not a picture"),
        ("empty.png", "is not a picture"),
        ("phone.heic", "is a HEIC picture: install pillow-heif|cannot be read as a picture"),
        ("", "cannot be read: Is a directory"),
        ("missing.png", "cannot be read: No such file or directory"),
    ):
        with pytest.raises(PictureError, match=f"{name} ({reason})"):
            load(tmp_path / name)
