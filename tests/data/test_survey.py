"""data.build looks at the data set as a whole: levels, sizes, fit, blank pictures, copies, and what it leaves out."""

import shutil
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data.build import main
from data.readers import Images
from tests.conftest import read_images
from tests.data.formats import Digits, class_tree
from tests.data.sources import save_npz

NOISE = np.random.default_rng(0)


@pytest.fixture(scope="module")
def some(digits: Digits) -> Digits:
    return {split: digits[split].take(slice(0, 60)) for split in digits}


def built(source: Path, *options: str) -> dict[str, Any]:
    """Builds, and returns the section [data] of the profile."""
    out = source.parent / "out"
    shutil.rmtree(out, ignore_errors=True)
    assert main([str(source), "--out", str(out), *options]) == 0
    return tomllib.loads((out / "profile.toml").read_text())["data"]


def noise(count: int, low: float, high: float, dtype: str) -> Images:
    pixels = NOISE.uniform(low, high, (count, 6, 7))
    pixels[0, 0, :2] = low, high
    pixels = np.rint(pixels) if np.dtype(dtype).kind in "iu" else pixels
    return Images(pixels.astype(dtype), NOISE.permutation(np.arange(count) % 3))


@pytest.mark.parametrize(
    ("low", "high", "dtype", "levels"),
    [
        (0, 255, "uint8", None),
        (3, 200, "int64", None),
        (0, 255, "float32", None),
        (0.5, 250.5, "float64", None),
        (0, 1, "float32", [0.0, 1.0]),
        (0, 1, "uint8", [0.0, 1.0]),
        (-1, 1, "float32", [-1.0, 1.0]),
        (0, 16, "uint8", [0.0, 16.0]),
        (2, 16, "float64", [2.0, 16.0]),
        (0, 65535, "uint16", [0.0, 65535.0]),
        (0, 4095, "uint16", [0.0, 4095.0]),
        (-3, 5, "float32", [-3.0, 5.0]),
        (-128, 127, "int8", [-128.0, 127.0]),
    ],
)
def test_levels_are_those_of_the_whole_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], low: float, high: float, dtype: str, levels: list[float] | None
) -> None:
    images = noise(40, low, high, dtype)
    source = save_npz(tmp_path / "a.npz", (images, noise(12, low, high, dtype)))
    assert built(source).get("levels") == levels
    bottom, top = levels or (0.0, 255.0)
    said = f"Levels {bottom:g} to {top:g}" + (", scaled to 0 to 255" if levels else "")
    assert capsys.readouterr().out.count(f"{said}. ") == 1
    kept = len(images) - len(images) // 7
    expected = np.rint((images.pixels[:kept].astype(float) - bottom) * 255 / (top - bottom))
    np.testing.assert_allclose(read_images(tmp_path / "out", "train", 6, 7).pixels, expected, atol=1)


@pytest.mark.parametrize("scale", [1 / 255, 257])
def test_splits_in_different_units_are_refused(
    tmp_path: Path, some: Digits, capsys: pytest.CaptureFixture[str], scale: float
) -> None:
    test = Images(some["test"].pixels * np.float64(scale), some["test"].labels)
    source = save_npz(tmp_path / "a.npz", (some["train"], test))
    assert main([str(source), "--out", str(tmp_path / "out")]) == 1
    split, most = ("test", 1) if scale < 1 else ("train", 255)
    assert f"The images of the {split} split have levels 0 to {most}, but all have 0 to " in capsys.readouterr().err


def test_levels_can_be_told(tmp_path: Path) -> None:
    source = save_npz(tmp_path / "a.npz", (noise(40, 0, 16, "uint8"), noise(12, 0, 16, "uint8")))
    assert built(source, "--levels", "0,8")["levels"] == [0.0, 8.0]
    assert read_images(tmp_path / "out", "train", 6, 7).pixels[0, 0, :2].tolist() == [0, 255]


@pytest.mark.parametrize(("mode", "scale"), [("F", 1 / 255), ("I", 1000)])
def test_picture_files_of_32_bits_have_levels_of_the_whole_set(
    tmp_path: Path, some: Digits, capsys: pytest.CaptureFixture[str], mode: str, scale: float
) -> None:
    train = some["train"]
    pixels = (train.pixels.astype(np.float64) * scale).astype(np.float32 if mode == "F" else np.int32)
    folder = class_tree(tmp_path / "a", Images(pixels, train.labels), kind="tif")
    data = built(folder)
    assert data["levels"] == [0.0, 1.0 if mode == "F" else 255_000.0] and data["fit"] == "digit"
    parts = [read_images(tmp_path / "out", split).pixels for split in ("train", "eval", "test")]
    assert {p.tobytes() for part in parts for p in part} == {p.tobytes() for p in train.pixels}
    Image.fromarray(train.pixels[0]).save(folder / "0" / "grey.tif")
    assert main([str(folder), "--out", str(tmp_path / "other")]) == 1
    assert "grey.tif has levels 0 to 255: save all in one form, or say" in capsys.readouterr().err


def test_fit_background_and_size(tmp_path: Path, some: Digits, capsys: pytest.CaptureFixture[str]) -> None:
    train = some["train"]
    mnist = save_npz(tmp_path / "a.npz", (train, some["test"]))
    assert (data := built(mnist))["fit"] == "digit" and data["background"] == "dark"
    inverse = save_npz(tmp_path / "b.npz", (Images(255 - train.pixels, train.labels), some["test"]))
    assert built(inverse, "--fit", "letterbox")["background"] == "light"
    assert "Fit letterbox, as told. Choose with --fit {digit,letterbox,stretch}." in capsys.readouterr().out
    assert (data := built(mnist, "--fit", "stretch", "--size", "14x20"))["fit"] == "stretch"
    assert (data["rows"], data["columns"]) == (14, 20)
    rolled = save_npz(tmp_path / "c.npz", (Images(np.roll(train.pixels, 5, axis=1), train.labels), some["test"]))
    assert built(rolled)["fit"] == "letterbox"  # arrays that are not as MNIST has them

    pages = [np.full((90 + index, 120), 250, np.uint8) for index in range(len(train))]
    for page, digit in zip(pages, train.pixels, strict=True):
        page[30:58, 40:68] -= digit // 2
    for name, names in (("characters", "0123456789"), ("words", "abcdefghij")):
        for at, (page, label) in enumerate(zip(pages, train.labels, strict=True)):
            path = tmp_path / name / (names[label] if name == "characters" else f"class {names[label]}") / f"{at}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(page).save(path)
    assert (data := built(tmp_path / "characters"))["fit"] == "digit" and (data["rows"], data["columns"]) == (28, 28)
    assert main([str(tmp_path / "words"), "--out", str(tmp_path / "no")]) == 1
    assert "60 sizes" in (error := capsys.readouterr().err) and "with --size 64x64." in error
    assert (data := built(tmp_path / "words", "--size", "48x64"))["fit"] == "letterbox"
    assert data["background"] == "light"


def test_blank_pictures_are_refused_by_name_unless_allowed(
    tmp_path: Path, some: Digits, capsys: pytest.CaptureFixture[str]
) -> None:
    train, out = some["train"], str(tmp_path / "out")
    pixels = train.pixels.copy()
    pixels[17] = 0
    source = save_npz(tmp_path / "a.npz", (Images(pixels, train.labels), some["test"]))
    assert main([str(source), "--out", out]) == 1
    assert "training example 17 is blank: all its pixels have one level" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    built(source, "--allow-blank")
    assert "Odd: 1 blank, such as training example 17" in capsys.readouterr().out
    folder = class_tree(tmp_path / "b", train)
    Image.new("L", (28, 28), 90).save(folder / "3" / "empty.png")
    shutil.rmtree(out)
    assert main([str(folder), "--out", out]) == 1
    assert f"{folder}/3/empty.png is blank" in capsys.readouterr().err


def test_copies_between_splits_are_said(tmp_path: Path, some: Digits, capsys: pytest.CaptureFixture[str]) -> None:
    built(save_npz(tmp_path / "a.npz", (some["train"], some["test"])))
    assert "are also in" not in capsys.readouterr().out
    built(save_npz(tmp_path / "b.npz", (some["train"], some["train"].take(slice(0, 20)))))
    assert "20 of 20 test images (100.0%) are also in train: the model has seen them." in capsys.readouterr().out


def test_nothing_is_left_out_silently(tmp_path: Path, some: Digits, capsys: pytest.CaptureFixture[str]) -> None:
    folder = class_tree(tmp_path / "a", some["train"])
    Image.fromarray(some["train"].pixels[0]).save(folder / "preview.png")
    (folder / "1" / "lost.png").symlink_to("nowhere.png")
    (folder / "1" / "note.txt").write_text("a note")
    (folder / "1" / "zero.png").touch()
    (folder / "2" / "Thumbs.db").write_bytes(b"\xd0\xcf")
    (folder / "__MACOSX").mkdir()
    for number in range(2):
        (folder / f".{number}").touch()
    built(folder)
    printed = capsys.readouterr().out
    for line in (
        "1 pictures outside of the class folders, such as preview.png",
        "1 links to nothing, such as 1/lost.png",
        "1 no picture files, such as 1/note.txt",
        "1 empty files, such as 1/zero.png",
        "2 of the operating system, such as 2/Thumbs.db",
        "2 hidden, such as .0",
    ):
        assert f"Ignored: {line}\n" in printed
    assert "all           46     7     8" not in printed and printed.count("Ignored: ") == 6


def test_many_classes_are_cut_in_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = noise(400, 0, 255, "uint8")
    labels = np.random.default_rng(0).permutation(np.arange(400) % 99)
    built(save_npz(tmp_path / "a.npz", (Images(images.pixels, labels), Images(images.pixels[:99], np.arange(99)))))
    printed = capsys.readouterr().out
    assert "… and 60 more" in printed and len(printed.splitlines()) < 60
    assert sum(line.split()[0].isdecimal() for line in printed.splitlines() if len(line.split()) == 4) == 39


def test_labels_that_only_test_has_get_a_sentence(
    tmp_path: Path, some: Digits, capsys: pytest.CaptureFixture[str]
) -> None:
    train = some["train"].take(some["train"].labels != 7)
    source = save_npz(tmp_path / "a.npz", (train, some["test"]))
    assert main([str(source), "--out", str(tmp_path / "out")]) == 1
    first = int(np.flatnonzero(some["test"].labels == 7)[0])
    assert f"label 7 of test example {first} never occurs among the training images" in capsys.readouterr().err
    assert built(source, "--classes", "10")["classes"] == 10
    assert "no train image shows 7; no eval image" in capsys.readouterr().out


def test_splits_of_sources_that_set_none_apart(
    tmp_path: Path, some: Digits, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "a.npz", x=some["train"].pixels, y=some["train"].labels)
    built(tmp_path / "a.npz")
    printed = capsys.readouterr().out
    assert "with seed 0, because it sets no test images apart. Choose another with --seed." in printed
    assert "Takes a seventh, 8 of 60 images, for the test split. Choose with --test." in printed
    sizes = [len(read_images(tmp_path / "out", split)) for split in ("train", "eval", "test")]
    assert sizes == [45, 7, 8]
    built(tmp_path / "a.npz", "--test", "20", "--eval", "10", "--seed", "3")
    assert "Choose" not in capsys.readouterr().out.replace("Choose with --levels", "").replace("Choose with --fit", "")
    assert len(read_images(tmp_path / "out", "test")) == 20
    source = save_npz(tmp_path / "b.npz", (some["train"], some["test"]))
    assert main([str(source), "--out", str(tmp_path / "no"), "--test", "5"]) == 1
    assert f"{source} sets 60 test images apart: leave out --test." in capsys.readouterr().err
    order = np.argsort(some["train"].labels, kind="stable")
    built(save_npz(tmp_path / "c.npz", (some["train"].take(order), some["test"])))
    assert "with seed 0, because its images come class by class." in capsys.readouterr().out
    assert len(set(read_images(tmp_path / "out", "eval").labels)) > 2
