"""python -m data.build: three kinds of sources, the same shards, and a sentence for each kind of bad input."""

import gzip
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.build import main
from data.readers import Images
from tests.conftest import ROOT, random_images, read_images
from tests.data.sources import class_folders, save_npz, write_idx


@pytest.fixture
def images() -> tuple[Images, Images]:
    return random_images(60, 5, 7, 3), random_images(12, 5, 7, 3, seed=1)


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzipped"])
def test_idx_files_become_shards(tmp_path: Path, images: tuple[Images, Images], zipped: bool) -> None:
    for prefix, part in zip(("train", "t10k"), images, strict=True):
        write_idx(tmp_path / "idx", prefix, part, zipped)
    out = tmp_path / "out"
    assert main(["--idx", str(tmp_path / "idx"), "--out", str(out), "--eval", "10", "--shards", "3"]) == 0
    assert len(list(out.glob("train-*-of-00003.tfrecord.gz"))) == 3
    train, tail, test = (read_images(out, split, 5, 7) for split in ("train", "eval", "test"))
    np.testing.assert_array_equal(np.concatenate([train.pixels, tail.pixels]), images[0].pixels)
    np.testing.assert_array_equal(np.concatenate([train.labels, tail.labels]), images[0].labels)
    np.testing.assert_array_equal(test.pixels, images[1].pixels)
    assert len(tail) == 10


def test_a_seed_shuffles_and_the_same_seed_gives_the_same_bytes(tmp_path: Path, images: tuple[Images, Images]) -> None:
    npz = str(save_npz(tmp_path / "data.npz", images))
    for name, seed in (("a", "7"), ("b", "7"), ("c", "8")):
        assert main(["--npz", npz, "--out", str(tmp_path / name), "--eval", "10", "--seed", seed]) == 0
    a, b, c = ({p.name: p.read_bytes() for p in (tmp_path / name).glob("*.tfrecord.gz")} for name in "abc")
    assert a == b
    assert a != c
    train = read_images(tmp_path / "a", "train", 5, 7)
    assert not np.array_equal(train.labels, images[0].labels[:50])
    everything = np.concatenate([train.pixels, read_images(tmp_path / "a", "eval", 5, 7).pixels])
    assert sorted(p.tobytes() for p in everything) == sorted(p.tobytes() for p in images[0].pixels)


def test_class_folders_become_shards_in_numeric_order(tmp_path: Path) -> None:
    folder, out = class_folders(tmp_path / "classes"), tmp_path / "out"
    assert main(["--folder", str(folder), "--out", str(out), "--eval", "2", "--test", "3", "--seed", "1"]) == 0
    parts = [read_images(out, split, 5, 7) for split in ("train", "eval", "test")]
    assert [len(part) for part in parts] == [7, 2, 3]
    for part in parts:  # folder 2 is label 0, folder 10 is label 1
        np.testing.assert_array_equal(part.pixels[:, 0, 0] >= 100, part.labels == 1)


def test_images_are_resized_only_when_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = class_folders(tmp_path / "classes"), tmp_path / "out"
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(folder / "2" / "large.png")
    options = ["--folder", str(folder), "--out", str(out), "--eval", "2", "--test", "3", "--seed", "1"]
    assert main(options) == 1
    assert "large.png has 9 × 9 pixels" in (error := capsys.readouterr().err) and "--size" in error
    assert main([*options, "--size", "4x3"]) == 0
    assert read_images(out, "train", 4, 3).pixels.shape == (8, 4, 3)
    assert "4 × 3 pixels, 2 classes" in capsys.readouterr().out


def damage(kind: str, folder: Path) -> None:
    images, labels = folder / "train-images-idx3-ubyte", folder / "train-labels-idx1-ubyte"
    if kind == "magic":
        images.write_bytes(labels.read_bytes())
    elif kind == "truncated":
        images.write_bytes(images.read_bytes()[:-1])
    elif kind == "header":
        images.write_bytes(images.read_bytes()[:9])
    elif kind == "counts":
        labels.write_bytes(struct.pack(">II", 0x801, 59) + labels.read_bytes()[8:67])
    elif kind == "label":
        labels.write_bytes(labels.read_bytes()[:-1] + b"\x09")
    elif kind == "missing":
        labels.unlink()
    elif kind == "gzip":
        content = gzip.compress(images.read_bytes())
        images.unlink()
        images.with_name(images.name + ".gz").write_bytes(content[:-9])


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("magic", "train-images-idx3-ubyte starts with the magic number 0x00000801"),
        ("truncated", "train-images-idx3-ubyte holds 2115 bytes, but its header announces 2116"),
        ("header", "train-images-idx3-ubyte holds 9 bytes"),
        ("counts", "60 images, but"),
        ("label", "label 9 of training example 59 is outside 0 … 2"),
        ("missing", "There is no file"),
        ("gzip", "is a damaged gzip file"),
    ],
)
def test_bad_idx_files_get_a_sentence(
    tmp_path: Path, images: tuple[Images, Images], capsys: pytest.CaptureFixture[str], kind: str, words: str
) -> None:
    for prefix, part in zip(("train", "t10k"), images, strict=True):
        write_idx(tmp_path / "idx", prefix, part)
    damage(kind, tmp_path / "idx")
    out = tmp_path / "out"
    assert main(["--idx", str(tmp_path / "idx"), "--out", str(out), "--eval", "10", "--classes", "3"]) == 1
    assert words in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["idx"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"x_train": np.zeros((60, 5, 7), np.float32)}, "is float32 [60, 5, 7], but grey images are uint8"),
        ({"y_train": np.zeros(59, np.int64)}, "holds 60 images, but"),
        ({"y_test": np.full(12, -1)}, "label -1 of test example 0"),
        ({"x_test": np.zeros((12, 6, 7), np.uint8)}, "both must have one size"),
    ],
)
def test_bad_npz_arrays_get_a_sentence(
    tmp_path: Path,
    images: tuple[Images, Images],
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, np.ndarray],
    words: str,
) -> None:
    npz = save_npz(tmp_path / "data.npz", images, **changes)
    assert main(["--npz", str(npz), "--out", str(tmp_path / "out"), "--eval", "10"]) == 1
    assert words in capsys.readouterr().err


def test_other_bad_input_gets_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def complaint(*options: str) -> str:
        assert main([*options, "--out", str(tmp_path / "out")]) == 1
        assert not (tmp_path / "out").exists()
        return capsys.readouterr().err

    (tmp_path / "text.npz").write_text("no archive")
    assert "cannot be read as an .npz archive" in complaint("--npz", str(tmp_path / "text.npz"))
    np.savez(tmp_path / "few.npz", x_train=np.zeros(1))
    assert "has no array y_train, x_test, y_test" in complaint("--npz", str(tmp_path / "few.npz"))
    folder = class_folders(tmp_path / "classes")
    splits = ("--folder", str(folder), "--seed", "1", "--test", "2", "--eval", "2")
    (folder / "empty").mkdir()
    assert "empty is empty" in complaint(*splits)
    (folder / "empty" / "text.png").write_text("no image")
    assert "text.png cannot be read as an image" in complaint(*splits)
    assert "There is no folder" in complaint("--folder", str(tmp_path / "nowhere"), *splits[2:])
    (tmp_path / "bare").mkdir()
    assert "holds no class folders" in complaint("--folder", str(tmp_path / "bare"), *splits[2:])


def test_nothing_is_overwritten(
    tmp_path: Path, images: tuple[Images, Images], capsys: pytest.CaptureFixture[str]
) -> None:
    npz = save_npz(tmp_path / "data.npz", images)
    (tmp_path / "out").mkdir()
    assert main(["--npz", str(npz), "--out", str(tmp_path / "out"), "--eval", "10"]) == 1
    assert "exists already" in capsys.readouterr().err


def test_help_is_quick_and_needs_no_tensorflow() -> None:
    code = (
        "import sys; from data.build import parse\n"
        "try: parse(['--help'])\nfinally: assert 'tensorflow' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False).returncode == 0


@pytest.mark.slow
def test_a_killed_build_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    npz = save_npz(tmp_path / "data.npz", (random_images(300_000, 5, 7, 3), random_images(5, 5, 7, 3)))
    command = [sys.executable, "-m", "data.build", "--npz", str(npz), "--out", str(tmp_path / "out")]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    while not list(tmp_path.glob(".out.unfinished-*/train-*")):
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob("[!.]*/*.tfrecord*"))


@pytest.mark.slow
def test_a_full_disk_gets_a_sentence_and_nothing_is_kept(tmp_path: Path, small_disk: Path) -> None:
    npz = save_npz(tmp_path / "data.npz", (random_images(20_000, 28, 28, 3), random_images(5, 28, 28, 3)))
    command = [sys.executable, "-m", "data.build", "--npz", str(npz), "--out", str(small_disk / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no space is left on the device" in done.stderr and "Traceback" not in done.stderr
    assert not list(small_disk.iterdir())
