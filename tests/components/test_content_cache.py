"""The cache of ExampleGen: it sees the content of the shards, whatever their sizes and times are."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from components.digests import digest_of, shard_digests
from components.infra_validator.component import describe_server
from components.infra_validator.settings import Infra
from data.example import ExampleSpec, parse, serialize
from data.shards import find_source
from tests.conftest import Images, Outcome, last_run, random_images, states


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder of shards that are not compressed: other labels have the same size."""
    made = tmp_path / "data"
    made.mkdir()
    for number, split in enumerate(("train", "eval", "test")):
        write(made / f"{split}-00000-of-00001.tfrecord", random_images(40, 28, 28, 10, seed=number))
    return made


def write(path: Path, images: Images) -> None:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for pixels, label in zip(images.pixels, images.labels, strict=True):
            writer.write(serialize(pixels, label))


def other_labels(path: Path) -> None:
    """Changes every label of a shard; its size and its times stay."""
    before = path.stat()
    records = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    pixels, labels = zip(*(parse(record, ExampleSpec()) for record in records), strict=True)
    write(path, Images(np.stack(pixels), (np.array(labels) + 1) % 10))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def test_other_labels_are_imported_though_size_and_time_are_the_same(
    run: Callable[..., Outcome], folder: Path, tmp_path: Path
) -> None:
    root, until = tmp_path / "root", ("--to", "ExampleGen")
    assert run(root, folder, options=until).code == 0
    first = last_run(root).data_digest
    for path in folder.iterdir():
        os.utime(path, (0, 0))
    assert run(root, folder, options=until).code == 0
    assert states(root)["ExampleGen"] == "CACHED"  # another time alone is no change
    other_labels(folder / "test-00000-of-00001.tfrecord")
    assert run(root, folder, options=until).code == 0
    assert states(root)["ExampleGen"] == "COMPLETE"
    assert last_run(root).data_digest == digest_of(shard_digests(find_source(str(folder), 1).shards)) != first


def test_digests_are_those_of_sha256sum(folder: Path) -> None:
    shutil.copy(folder / "test-00000-of-00001.tfrecord", folder / "notes.txt")  # no shard
    lines = shard_digests(find_source(str(folder), 1).shards).splitlines()
    assert [line.split("  ")[1] for line in lines] == [
        f"{split}-00000-of-00001.tfrecord" for split in ("eval", "test", "train")
    ]
    before = lines[1]
    other_labels(folder / "test-00000-of-00001.tfrecord")
    assert shard_digests(find_source(str(folder), 1).shards).splitlines()[1] != before


def test_another_server_of_the_same_size_and_time_is_another_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = tmp_path / "tensorflow_model_server"
    server.write_text("#!/bin/sh\nexit 1\n")
    server.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    before, known = server.stat(), describe_server(Infra())
    server.write_text("#!/bin/sh\nexit 2\n")
    os.utime(server, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert known.startswith(f"{server}, SHA-256 ") and describe_server(Infra()) != known
