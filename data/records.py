"""TFRecord shards: written deterministically, read back as arrays, and examined when something is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import tensorflow as tf

from data.errors import missing_split
from data.features import IMAGE, LABEL, SPLITS, shard_name, shard_pattern
from data.readers import Images


def serialize(pixels: np.ndarray, label: int) -> bytes:
    """Returns one serialized tf.train.Example of an image, uint8 [rows, columns], and its label."""
    feature = {
        IMAGE: tf.train.Feature(bytes_list=tf.train.BytesList(value=[pixels.tobytes()])),
        LABEL: tf.train.Feature(int64_list=tf.train.Int64List(value=[int(label)])),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString(deterministic=True)


def write_split(
    folder: Path, split: str, images: Images, shards: int, on_record: Callable[[], None] = lambda: None
) -> None:
    """Writes `images` in order as `shards` gzipped TFRecord files, consecutive ranges of nearly equal size."""
    bounds = np.linspace(0, len(images), shards + 1).astype(int)
    for index, (start, stop) in enumerate(pairwise(bounds)):
        path = folder / shard_name(split, index, shards)
        with tf.io.TFRecordWriter(str(path), tf.io.TFRecordOptions(compression_type="GZIP")) as writer:
            for pixels, label in zip(images.pixels[start:stop], images.labels[start:stop], strict=True):
                writer.write(serialize(pixels, label))
                on_record()


def shards_of(folder: Path, split: str) -> list[Path]:
    """The shards of a split, in order.

    Raises:
        DataError: there is none.
    """
    found = sorted(folder.glob(shard_pattern(split)))
    if not found:
        raise missing_split(folder, split)
    return found


def read_serialized(path: Path) -> Iterator[bytes]:
    """Yields the records of one shard.

    Raises:
        tf.errors.DataLossError: a damaged or cut-off record, after the good ones before it were yielded.
    """
    compression = "GZIP" if path.suffix == ".gz" else ""
    yield from tf.data.TFRecordDataset(str(path), compression_type=compression).as_numpy_iterator()


def read_split(folder: Path, split: str, rows: int, columns: int) -> Images:
    """Reads a whole split of a data folder into memory."""
    pixels, labels = [], []
    for path in shards_of(folder, split):
        for record in read_serialized(path):
            feature = tf.train.Example.FromString(record).features.feature
            pixels.append(np.frombuffer(feature[IMAGE].bytes_list.value[0], np.uint8).reshape(rows, columns))
            labels.append(feature[LABEL].int64_list.value[0])
    return Images(np.stack(pixels), np.asarray(labels, np.int64))


@dataclass
class Finding:
    """One kind of trouble in one split: how many examples have it, and where the first one lies."""

    what: str
    split: str
    count: int
    first: str

    def __str__(self) -> str:
        return f"{self.what}: {self.count} in split {self.split}, the first at {self.first}"


def examine(folder: Path, rows: int, columns: int, classes: int) -> list[Finding]:
    """Reads every record of a data folder and says what no pipeline could use, and where.

    Costs one pass over the data, so it is called when a step has already failed.
    """
    findings: dict[tuple[str, str], Finding] = {}

    def note(what: str, split: str, path: Path, index: int) -> None:
        finding = findings.setdefault((what, split), Finding(what, split, 0, f"{path.name}, record {index}"))
        finding.count += 1

    for split in SPLITS:
        for path in sorted(folder.glob(shard_pattern(split))):
            index = -1
            try:
                for index, record in enumerate(read_serialized(path)):
                    for what in _troubles(record, rows, columns, classes):
                        note(what, split, path, index)
            except tf.errors.OpError:
                note("damaged or cut-off TFRecord", split, path, index + 1)
    return list(findings.values())


def _troubles(record: bytes, rows: int, columns: int, classes: int) -> Iterator[str]:
    try:
        feature = tf.train.Example.FromString(record).features.feature
    except Exception:  # protobuf's DecodeError has moved between its releases
        yield "record that is no tf.train.Example"
        return
    images, labels = feature[IMAGE].bytes_list.value, feature[LABEL].int64_list.value
    if len(images) != 1:
        yield f"example with {len(images)} values of {IMAGE}, expected 1"
    elif len(images[0]) != rows * columns:
        yield f"image of {len(images[0])} bytes, expected {rows} × {columns} = {rows * columns}"
    if len(labels) != 1:
        yield f"example with {len(labels)} values of {LABEL}, expected 1"
    elif not 0 <= labels[0] < classes:
        yield f"label {labels[0]}, expected 0 … {classes - 1}"
