"""What data.build cannot read gets one sentence: what it is really, and what to do."""

import gzip
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from data.build import main
from data.readers import Images
from tests.conftest import random_images
from tests.data.formats import class_tree, idx, png, write_csv, write_parquet, write_records
from tests.data.sources import save_npz, write_idx

IMAGES = random_images(30, 8, 8, 3)


def csv_rows(changed: object = 0) -> list[list[object]]:
    rows = [[int(label), *pixels.ravel().tolist()] for label, pixels in zip(IMAGES.labels, IMAGES.pixels, strict=True)]
    rows[20][7] = changed
    return [["label", *(f"pixel{at}" for at in range(64))], *rows]


def made(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def as_csv(folder: Path) -> Path:
    write_csv(folder / "a.csv", csv_rows())
    return folder / "a.csv"


def csv_with_a_word(folder: Path) -> Path:
    write_csv(folder / "a.csv", csv_rows("ink"))
    return folder / "a.csv"


def csv_with_a_gap(folder: Path) -> Path:
    write_csv(folder / "a.csv", csv_rows(""))
    return folder / "a.csv"


def csv_with_a_short_row(folder: Path) -> Path:
    write_csv(folder / "a.csv", [*csv_rows(), [1, 2, 3]])
    return folder / "a.csv"


def csv_without_labels(folder: Path) -> Path:
    write_csv(folder / "a.csv", [row[1:] for row in csv_rows()])
    return folder / "a.csv"


def as_npy(folder: Path) -> Path:
    np.save(folder / "x_train.npy", IMAGES.pixels)
    return folder / "x_train.npy"


def mat(folder: Path) -> Path:
    from scipy.io import savemat

    savemat(folder / "a.mat", {"X": IMAGES.pixels})
    return folder / "a.mat"


def two_sets(folder: Path) -> Path:
    save_npz(folder / "one.npz", (IMAGES, IMAGES))
    class_tree(folder / "pictures", IMAGES)
    return folder


def two_idx_sets(folder: Path) -> Path:
    for name in ("letters", "digits"):
        idx(folder / f"emnist-{name}-train-images-idx3-ubyte", 0x803, IMAGES.pixels)
    return folder


def pictures_without_classes(folder: Path) -> Path:
    for at, pixels in enumerate(IMAGES.pixels):
        Image.fromarray(pixels).save(folder / f"{at}.png")
    return folder


def idx_without_labels(folder: Path) -> Path:
    write_idx(folder, "train", IMAGES)
    (folder / "train-labels-idx1-ubyte").rename(folder / "other.bin")
    (folder / "other.bin").write_bytes(b"\x89abcdefgh")
    return folder


def damaged_parquet(folder: Path) -> Path:
    write_parquet(folder / "a.parquet", IMAGES, None)
    return made(folder / "a.parquet", (folder / "a.parquet").read_bytes()[:-40])


def parquet_of_paths(folder: Path) -> Path:
    pictures = [{"bytes": None, "path": "a/1.png"}]
    pq.write_table(pa.table({"image": pictures, "label": [1]}), folder / "a.parquet")
    return folder / "a.parquet"


def parquet_without_labels(folder: Path) -> Path:
    pq.write_table(pa.table({"image": [b"a"], "writer": [1], "date": [2]}), folder / "a.parquet")
    return folder / "a.parquet"


def records_without_labels(folder: Path) -> Path:
    write_records(folder / "a.tfrecord", IMAGES, lambda pixels, label: {"image": png(pixels), "writer": label})
    return folder / "a.tfrecord"


def damaged_records(folder: Path) -> Path:
    write_records(folder / "a.tfrecord", IMAGES, lambda pixels, label: {"image": png(pixels), "label": label})
    return made(folder / "a.tfrecord", (folder / "a.tfrecord").read_bytes()[:-9])


def records_of_another_size(folder: Path) -> Path:
    feature = {"height": 28, "width": 28}
    write_records(folder / "a.tfrecord", IMAGES, lambda x, y: {"image_raw": x.tobytes(), "label": y, **feature})
    return folder / "a.tfrecord"


def volumes(folder: Path) -> Path:
    solid = Images(np.zeros((30, 8, 8, 8), np.uint8), IMAGES.labels)
    return save_npz(folder / "a.npz", (solid, solid))


def several_labels(folder: Path) -> Path:
    return save_npz(folder / "a.npz", (IMAGES, IMAGES), y_train=np.ones((30, 14), np.uint8))


def unnamed(folder: Path) -> Path:
    np.savez(folder / "a.npz", IMAGES.pixels, IMAGES.labels, IMAGES.pixels, IMAGES.labels)
    return folder / "a.npz"


PAGE = b"<!DOCTYPE html>\n<html><head><title>404</title></head></html>\n"
# ruff: noqa: E501
CASES: dict[str, tuple[Callable[[Path], Path], tuple[str, ...], str]] = {
    "csv to --npz": (as_csv, ("--npz",), "is no npz source, but is of the kind csv (tables of pixels"),
    "npy to --npz": (as_npy, ("--npz",), "is no npz source, but is of the kind npy"),
    "mat to --npz": (mat, ("--npz",), "is no npz source, but is of the kind mat"),
    "npz to --idx": (lambda f: save_npz(f / "a.npz", (IMAGES, IMAGES)), ("--idx",), "but is of the kind npz"),
    "csv with a word": (csv_with_a_word, (), "invalid value 'ink'"),
    "csv with a gap": (csv_with_a_gap, (), "A pixel of training example 20 is nan"),
    "csv with a short row": (csv_with_a_short_row, (), "Expected 65 columns, got 3"),
    "csv without labels": (csv_without_labels, (), "has no column of labels among pixel0, pixel1"),
    "npy alone": (as_npy, (), "has images, but no array holds their labels"),
    "web page as npz": (lambda f: made(f / "a.npz", PAGE), ("--npz",), "is a web page, perhaps of a download that failed"),
    "web page as gz": (lambda f: made(f / "train-images-idx3-ubyte.gz", PAGE), (), "is a web page, perhaps"),
    "web page in a folder": (lambda f: made(f / "a.npz", PAGE).parent, (), "a.npz (web page), perhaps of a download"),
    "pickle": (lambda f: made(f / "mnist.pkl.gz", gzip.compress(pickle.dumps([1]))), (), "is a pickle, which could run"),
    "git lfs": (lambda f: made(f / "a" / "x.parquet", b"version https://git-lfs.github.com/spec/v1\noid s").parent, (),
                "x.parquet is a pointer of Git LFS, not the file itself: fetch that with git lfs pull"),
    "a picture": (lambda f: made(f / "a.png", png(IMAGES.pixels[0])), (), "is a picture, one picture only: name a folder"),
    "text": (lambda f: made(f / "a.txt", b"some text"), (), "is a text file, which is not read. These are: IDX files"),
    "nothing": (lambda f: f / "gone", (), "There is no file or folder"),
    "an empty folder": (lambda f: f, (), "holds nothing that is read. It has no files"),
    "two sets": (two_sets, (), "holds several data sets: npz files such as one.npz; class folders of pictures. Name"),
    "two sets of IDX": (two_idx_sets, (), "holds several data sets: idx files such as emnist-digits"),
    "pictures without classes": (pictures_without_classes, (), "holds no class folders: put each class's images into"),
    "IDX without labels": (idx_without_labels, (), "There is no file with the labels of"),
    "damaged gzip": (lambda f: made(f / "a" / "x-images.gz", b"\x1f\x8bgarbage").parent, (), "damaged packed file, cut"),
    "damaged parquet": (damaged_parquet, (), "a.parquet cannot be read as a table ("),
    "parquet of paths": (parquet_of_paths, (), "is not in the table, which names a/1.png only"),
    "parquet without labels": (parquet_without_labels, (), "has images in image, but no column of labels: its columns are"),
    "records without labels": (records_without_labels, (), "has no label: its features are image, writer. Call one label."),
    "damaged records": (damaged_records, (), "a.tfrecord is a damaged or cut-off TFRecord file: fetch it again"),
    "records of another size": (records_of_another_size, (), "has 64 pixels, but says that it is 28 × 28 × 1"),
    "volumes": (volumes, (), "is uint8 [30, 8, 8, 8], but images are [N, rows, columns]"),
    "several labels": (several_labels, (), "row 0 is not one-hot: 1, 1, 1, 1, 1, …. Give each image one label"),
    "unnamed arrays": (unnamed, (), "has several arrays of images that no name gives to a split: arr_0 of"),
    "a float IDX that is cut": (lambda f: made(f / "train-images", struct.pack(">4I", 0xD03, 9, 8, 8)), (), "announces 2320"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_sentence_says_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    make, options, words = CASES[case]
    folder, out = tmp_path / "a", tmp_path / "out"
    folder.mkdir()
    assert main([*options, str(make(folder)), "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1 and len(error) < 700
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
