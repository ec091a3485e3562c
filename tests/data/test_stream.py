"""python -m data.build holds no more than a few images at a time, and a late error leaves nothing behind."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.csv  # noqa: F401  # its import does not count
import pytest
from PIL import Image

import data.records
from data.build import main
from data.readers import Images, Pixels
from tests.conftest import random_images, read_images
from tests.data.formats import png, rows_of, write_csv, write_parquet, write_records
from tests.data.sources import class_folders, save_npz, write_idx

SIZE = (200, 250)
COUNT = 300


def idx_options(folder: Path, zipped: bool) -> list[str]:
    write_idx(folder / "idx", "train", random_images(COUNT, *SIZE, 3), zipped)
    write_idx(folder / "idx", "t10k", random_images(5, *SIZE, 3, seed=1), zipped)
    return ["--idx", str(folder / "idx")]


def folder_options(folder: Path, _: bool) -> list[str]:
    class_folders(folder / "classes", COUNT // 2, SIZE)
    return ["--folder", str(folder / "classes"), "--test", "5", "--seed", "1"]


def npz_options(folder: Path, _: bool) -> list[str]:
    return [str(save_npz(folder / "a.npz", (random_images(COUNT, *SIZE, 3), random_images(5, *SIZE, 3, seed=1))))]


def parquet_options(folder: Path, _: bool) -> list[str]:
    write_parquet(folder / "a.parquet", random_images(COUNT, *SIZE, 3), None)
    return [str(folder / "a.parquet"), "--fit", "letterbox"]


def record_options(folder: Path, _: bool) -> list[str]:
    images = random_images(COUNT, *SIZE, 3)
    write_records(folder / "a.tfrecord", images, lambda pixels, label: {"image": png(pixels), "label": label})
    return [str(folder / "a.tfrecord"), "--fit", "letterbox"]


def csv_options(folder: Path, _: bool) -> list[str]:
    """The values of a table take four bytes each."""
    images = random_images(COUNT * SIZE[0] * SIZE[1] // 10_000, 50, 50, 3)
    write_csv(folder / "a.csv", [["label", *range(2500)], *([label, *row] for label, row in rows_of(images))])
    return [str(folder / "a.csv")]


@pytest.mark.parametrize(
    ("make", "zipped", "more"),
    [
        (idx_options, False, ()),
        (idx_options, True, ("--seed", "1")),
        (npz_options, False, ()),
        (folder_options, False, ()),
        (parquet_options, False, ()),
        (record_options, False, ()),
        (csv_options, False, ()),
    ],
    ids=["idx", "idx-gzipped-shuffled", "npz", "folders", "parquet", "records", "csv"],
)
def test_the_images_are_never_all_in_memory(
    tmp_path: Path, make: Callable[[Path, bool], list[str]], zipped: bool, more: tuple[str, ...]
) -> None:
    options = make(tmp_path, zipped)
    tracemalloc.start()
    try:
        assert main([*options, *more, "--out", str(tmp_path / "out"), "--eval", "20"]) == 0
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < COUNT * SIZE[0] * SIZE[1] / 3


@pytest.mark.parametrize("source", ["plain", "gzipped", "npz"])
def test_a_seed_gives_numpys_permutation_of_the_training_images(tmp_path: Path, source: str) -> None:
    images, test = random_images(60, 5, 7, 3), random_images(12, 5, 7, 3, seed=1)
    if source == "npz":
        options = ["--npz", str(save_npz(tmp_path / "data.npz", (images, test)))]
    else:
        for prefix, part in (("train", images), ("t10k", test)):
            write_idx(tmp_path / "idx", prefix, part, zipped=source == "gzipped")
        options = ["--idx", str(tmp_path / "idx")]
    out = tmp_path / "out"
    assert main([*options, "--out", str(out), "--eval", "10", "--seed", "7"]) == 0
    order = np.random.default_rng(7).permutation(60)
    for split, expected in (("train", images.take(order[:50])), ("eval", images.take(order[50:])), ("test", test)):
        found = read_images(out, split, 5, 7)
        np.testing.assert_array_equal(found.pixels, expected.pixels)
        np.testing.assert_array_equal(found.labels, expected.labels)


def test_a_seed_gives_numpys_permutation_of_a_folder(tmp_path: Path) -> None:
    folder, out = class_folders(tmp_path / "classes", per_class=6), tmp_path / "out"
    assert main(["--folder", str(folder), "--out", str(out), "--eval", "2", "--test", "3", "--seed", "1"]) == 0
    levels = np.asarray([*range(6), *range(100, 106)])[np.random.default_rng(1).permutation(12)]
    found = [read_images(out, split, 5, 7).pixels[:, 0, 0] for split in ("train", "eval", "test")]
    np.testing.assert_array_equal(np.concatenate(found), levels)


def test_pixels_are_read_when_they_are_asked_for() -> None:
    read: list[int] = []

    def reader(index: int) -> np.ndarray:
        read.append(index)
        return np.full((2, 3), index, np.uint8)

    pixels = Pixels(reader, str, np.arange(9))
    fewer = Images(pixels, np.arange(9)).take(slice(2, 8)).take(np.asarray([5, 0, 3]))
    assert len(fewer) == len(fewer.pixels) == 3 and not read
    assert isinstance(fewer.pixels, Pixels) and fewer.pixels.name(1) == "2"
    assert [image[0, 0] for image in fewer.pixels] == [7, 2, 5] and read == [7, 2, 5]


@pytest.mark.parametrize("damage", ["unreadable", "another size"])
def test_an_error_in_the_last_image_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    folder = class_folders(tmp_path / "classes", per_class=10)
    last = np.random.default_rng(1).permutation(20)[-1]
    file = folder / ("2", "10")[last // 10] / f"{last % 10}.png"
    if damage == "unreadable":
        file.write_bytes(file.read_bytes()[:40])
    else:
        Image.fromarray(np.eye(9, dtype=np.uint8)).save(file)
    out = tmp_path / "new" / "deep" / "out"
    assert main(["--folder", str(folder), "--out", str(out), "--eval", "2", "--test", "3", "--seed", "1"]) == 1
    error = capsys.readouterr().err
    assert str(file) in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["classes"]


def test_a_file_that_is_cut_while_it_is_read_gets_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = idx_options(tmp_path, zipped=False)

    def write_and_cut(*arguments: object, write: Callable[..., None] = data.records.write_split) -> None:
        (tmp_path / "idx" / "train-images-idx3-ubyte").write_bytes(b"")
        write(*arguments)

    monkeypatch.setattr("data.records.write_split", write_and_cut)
    assert main([*options, "--out", str(tmp_path / "out"), "--eval", "20"]) == 1
    assert "train-images-idx3-ubyte became shorter while it was read" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["idx"]


def test_what_may_not_be_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = idx_options(tmp_path, zipped=False)
    file = tmp_path / "idx" / "train-labels-idx1-ubyte"
    file.unlink()
    file.mkdir()
    assert main([*options, "--out", str(tmp_path / "out")]) == 1
    assert f"no file with the labels of {tmp_path}/idx/train-images-idx3-ubyte" in capsys.readouterr().err
