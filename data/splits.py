"""The three splits of a data folder, the names of their shards, and whether all shards are there."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from pathlib import Path

from data.errors import DataError
from data.files import file_system

SPLITS = ("train", "eval", "test")


class IncompleteError(DataError):
    """A data folder that is no whole one: perhaps it is being copied."""


_NUMBERED = re.compile(r"(.+)-(\d+)(-of-(\d+)\.tfrecord(?:\.gz)?)", re.ASCII | re.DOTALL)


def shard_pattern(split: str) -> str:
    """Glob of a split's shards inside a data folder, gzipped or not."""
    return f"{split}-*.tfrecord*"


def shard_name(split: str, index: int, count: int) -> str:
    """File name of shard `index` of `count`, as TensorFlow Datasets names its shards."""
    return f"{split}-{index:05d}-of-{count:05d}.tfrecord.gz"


def is_shard(name: str) -> bool:
    """Whether a file that matches the pattern of a split is a shard, and no leftover such as a `.bak`."""
    return name.endswith((".tfrecord", ".tfrecord.gz"))


def check_shards(folder: Path | str) -> None:
    """Stops unless every split of a data folder has all its shards. It reads one byte of each.

    Raises:
        IncompleteError, DataError: a split without shards, or what `shard_names` raises.
    """
    for split in SPLITS:  # a missing split is said before a damaged one
        _matches(folder, split)
    for split in SPLITS:
        shard_names(folder, split)


def shard_names(folder: Path | str, split: str) -> list[str]:
    """The names of a split's shards, in order.

    Names that say `-of-N` must be complete. Other names may be in the split too.

    Raises:
        IncompleteError: there is none; a number is missing; a shard is empty; another file matches the pattern.
        DataError: a number is doubled, a shard cannot be read, or a folder matches the pattern.
    """
    names = _matches(folder, split)
    if folders := [name for name in names if file_system(folder).isdir(f"{folder}/{name}")]:
        raise DataError(
            f"{folder} holds a folder that is named like a shard of the {split} split: {_listed(folders)}."
            " Move it out of the data folder, or rename it."
        )
    if others := [name for name in names if not is_shard(name)]:
        raise IncompleteError(
            f"{folder} holds a file that is no shard, but matches {shard_pattern(split)}: {_listed(others)}."
            " The name of a shard ends in .tfrecord or .tfrecord.gz. Move the file out of the data folder."
        )
    _check_numbers(folder, split, names)
    without = [name for name in names if not _has_content(f"{folder}/{name}")]
    empty = [name for name in without if name.endswith(".gz")]  # without records, others have no bytes
    if empty:
        raise IncompleteError(
            f"{folder} holds a gzipped shard of 0 bytes, which is none: {_listed(empty)}. Copy it again from where the"
            " folder comes from, or build the folder again with python -m data.build."
        )
    return names


def pattern_problem(path: Path | str) -> str:
    """What is wrong with a path that TFX and Beam take for a pattern; empty for another path."""
    used = re.search(r"[*?[\\]", str(path))
    return f"has the character {used[0]}, which TFX takes for a pattern" if used else ""


def _matches(folder: Path | str, split: str) -> list[str]:
    if problem := pattern_problem(folder):
        raise DataError(f"The path of the data folder {folder} {problem}: rename the folder.")
    names = sorted(path.rpartition("/")[2] for path in file_system(folder).glob(f"{folder}/{shard_pattern(split)}"))
    if not names:
        raise IncompleteError(
            f"{folder} holds no file {shard_pattern(split)}, so the {split} split is missing:"
            " build the folder with python -m data.build, or point data.path of the profile elsewhere."
        )
    return names


def _check_numbers(folder: Path | str, split: str, names: list[str]) -> None:
    """Raises a DataError unless all names that say `-of-N` are there, each once."""
    sets: dict[str, dict[int, dict[int, str]]] = defaultdict(lambda: defaultdict(dict))
    for name in names:
        match = _NUMBERED.fullmatch(name)
        if not match:
            continue
        double = sets[match[1]][int(match[4])].setdefault(int(match[2]), name)
        if double != name:
            raise DataError(
                f"{folder} holds shard {int(match[2])} of the {split} split twice, as {double} and as {name}:"
                " move one of them out of the data folder."
            )
    for counts in sets.values():
        if len(counts) > 1:
            firsts = [next(iter(shards.values())) for shards in counts.values()]
            raise DataError(
                f"{folder} holds shards of several sets in the {split} split, such as {_listed(firsts)}:"
                " move all but one set out of the data folder."
            )
        ((count, shards),) = counts.items()
        if shards.keys() == set(range(1, count + 1)):  # some count from 1
            continue
        if beyond := [shards[index] for index in sorted(shards) if index >= count]:
            raise DataError(
                f"{folder} holds a shard of the {split} split with a number beyond {count - 1}, the last of"
                f" {count}: {_listed(beyond)}. Correct its name, or move it out of the data folder."
            )
        match = _NUMBERED.fullmatch(next(iter(shards.values())))
        if match and len(shards) < count:
            absent = itertools.islice((index for index in range(count) if index not in shards), 3)
            first = [f"{match[1]}-{index:0{len(match[2])}d}{match[3]}" for index in absent]
            raise IncompleteError(
                f"{folder} lacks a part of the {split} split: {_listed(first, count - len(shards))}. Copy it from where"
                " the folder comes from, or build the folder again with python -m data.build."
            )


def _has_content(path: str) -> bool:
    try:
        with file_system(path).GFile(path, "rb") as file:
            return bool(file.read(1))
    except Exception as error:  # each file system has errors of its own
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"The shard {path} cannot be read ({reason}): correct its rights, or copy it again.") from error


def _listed(names: list[str], count: int = 0) -> str:
    """The first three names, and how many more there are of `count`, or of the names."""
    more = max(count, len(names)) - 3
    return ", ".join(names[:3]) + (f" and {more} more" if more > 0 else "")
