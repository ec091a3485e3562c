"""Picture files of every mode become grey levels."""

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.build import main
from data.errors import DataError
from data.pictures import Reading, load, read
from tests.conftest import read_images

SIZE = (6, 8)
INK = np.random.default_rng(0).integers(0, 256, SIZE, np.uint8)


def levels_of(path: Path) -> np.ndarray:
    return read(load(path), Reading(SIZE))[0]


def files(folder: Path) -> dict[str, tuple[Path, np.ndarray | None]]:
    """Files of all modes, and the levels each must become; None where a lossy conversion decides."""
    folder.mkdir(parents=True)
    made: dict[str, tuple[Path, np.ndarray | None]] = {}

    def save(name: str, image: Image.Image, levels: np.ndarray | None, **options: object) -> None:
        path = folder / name
        image.save(path, **options)
        made[name] = path, levels

    grey = Image.fromarray(INK)
    save("L.png", grey, INK)
    for mode, kind in (("RGB", "png"), ("RGBA", "png"), ("LA", "png"), ("CMYK", "tif"), ("RGB", "bmp")):
        save(f"{mode}.{kind}", grey.convert(mode), INK)
    save("red.png", Image.new("RGB", SIZE[::-1], (255, 0, 0)), np.full(SIZE, 76))
    save("photo.jpg", grey.convert("RGB"), None)
    save("cmyk.jpg", grey.convert("CMYK"), None)
    save("1.png", Image.fromarray(INK > 127), (INK > 127) * 255)
    save("16.png", Image.fromarray(INK.astype(np.uint16) * 257), INK)
    save("16.tif", Image.fromarray(INK.astype(np.uint16) * 257), INK)
    save("16-dark.png", Image.fromarray(np.full(SIZE, 300, np.uint16)), np.full(SIZE, 1))
    black = np.zeros((*SIZE, 4), np.uint8)
    black[..., 3] = INK
    save("black-of-varying-opacity.png", Image.fromarray(black), 255 - INK)
    save("half.png", Image.merge("LA", (Image.new("L", SIZE[::-1], 100), Image.new("L", SIZE[::-1], 0))),
         np.full(SIZE, 255))  # fmt: skip
    save("level-7-is-clear.png", Image.fromarray(np.full(SIZE, 7, np.uint8)), np.full(SIZE, 255), transparency=7)
    palette = Image.fromarray((INK > 127).astype(np.uint8)).convert("P")
    palette.putpalette([10, 10, 10, 200, 200, 200])
    palette.putdata((INK > 127).astype(np.uint8).ravel().tolist())
    save("palette.png", palette, np.where(INK > 127, 200, 10))
    save("palette.gif", palette, np.where(INK > 127, 200, 10))
    save("clear-palette.png", palette, np.where(INK > 127, 200, 0), transparency=0)
    turned = Image.Exif()
    turned[0x0112] = 6
    save("turned.png", Image.fromarray(np.rot90(INK)), INK, exif=turned)
    save("pages.tif", grey, INK, save_all=True, append_images=[Image.new("L", (3, 3))])
    return made


def test_every_mode_follows_the_rule(tmp_path: Path) -> None:
    for name, (path, levels) in files(tmp_path / "files").items():
        found = levels_of(path)
        assert found.dtype == np.uint8 and found.shape == SIZE, name
        if levels is not None:
            np.testing.assert_allclose(found.astype(int), levels, atol=1, err_msg=name)


def test_a_folder_of_mixed_modes_is_built(tmp_path: Path) -> None:
    classes, out = tmp_path / "classes", tmp_path / "out"
    for name in ("a", "b"):
        files(classes / name)
    options = ["--eval", "4", "--test", "4", "--seed", "1", "--allow-blank", "--fit", "letterbox"]
    assert main(["--folder", str(classes), "--out", str(out), *options]) == 0
    expected = [levels_of(path).tobytes() for path in sorted(classes.glob("*/*"))]
    found = [image.tobytes() for split in ("train", "eval", "test") for image in read_images(out, split, *SIZE).pixels]
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("kind", ["png", "gif", "tif", "bmp", "jpg"])
def test_whatever_is_damaged_the_error_is_one_sentence(tmp_path: Path, kind: str) -> None:
    options = {"compression": "tiff_lzw"} if kind == "tif" else {}
    Image.fromarray(INK).save(tmp_path / f"whole.{kind}", **options)
    whole = np.frombuffer((tmp_path / f"whole.{kind}").read_bytes(), np.uint8)
    generator, path, refused = np.random.default_rng(5), tmp_path / f"damaged.{kind}", 0
    for _ in range(300):
        damaged = whole.copy()
        damaged[generator.integers(0, len(whole), 3)] = generator.integers(0, 256, 3)
        path.write_bytes(damaged.tobytes()[: generator.integers(8, len(whole) + 1)])
        try:
            load(path)
        except DataError as error:
            assert str(error).startswith(f"{path} ") and "\n" not in str(error)
            refused += 1
    assert refused > 30


def test_a_mode_without_grey_levels_is_refused(tmp_path: Path) -> None:
    Image.new("LAB", (8, 6)).save(tmp_path / "lab.tif")  # Pillow raises a ValueError
    with pytest.raises(DataError, match=r"lab\.tif cannot be read as a picture: conversion from LAB"):
        load(tmp_path / "lab.tif")


def test_a_damaged_tiff_ends_the_build_with_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        (tmp_path / "classes" / name).mkdir(parents=True)
        for index in range(4):
            Image.fromarray(INK).save(tmp_path / "classes" / name / f"{index}.tif")
    broken = tmp_path / "classes" / "b" / "2.tif"
    content = bytearray(broken.read_bytes())
    at = int.from_bytes(content[4:8], "little")
    content[at : at + 2] = struct.pack("<H", 60_000)  # the directory claims more entries than the file has
    broken.write_bytes(bytes(content[: at + 20]))
    options = ["--folder", str(tmp_path / "classes"), "--eval", "2", "--test", "2", "--seed", "1"]
    assert main([*options, "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert f"{broken} is not a picture" in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["classes"]
