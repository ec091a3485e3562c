"""TFRecord shards: written deterministically, read back as arrays, and examined after a step has failed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import tensorflow as tf

from data.example import ExampleSpec, parse, problems, serialize
from data.splits import SPLITS, is_shard, shard_name, shard_names, shard_pattern


def write_split(
    folder: Path,
    split: str,
    inputs: Sequence[np.ndarray] | np.ndarray,
    labels: Sequence[int] | np.ndarray,
    shards: int,
    on_record: Callable[[], None] = lambda: None,
) -> None:
    """Writes examples in order as `shards` gzipped TFRecord files, consecutive ranges of nearly equal size."""
    bounds = np.linspace(0, len(labels), shards + 1).astype(int)
    for index, (start, stop) in enumerate(pairwise(bounds)):
        path = folder / shard_name(split, index, shards)
        with tf.io.TFRecordWriter(str(path), tf.io.TFRecordOptions(compression_type="GZIP")) as writer:
            for array, label in zip(inputs[start:stop], labels[start:stop], strict=True):
                writer.write(serialize(array, label))
                on_record()


def list_shards(folder: Path, split: str) -> list[Path]:
    """The shards of a split, in order.

    Raises:
        DataError: there is none, or not all of them; see `shard_names`.
    """
    return [folder / name for name in shard_names(folder, split)]


def read_serialized(path: Path) -> Iterator[bytes]:
    """Yields the records of one shard.

    Raises:
        tf.errors.DataLossError: a damaged or cut-off record, after the good ones before it were yielded.
    """
    compression = "GZIP" if path.suffix == ".gz" else ""
    yield from tf.data.TFRecordDataset(str(path), compression_type=compression).as_numpy_iterator()


def read_records(patterns: Sequence[str]) -> tf.data.Dataset:
    """The serialized examples of the gzipped TFRecord files that match `patterns`, in the order of their names."""
    files = sorted(file for pattern in patterns for file in tf.io.gfile.glob(pattern))
    return tf.data.TFRecordDataset(files, compression_type="GZIP")


def read_split(folder: Path, split: str, spec: ExampleSpec) -> tuple[np.ndarray, np.ndarray]:
    """Reads a whole split into memory: inputs [N, …] as `data.example.parse` gives them, labels int64 [N]."""
    examples = [parse(record, spec) for path in list_shards(folder, split) for record in read_serialized(path)]
    return np.stack([array for array, _ in examples]), np.asarray([label for _, label in examples], np.int64)


@dataclass
class Finding:
    """One kind of problem in one split: how many examples have it, and where the first one lies."""

    problem: str
    split: str
    count: int
    first: str

    def __str__(self) -> str:
        return f"{self.problem}: {self.count} in split {self.split}, the first at {self.first}"


def examine(folder: Path, spec: ExampleSpec) -> list[Finding]:
    """Reads every record of a data folder and lists what no pipeline could use, and where.

    It costs one pass over the data, so it is called only after a step has failed.
    """
    findings: dict[tuple[str, str], Finding] = {}

    def add(problem: str, split: str, path: Path, index: int) -> None:
        finding = findings.setdefault((problem, split), Finding(problem, split, 0, f"{path.name}, record {index}"))
        finding.count += 1

    for split in SPLITS:
        for path in sorted(filter(lambda path: is_shard(path.name), folder.glob(shard_pattern(split)))):
            index = -1
            try:
                for index, record in enumerate(read_serialized(path)):
                    for problem in problems(record, spec):
                        add(problem, split, path, index)
            except tf.errors.OpError:
                add("damaged or cut-off TFRecord", split, path, index + 1)
    return list(findings.values())
