"""python -m data.build: shards, splits, levels and sizes, and a sentence for each kind of bad input."""

import contextlib
import gzip
import io
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
    Image.fromarray(255 * np.eye(9, dtype=np.uint8)).save(folder / "2" / "large.png")
    options = ["--folder", str(folder), "--out", str(out), "--eval", "2", "--test", "3", "--seed", "1"]
    assert main(options) == 1
    assert f"9 × 9 ({folder}/2/large.png) pixels: choose" in (error := capsys.readouterr().err)
    assert "with --size 5x7" in error
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
        ("magic", "train-images-idx3-ubyte holds [60] values, so no images: check that images and labels were not"),
        ("truncated", "train-images-idx3-ubyte holds 2115 bytes, but its header announces 2116"),
        ("header", "train-images-idx3-ubyte holds 9 bytes"),
        ("counts", "60 images, but"),
        ("label", "label 9 of training example 59 is outside 0 … 2"),
        ("missing", "There is no file with the labels of"),
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
        ({"x_train": np.zeros((60, 5, 7, 2))}, "is float64 [60, 5, 7, 2], but images are [N, rows, columns]"),
        ({"x_train": np.zeros((60, 35))}, "has rows of 35 pixels, which make no square: say what they are with --size"),
        ({"x_train": np.full((60, 5, 7), np.nan)}, "A pixel of training example 0 is nan"),
        ({"y_train": np.zeros(59, np.int64)}, "holds 60 images, but"),
        (
            {"y_test": np.asarray([-1] + [0, 1, 2] * 3 + [0, 1])},
            "label -1 of test example 0 never occurs among the training",
        ),
        ({"y_train": np.full(60, 0.5)}, "y_train of"),
        ({"y_train": np.ones((60, 3))}, "row 0 is not one-hot: 1.0, 1.0, 1.0"),
        ({"y_train": np.asarray([None] * 60)}, "holds Python objects, which could run any program"),
        ({"x_test": np.zeros((12, 6, 7), np.uint8)}, "5 × 7 (training example 0) and 6 × 7 (test example 0) pixels"),
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
    assert "text.npz is a text file, which is not read" in complaint("--npz", str(tmp_path / "text.npz"))
    np.savez(tmp_path / "few.npz", x_train=np.zeros((2, 3, 4)))
    sentence = complaint("--npz", str(tmp_path / "few.npz"))
    assert "has images, but no array holds their labels; there are x_train of" in sentence and "np.savez(" in sentence
    folder = class_folders(tmp_path / "classes")
    splits = ("--folder", str(folder), "--seed", "1", "--test", "2", "--eval", "2")
    (folder / "empty").mkdir()
    assert "empty is empty" in complaint(*splits)
    (folder / "empty" / "text.png").write_text("no image")
    assert "text.png is not a picture" in complaint(*splits)
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


def test_a_place_where_nothing_can_be_created_is_named_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data.build.open_source", lambda *_: pytest.fail("it began to work"))
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "file").touch()
    before = sorted(tmp_path.iterdir())

    def complaint(out: str) -> str:
        assert main(["--npz", "any.npz", "--out", out]) == 1
        assert sorted(tmp_path.iterdir()) == before
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    assert f"{tmp_path}/link is a link to nothing: remove it" in complaint(str(tmp_path / "link"))
    assert "/proc/x cannot be created (No such file or directory): choose another --out" in complaint("/proc/x")
    assert "new/out cannot be created (Not a directory)" in complaint(str(tmp_path / "file" / "new" / "out"))
    assert "cannot be created (File name too long)" in complaint(str(tmp_path / "new" / ("x" * 250)))


def test_a_wrong_command_line_gets_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def complaint(*options: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main([*options, "--eval", "2"])
        assert ended.value.code == 2
        return capsys.readouterr().err

    photos = class_folders(tmp_path / "photos")
    (tmp_path / "link").symlink_to("photos")
    monkeypatch.chdir(tmp_path)
    assert "'-1' is not a whole number of 0 or more" in complaint("--npz", "any.npz", "--out", "out", "--seed", "-1")
    for out in ("photos/out", "link/out", f"{photos}/2/deep/out", "photos/../photos/out"):
        sentence = f"--out {out} lies in photos, where the next build would take it for a part of the data"
        assert sentence in complaint("--folder", "photos", "--test", "2", "--seed", "1", "--out", out)
    assert "has the character [, which TFX takes for a pattern" in complaint("--npz", "any.npz", "--out", "photos[1]")
    assert sorted(path.name for path in photos.iterdir()) == ["10", "2"]


class Unread(io.TextIOWrapper):
    """A pipe that nobody reads any more."""

    def __init__(self) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        super().__init__(open(writer, "wb"), encoding="utf-8", line_buffering=True)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_the_build_goes_on_when_nobody_reads_its_output(
    tmp_path: Path, images: tuple[Images, Images], monkeypatch: pytest.MonkeyPatch, stream: str
) -> None:
    npz = str(save_npz(tmp_path / "data.npz", images))
    with Unread() as pipe:
        monkeypatch.setattr(sys, stream, pipe)
        assert main(["--npz", npz, "--out", str(tmp_path / "out"), "--eval", "10"]) == 0
        assert len(read_images(tmp_path / "out", "test", 5, 7)) == 12
        assert main(["--npz", npz, "--out", str(tmp_path / "out"), "--eval", "10"]) == 1


def test_a_screen_without_unicode_gets_question_marks(
    tmp_path: Path, images: tuple[Images, Images], monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", screen)
    npz = save_npz(tmp_path / "data.npz", images)
    assert main(["--npz", str(npz), "--out", str(tmp_path / "out"), "--eval", "10"]) == 0
    assert b"5 ? 7 pixels" in screen.buffer.getvalue()


def test_what_killed_builds_left_is_removed_after_a_day(tmp_path: Path, images: tuple[Images, Images]) -> None:
    npz = save_npz(tmp_path / "data.npz", images)
    old, young, other = (".out.unfinished-abcd_123", ".out.unfinished-abcd_124", ".out2.unfinished-abcd_123")
    for name in (old, young, other, ".out.unfinished-mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train-00000-of-00001.tfrecord.gz").touch()
        if name != young:
            os.utime(tmp_path / name, (0, time.time() - 25 * 60 * 60))
    assert main(["--npz", str(npz), "--out", str(tmp_path / "out"), "--eval", "10"]) == 0
    left = {young, other, ".out.unfinished-mine", "out", "data.npz"}
    assert {path.name for path in tmp_path.iterdir()} == left


def test_an_interruption_that_a_library_catches_still_ends_the_build(
    tmp_path: Path, images: tuple[Images, Images], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    previous = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGTERM, signal.SIGINT)}

    def catches(*_: object) -> tuple[Images, Images]:
        for number in previous:
            with contextlib.suppress(KeyboardInterrupt):
                os.kill(os.getpid(), number)
        return images

    monkeypatch.setattr("data.build.open_source", catches)
    try:
        assert main(["--npz", "any.npz", "--out", str(tmp_path / "new" / "out"), "--eval", "10"]) == 130
        assert all(signal.getsignal(number) is signal.SIG_IGN for number in previous)  # until the process ends
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    assert f"interrupted; nothing was written to {tmp_path}/new/out." in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_help_is_quick_and_needs_no_tensorflow() -> None:
    code = (
        "import sys; from data.build import parse\n"
        "try: parse(['--help'])\nfinally: assert 'tensorflow' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False).returncode == 0


def stop_a_build(folder: Path, *numbers: signal.Signals) -> tuple[int, str]:
    """Sends signals to a build that writes its first shards; returns its exit code and its messages."""
    npz = save_npz(folder / "data.npz", (random_images(100_000, 5, 7, 3), random_images(5, 5, 7, 3)))
    command = [sys.executable, "-m", "data.build", "--npz", str(npz), "--out", str(folder / "out")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while not list(folder.glob(".out.unfinished-*/train-*")):
            assert process.poll() is None
            time.sleep(0.05)
        for number in numbers:
            process.send_signal(number)
        _, messages = process.communicate()
    return process.returncode, messages


@pytest.mark.slow
def test_a_killed_build_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    stop_a_build(tmp_path, signal.SIGKILL)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob("[!.]*/*.tfrecord*"))


@pytest.mark.slow
def test_a_stopped_build_cleans_up(tmp_path: Path) -> None:
    sentence = f"data.build: interrupted; nothing was written to {tmp_path}/out.\n"
    assert stop_a_build(tmp_path, signal.SIGTERM, signal.SIGINT, signal.SIGTERM) == (130, sentence)
    assert [path.name for path in tmp_path.iterdir()] == ["data.npz"]


@pytest.mark.slow
def test_a_build_ends_with_its_own_exit_code_without_a_screen(tmp_path: Path, images: tuple[Images, Images]) -> None:
    npz = save_npz(tmp_path / "data.npz", images)
    command = [sys.executable, "-m", "data.build", "--npz", str(npz), "--out", str(tmp_path / "out"), "--eval", "10"]
    for code in (0, 1):  # the second time the folder is there
        with Unread() as pipe:
            assert subprocess.run(command, cwd=ROOT, stdout=pipe, stderr=pipe, check=False).returncode == code
    assert (tmp_path / "out" / "profile.toml").exists()


@pytest.mark.slow
def test_a_full_disk_gets_a_sentence_and_nothing_is_kept(tmp_path: Path, small_disk: Path) -> None:
    npz = save_npz(tmp_path / "data.npz", (random_images(20_000, 28, 28, 3), random_images(5, 28, 28, 3)))
    command = [sys.executable, "-m", "data.build", "--npz", str(npz), "--out", str(small_disk / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no space is left on the device" in done.stderr and "Traceback" not in done.stderr
    assert not list(small_disk.iterdir())
