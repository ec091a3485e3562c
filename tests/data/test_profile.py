"""python -m data.build writes a profile beside the shards, and the pipeline reads it."""

import os
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data.build import main
from data.errors import DataError
from data.pictures import Reading
from data.profile import profile
from data.splits import SPLITS, shard_pattern
from pipeline.config import load
from tests.conftest import random_images
from tests.data.sources import save_npz


def build_code(root: Path, out: Path, names: tuple[str, ...], *options: str) -> int:
    for name in names:
        (root / name).mkdir(parents=True)
        for index in range(3):
            Image.fromarray(np.arange(index, index + 35, dtype=np.uint8).reshape(5, 7)).save(
                root / name / f"{index}.png"
            )
    splits = ("--eval", "1", "--test", "1", "--seed", "1")
    return main(["--folder", str(root), "--out", str(out), *splits, *options])


def build_folder(root: Path, out: Path, names: tuple[str, ...], *options: str) -> dict[str, Any]:
    assert build_code(root, out, names, *options) == 0
    return tomllib.loads((out / "profile.toml").read_text(encoding="utf-8"))


def test_the_pipeline_reads_the_profile_of_an_archive(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    npz = save_npz(tmp_path / "data.npz", (random_images(60, 5, 7, 3), random_images(12, 5, 7, 3, seed=1)))
    monkeypatch.chdir(tmp_path)
    assert main(["--npz", str(npz), "--out", "My Digits_2", "--eval", "10"]) == 0
    command = "python -m pipeline.run_local --profile 'My Digits_2/profile.toml'"
    assert capsys.readouterr().out.endswith(f"Run it with: {command}\n")
    text = Path("My Digits_2/profile.toml").read_text()
    assert text.startswith(f"# {command}\n") and "# [gates]" in text and "MNIST's" in text
    config = load(shlex.split(command)[-1])
    assert (config.name, config.serving.model_name) == ("my-digits-2", "My-Digits_2")
    assert (config.data.rows, config.data.columns, config.data.classes) == (5, 7, 3)
    assert config.data.path == str(tmp_path / "My Digits_2") and "class_names" not in text
    # The gates are a comment that can be used as it stands.
    Path("gates.toml").write_text(text.replace("# [gates]", "[gates]").replace("# accuracy", "accuracy"))
    assert load("gates.toml").gates.accuracy == 0.98
    for split in SPLITS:
        assert all(path.suffix == ".gz" for path in Path("My Digits_2").glob(shard_pattern(split)))


def test_the_command_is_printed_for_the_size_of_mnist_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    npz = save_npz(tmp_path / "data.npz", (random_images(40, 28, 28, 10), random_images(12, 28, 28, 10, seed=1)))
    assert main(["--npz", str(npz), "--out", str(tmp_path / "out"), "--classes", "10", "--eval", "10"]) == 0
    assert f"Run it with: python -m pipeline.run_local --profile {tmp_path}/out/profile.toml" in capsys.readouterr().out


def test_folders_give_the_class_names(tmp_path: Path) -> None:
    names = ('a "quoted" one', "back\\slash", "it's", "Äpfel 🍏", "10")
    tree = build_folder(tmp_path / "classes", tmp_path / "out", names)
    assert tree["data"]["class_names"] == sorted(names) and tree["data"]["classes"] == 5
    config = load(str(tmp_path / "out" / "profile.toml"))
    assert config.data.class_names == tuple(sorted(names)) and config.data.example.classes == 5


def test_control_characters_are_escaped(tmp_path: Path) -> None:
    names = ("tab\tline\nreturn\rbell\x07", "delete\x7f", "next line\x85", "separator\u2028")
    folder = tmp_path / "line\nand\x7f"
    text = profile(folder, Reading((5, 7)), 4, names, str(folder))
    tree = tomllib.loads(text)
    assert tree["data"]["class_names"] == [*names] and tree["data"]["path"] == str(folder)


def test_numbers_are_no_class_names(tmp_path: Path) -> None:
    assert "class_names" not in build_folder(tmp_path / "numbers", tmp_path / "a", ("0", "1"))["data"]
    # These would else be shown as 0 and 1.
    assert build_folder(tmp_path / "others", tmp_path / "c", ("2", "10"))["data"]["class_names"] == ["2", "10"]
    assert "class_names" not in build_folder(tmp_path / "more", tmp_path / "b", ("0", "1"), "--classes", "3")["data"]


def test_classes_without_a_folder_are_numbered_and_announced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = build_folder(tmp_path / "words", tmp_path / "out", ("x", "y"), "--classes", "4")
    assert tree["data"]["class_names"] == ["x", "y", "class 2", "class 3"]
    assert load(str(tmp_path / "out" / "profile.toml")).data.class_names == ("x", "y", "class 2", "class 3")
    sentence = "no train image shows class 2, class 3;"
    assert sentence in capsys.readouterr().out


@pytest.mark.parametrize("name", ["two\nlines", "return\r", "next\x85line", "separator\u2028"])
def test_a_folder_that_cannot_name_a_class_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert build_code(tmp_path / "classes", tmp_path / "out", ("fine", name)) == 1
    error = capsys.readouterr().err
    assert f"{name!r} in {tmp_path}/classes cannot name a class: a class name must be one line" in error
    assert len(error.splitlines()) == 1 and [path.name for path in tmp_path.iterdir()] == ["classes"]


def test_two_classes_of_one_name_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build_code(tmp_path / "classes", tmp_path / "out", ("a", "class 2"), "--classes", "3") == 1
    assert "3 different names, one for each class. Correct" in capsys.readouterr().err


@pytest.mark.parametrize("size", [(0, 6), (5, 0)])
def test_images_without_pixels_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], size: tuple[int, int]
) -> None:
    npz = save_npz(tmp_path / "data.npz", (random_images(60, *size, 3), random_images(12, *size, 3)))
    assert main(["--npz", str(npz), "--out", str(tmp_path / "out"), "--eval", "10"]) == 1
    assert f"{npz} holds images of {size[0]} × {size[1]} pixels" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["data.npz"]


@pytest.mark.parametrize(
    ("folder", "name", "model"),
    [
        ("photos-32", "photos-32", "photos-32"),
        ("Bäume & Gräser", "baume-graser", "Baume-Graser"),
        ("v1.2_final", "v1-2-final", "v1.2_final"),
        ("..hidden", "hidden", "hidden"),
        ("日本", "my-images", "my-images"),
        ("x" * 62 + "-yz", "x" * 62, "x" * 62),
        ('"\\\n', "my-images", "my-images"),
    ],
)
def test_every_folder_name_gives_names_that_the_settings_take(
    tmp_path: Path, folder: str, name: str, model: str
) -> None:
    (tmp_path / "p.toml").write_text(profile(tmp_path / folder, Reading((5, 7)), 3, (), str(tmp_path / folder)))
    config = load(str(tmp_path / "p.toml"))
    assert (config.name, config.serving.model_name) == (name, model)
    assert config.data.path == str(tmp_path / folder)


def test_a_name_that_is_not_utf_8_gets_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=re.escape(r"The name b'caf\xe9' is not UTF-8")):
        profile(tmp_path / "out", Reading((5, 7)), 2, ("tea", os.fsdecode(b"caf\xe9")), "")


def test_one_class_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    npz = save_npz(tmp_path / "data.npz", (random_images(60, 5, 7, 1), random_images(12, 5, 7, 1)))
    assert main(["--npz", str(npz), "--out", str(tmp_path / "out"), "--eval", "10"]) == 1
    assert "holds one class only" in capsys.readouterr().err
