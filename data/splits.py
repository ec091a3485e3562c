"""The three splits of a data folder, and the names of their shards."""

from __future__ import annotations

from pathlib import Path

from data.errors import DataError

SPLITS = ("train", "eval", "test")


def shard_pattern(split: str) -> str:
    """Glob of a split's shards inside a data folder, gzipped or not."""
    return f"{split}-*.tfrecord*"


def shard_name(split: str, index: int, count: int) -> str:
    """File name of shard `index` of `count`, as TensorFlow Datasets names its shards."""
    return f"{split}-{index:05d}-of-{count:05d}.tfrecord.gz"


def missing_split(folder: Path | str, split: str) -> DataError:
    """The error for a data folder without shards of `split`."""
    return DataError(
        f"{folder} holds no file {shard_pattern(split)}, so the {split} split is missing:"
        " build the folder with python -m data.build, or point data.path of the profile elsewhere."
    )
