"""The shards that a run reads: those of a data folder, or of the days of a window, and those of the golden set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from data.days import Day, find_days, find_window, has_days, to_text
from data.splits import SPLITS, check_shards, shard_names

GOLDEN = "golden"
"""The split of the fixed test set that lies beside the days."""


class Shard(NamedTuple):
    """One file of a split. Its name has the label of its day or of the golden set before it, as in `golden/test-…`."""

    split: str
    name: str
    path: str


class Source(NamedTuple):
    """The days of a window, oldest first, or none; all shards; and a sentence for each day that is left out."""

    days: list[Day]
    shards: list[Shard]
    left_out: list[str]

    @property
    def window(self) -> str:
        """The days as a text; empty for a data folder."""
        return to_text(day.label for day in self.days)


def find_source(path: str, window: int, golden: str = "", days: str = "") -> Source:
    """The shards of the data at `path`.

    Args:
        path: of a data folder, or one that names days.
        window: how many days.
        golden: the folder whose test split is the golden set; without one there is no such set.
        days: the window as `data.days.to_text` gave it; empty: the newest days.

    Raises:
        DataError: a shard is missing, empty or cannot be read, a day is gone, or there is none.
    """
    chosen: Sequence[Day] = ()
    left_out: list[str] = []
    if has_days(path):
        chosen, left_out = (find_days(path, days), []) if days else find_window(path, window)
    else:
        check_shards(path)
    folders = {day.label: day.path for day in chosen} or {"": path}
    shards = [
        Shard(split, f"{label}/{name}" if label else name, f"{folder}/{name}")
        for label, folder in folders.items()
        for split in SPLITS
        for name in shard_names(folder, split)
    ]
    if golden:
        shards += [Shard(GOLDEN, f"{GOLDEN}/{name}", f"{golden}/{name}") for name in shard_names(golden, "test")]
    return Source(list(chosen), shards, left_out)


def day_of(name: str) -> str:
    """The label of the day in the name of a shard; empty for a data folder, and for the golden set."""
    label = name.rpartition("/")[0]
    return "" if label == GOLDEN else label


def imported_name(name: str) -> str:
    """The name of a shard among the imported examples, which are all gzipped."""
    return name.replace("/", ".").removesuffix(".gz") + ".gz"
