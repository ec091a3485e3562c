"""TFRecord shards: written deterministically, read back as arrays, and examined after a step has failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, pairwise
from pathlib import Path

import numpy as np
import tensorflow as tf

from data.example import ExampleSpec, parse, problems, serialize
from data.shards import Shard
from data.splits import shard_name, shard_names

_BATCH = 64  # records held at once, which may be large


def write_split(
    folder: Path,
    split: str,
    inputs: Iterable[np.ndarray],
    labels: Sequence[int] | np.ndarray,
    shards: int,
) -> None:
    """Writes examples in order as `shards` gzipped TFRecord files, consecutive ranges of nearly equal size."""
    examples = zip(inputs, labels, strict=True)
    bounds = np.linspace(0, len(labels), shards + 1).astype(int)
    for index, (start, stop) in enumerate(pairwise(bounds)):
        path = folder / shard_name(split, index, shards)
        with tf.io.TFRecordWriter(str(path), tf.io.TFRecordOptions(compression_type="GZIP")) as writer:
            for array, label in islice(examples, stop - start):
                writer.write(serialize(array, label))
    next(examples, None)  # raises unless both have ended


def list_shards(folder: Path, split: str) -> list[Path]:
    """The shards of a split, in order.

    Raises:
        DataError: there is none, or not all of them; see `shard_names`.
    """
    return [folder / name for name in shard_names(folder, split)]


def read_serialized(path: Path | str) -> Iterator[bytes]:
    """Yields the records of one shard.

    Raises:
        tf.errors.DataLossError: a damaged or cut-off record, after the good ones before it were yielded.
    """
    compression = "GZIP" if str(path).endswith(".gz") else ""
    yield from chain.from_iterable(read_batches(tf.data.TFRecordDataset(str(path), compression), _BATCH))


def read_batches(records: tf.data.Dataset, size: int) -> Iterator[list[bytes]]:
    """Yields the records of a TFRecord file, at most `size` at a time. One by one takes five times as long.

    Raises:
        tf.errors.OpError: a damaged or cut-off record, after the good ones before it were yielded.
    """
    count = 0
    try:
        for batch in records.batch(size).prefetch(2).as_numpy_iterator():
            count += len(batch)
            yield batch.tolist()
    except tf.errors.OpError:  # it takes the good records of its batch with it
        rest: list[bytes] = []
        try:
            rest.extend(records.skip(count).as_numpy_iterator())
        finally:
            yield rest


def read_records(patterns: Sequence[str]) -> tf.data.Dataset:
    """The serialized examples of the gzipped TFRecord files that match `patterns`, in the order of their names."""
    files = sorted(file for pattern in patterns for file in tf.io.gfile.glob(pattern))
    return tf.data.TFRecordDataset(files, compression_type="GZIP")


def read_split(folder: Path, split: str, spec: ExampleSpec) -> tuple[np.ndarray, np.ndarray]:
    """Reads a whole split into memory: inputs [N, …] as `data.example.parse` gives them, labels int64 [N]."""
    examples = [parse(record, spec) for path in list_shards(folder, split) for record in read_serialized(path)]
    return np.stack([array for array, _ in examples]), np.asarray([label for _, label in examples], np.int64)


def examine(shards: Sequence[Shard], spec: ExampleSpec) -> list[str]:
    """Reads every record of the data; says what no pipeline could use, how often, and where it is first.

    It costs one pass over the data, so it is called only after a step has failed.
    """
    counts: Counter[tuple[str, str]] = Counter()
    firsts: dict[tuple[str, str], str] = {}
    for split, name, path in shards:
        for index, problem in _problems(path, spec):
            counts[problem, split] += 1
            firsts.setdefault((problem, split), f"{name}, record {index}")
    return [
        f"{problem}: {count} in split {split}, the first at {firsts[problem, split]}"
        for (problem, split), count in counts.items()
    ]


def _problems(path: str, spec: ExampleSpec) -> Iterator[tuple[int, str]]:
    index = -1
    try:
        for index, record in enumerate(read_serialized(path)):
            yield from ((index, problem) for problem in problems(record, spec))
    except tf.errors.OpError:
        yield index + 1, "damaged or cut-off TFRecord"
