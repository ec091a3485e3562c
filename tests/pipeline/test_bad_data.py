"""Data that must not be trained on: the run stops before Transform, names it, and pushes nothing."""

import gzip
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from data.example import IMAGE, LABEL, serialize
from pipeline.exit_codes import DATA_REFUSED, FAILED
from tests.conftest import Outcome, states, versions
from tests.pipeline.few_digits import few_mnist

Run = Callable[..., Outcome]


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return few_mnist(tmp_path_factory.mktemp("data"))


@pytest.fixture
def folder(few: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(few, tmp_path / "digits"))


def rewrite(folder: Path, split: str, change: Callable[[list[bytes]], list[bytes]]) -> None:
    path = next(folder.glob(f"{split}-*"))
    records = list(tf.data.TFRecordDataset(str(path), "GZIP").as_numpy_iterator())
    with tf.io.TFRecordWriter(str(path), tf.io.TFRecordOptions("GZIP")) as writer:
        for record in change(records):
            writer.write(record)


def example(image: bytes | None, labels: list[int]) -> bytes:
    feature = {LABEL: tf.train.Feature(int64_list=tf.train.Int64List(value=labels))}
    if image is not None:
        feature[IMAGE] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[image]))
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def assert_refused(outcome: Outcome, root: Path) -> None:
    assert outcome.code == DATA_REFUSED, outcome.text
    assert "The data gate stopped the run, nothing was trained" in outcome.text
    assert "Traceback" not in outcome.text
    assert states(root)["DataGate"] == "FAILED"
    assert not {"Transform", "Trainer", "Pusher"} & set(states(root))
    assert versions(root) == []


@pytest.mark.slow
def test_every_problem_of_every_split_is_named_and_mended_data_runs_on_the_same_root(
    run: Run, folder: Path, tmp_path: Path, few: Path
) -> None:
    def shorten(records: list[bytes]) -> list[bytes]:
        for position in (7, 9):
            records[position] = serialize(np.zeros(783, np.uint8), 3)
        return [*records, example(bytes(784), [10])]

    rewrite(folder, "eval", shorten)
    rewrite(folder, "train", lambda records: [*records, example(None, [1]), example(bytes(784), [])])
    rewrite(folder, "test", lambda records: [])
    outcome = run(tmp_path / "root", folder)
    assert_refused(outcome, tmp_path / "root")
    assert "eval: image: expected 784 bytes; seen: 783 to 784 bytes" in outcome.text
    assert "image of 783 bytes, expected 28 × 28 = 784: 2 in split eval" in outcome.text
    assert "eval-00000-of-00001.tfrecord.gz, record 7" in outcome.text
    assert "eval: label: expected 1 INT value in every example, 0 … 9; seen: " in outcome.text
    assert "label 10, expected 0 … 9: 1 in split eval" in outcome.text
    assert "train: image: expected 1 BYTES value in every example" in outcome.text
    assert "train: label: expected 1 INT value in every example" in outcome.text
    assert "test: expected examples; seen: none" in outcome.text

    shutil.copytree(few, folder, dirs_exist_ok=True)
    assert run(tmp_path / "root", folder, options=("--to", "Transform")).code == 0
    assert states(tmp_path / "root")["Transform"] == "COMPLETE"


@pytest.mark.slow
def test_a_profile_of_another_size_is_refused(run: Run, folder: Path, tmp_path: Path) -> None:
    outcome = run(tmp_path / "root", folder, "data.rows=14")
    assert_refused(outcome, tmp_path / "root")
    assert "expected 14 × 28 = 392: 1000 in split train" in outcome.text


def corrupt(folder: Path, kind: str) -> None:
    path = next(folder.glob("train-00001*"))
    content = gzip.decompress(path.read_bytes())
    if kind == "flipped bit":
        content = bytearray(content)
        content[2000] ^= 1
        path.write_bytes(gzip.compress(bytes(content)))
    elif kind == "cut record":
        path.write_bytes(gzip.compress(content[:-10]))
    elif kind == "cut gzip":
        path.write_bytes(path.read_bytes()[:-1000])
    elif kind == "no example":
        with tf.io.TFRecordWriter(str(path), tf.io.TFRecordOptions("GZIP")) as writer:
            writer.write(b"\xff\xff\xff\xff")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["flipped bit", "cut record", "cut gzip", "no example"])
def test_a_damaged_shard_is_named(run: Run, folder: Path, tmp_path: Path, kind: str) -> None:
    corrupt(folder, kind)
    outcome = run(tmp_path / "root", folder)
    assert outcome.code == FAILED, outcome.text
    assert "train-00001-of-00002.tfrecord.gz, record" in outcome.text
    assert ("no tf.train.Example" if kind == "no example" else "damaged or cut-off TFRecord") in outcome.text
    assert "Traceback" not in outcome.text and versions(tmp_path / "root") == []


def test_a_missing_split_stops_before_anything_is_loaded(run: Run, folder: Path, tmp_path: Path) -> None:
    next(folder.glob("eval-*")).unlink()
    began = time.monotonic()
    outcome = run(tmp_path / "root", folder)
    assert outcome.code == FAILED and time.monotonic() - began < 5
    assert "so the eval split is missing" in outcome.text
    assert not (tmp_path / "root").exists()
    assert "There is no data folder" in run(tmp_path / "root", tmp_path / "nowhere").text


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "lacks a part of the train split: train-00001-of-00002.tfrecord.gz"),
        ("empty", "holds a gzipped shard of 0 bytes, which is none: train-00001-of-00002.tfrecord.gz"),
        ("folder", "holds a folder that is named like a shard of the train split: train-00001-of-00002.tfrecord.gz"),
        (
            "leftover",
            "holds a file that is no shard, but matches train-*.tfrecord*: train-00001-of-00002.tfrecord.gz.b",
        ),
    ],
)
def test_an_incomplete_folder_stops_before_anything_is_loaded(
    run: Run, folder: Path, tmp_path: Path, kind: str, words: str
) -> None:
    path = folder / "train-00001-of-00002.tfrecord.gz"
    if kind == "leftover":
        shutil.copy(path, folder / f"{path.name}.bak")
    else:
        path.unlink()
    if kind == "empty":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    outcome = run(tmp_path / "root", folder)
    assert outcome.code == FAILED and f"run_local: {folder} {words}" in outcome.text
    assert outcome.text.count("\n") == 1 and not (tmp_path / "root").exists()
