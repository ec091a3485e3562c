"""A data folder must have all its shards, on a disk and in an object store; else one sentence says what is wrong."""

import gzip
import re
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from tfx.dsl.io import fileio
from tfx.types import standard_artifacts

from components.example_gen import ShardExecutor
from data.errors import DataError
from data.records import list_shards
from data.splits import check_shards, shard_name

NO_RECORDS = gzip.compress(b"", mtime=0)


@pytest.fixture(params=["disk", "object store"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A complete data folder, on a disk or in an object store: 4 shards to train on, 1 of each other split.

    The object store is TensorFlow's file system in the memory.
    """
    path = f"ram://{uuid4().hex}/digits" if request.param == "object store" else str(tmp_path / "digits")
    fileio.makedirs(path)
    for split, count in (("train", 4), ("eval", 1), ("test", 1)):
        for index in range(count):
            put(path, shard_name(split, index, count))
    return path


def put(folder: str, name: str, content: bytes = NO_RECORDS) -> None:
    if fileio.exists(f"{folder}/{name}"):
        fileio.remove(f"{folder}/{name}")
    with fileio.open(f"{folder}/{name}", "wb") as file:
        file.write(content)


def complaint(folder: str) -> str:
    with pytest.raises(DataError) as error:
        check_shards(folder)
    assert "\n" not in str(error.value) and str(error.value).startswith(folder)
    return str(error.value)


def test_complete_shards_are_accepted(folder: str) -> None:
    check_shards(folder)
    for name in ("train-more.tfrecord.gz", "train-b-1-of-2.tfrecord.gz", "train-b-2-of-2.tfrecord.gz"):
        put(folder, name)
    put(folder, "train-plain.tfrecord", b"")  # a TFRecord without records
    put(folder, "notes-00000-of-00009.tfrecord.gz.bak")
    check_shards(folder)


def test_names_without_numbers_are_enough(folder: str) -> None:
    for split in ("train", "eval", "test"):
        for path in fileio.glob(f"{folder}/{split}-*"):
            fileio.remove(path)
        put(folder, f"{split}-a.tfrecord.gz")
    check_shards(folder)


@pytest.mark.parametrize("how", ["removed", "renamed"])
def test_a_missing_shard_is_named(folder: str, how: str) -> None:
    fileio.remove(f"{folder}/train-00001-of-00004.tfrecord.gz")
    if how == "renamed":
        put(folder, "train-00001.tfrecord.gz")
    error = complaint(folder)
    assert "lacks a part of the train split: train-00001-of-00004.tfrecord.gz. Copy it" in error
    assert "python -m data.build" in error


def test_of_many_missing_shards_three_are_named(folder: str) -> None:
    put(folder, "eval-b-7-of-00012.tfrecord")
    names = ", ".join(f"eval-b-{index}-of-00012.tfrecord" for index in range(3))
    assert f"{names} and 8 more. Copy" in complaint(folder)


def test_a_missing_split_comes_first(folder: str) -> None:
    put(folder, "train-00001-of-00004.tfrecord.gz", b"")
    fileio.remove(f"{folder}/test-00000-of-00001.tfrecord.gz")
    assert "so the test split is missing" in complaint(folder)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("train-00001-of-00004.tfrecord.gz", b"", "a gzipped shard of 0 bytes, which is none: train-00001-of-00004"),
        ("test-x.tfrecord.gz", b"", "a gzipped shard of 0 bytes, which is none: test-x.tfrecord.gz. Copy it again"),
        ("train-00000-of-00004.tfrecord.gz.bak", NO_RECORDS, "train-00000-of-00004.tfrecord.gz.bak. The name of a"),
        ("eval-00000-of-00001.tfrecord.gz~", b"", "is no shard, but matches eval-*.tfrecord*: eval-00000-of-00001"),
        (
            "train-00002-of-00011.tfrecord.gz",
            NO_RECORDS,
            "sets in the train split, such as train-00000-of-00004.tfrecord.gz, train-00002-of-00011.tfrecord.gz: move",
        ),
        ("train-2-of-4.tfrecord", b"", "shard 2 of the train split twice, as train-00002-of-00004.tfrecord.gz and as"),
        ("train-00004-of-00004.tfrecord.gz", NO_RECORDS, "a number beyond 3, the last of 4: train-00004-of-00004"),
    ],
)
def test_what_is_no_part_of_the_split_is_named(folder: str, name: str, content: bytes, words: str) -> None:
    put(folder, name, content)
    assert words in complaint(folder)


@pytest.mark.parametrize("name", ["train-00001-of-00004.tfrecord.gz", "train-old.tfrecord", "train-a.tfrecord.d"])
def test_a_folder_is_no_shard(folder: str, name: str) -> None:
    if fileio.exists(f"{folder}/{name}"):
        fileio.remove(f"{folder}/{name}")
    fileio.makedirs(f"{folder}/{name}")
    assert f"holds a folder that is named like a shard of the train split: {name}. Move" in complaint(folder)


@pytest.mark.parametrize("name", ["train-a.tfrecord.gz", "train-a.tfrecord"])
def test_a_link_to_nothing_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to("nowhere")
    for split in ("eval", "test"):
        put(str(tmp_path), f"{split}-a.tfrecord.gz")
    with pytest.raises(
        DataError, match=rf"^The shard {re.escape(str(tmp_path / name))} cannot be read \(.+\): correct"
    ):
        check_shards(tmp_path)


@pytest.mark.parametrize("character", "[*?\\")
def test_a_folder_that_tfx_takes_for_a_pattern_is_refused(tmp_path: Path, character: str) -> None:
    with pytest.raises(DataError, match=f"has the character {re.escape(character)}, which TFX takes for a pattern"):
        check_shards(tmp_path / f"a{character}b")


def remove(folder: Path) -> None:
    (folder / "train-00001-of-00002.tfrecord.gz").unlink()


def leave(folder: Path) -> None:
    (folder / "train-00001-of-00002.tfrecord.gz.bak").write_bytes(b"anything")


@pytest.mark.parametrize(
    ("change", "words"), [(remove, "lacks a part of the train split"), (leave, "holds a file that is no shard")]
)
def test_the_importer_and_the_readers_refuse_it_too(tmp_path: Path, change: Callable[[Path], None], words: str) -> None:
    for split, count in (("train", 2), ("eval", 1), ("test", 1)):
        for index in range(count):
            put(str(tmp_path), shard_name(split, index, count))
    change(tmp_path)
    with pytest.raises(DataError, match=words):
        ShardExecutor().Do(
            {}, {"examples": [standard_artifacts.Examples()]}, {"input_base": str(tmp_path), "window": 1}
        )
    with pytest.raises(DataError, match=words):
        list_shards(tmp_path, "train")
    assert [path.name for path in list_shards(tmp_path, "eval")] == ["eval-00000-of-00001.tfrecord.gz"]
