"""The predictions of two runs, example by example."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.runs.records import Json, Run
from pipeline.runs.statistics import mcnemar

if TYPE_CHECKING:
    from components.evaluator.predictions import Predictions


@dataclass(frozen=True)
class Change:
    """An example that one model gets right and the other wrong.

    `position` is its place in the first run's test split. `label`, `first` and `second` are class ids: the true one,
    and what the two models predicted.
    """

    id: int
    position: int
    label: int
    first: int
    second: int

    @property
    def became_wrong(self) -> bool:
        """Whether the first model was right."""
        return self.first == self.label

    def json(self, labels: Sequence[str]) -> Json:
        """The change with the classes' names; the id in 16 hexadecimal digits."""

        def name(label: int) -> str:
            return labels[label] if label < len(labels) else str(label)

        return {
            "id": f"{self.id:016x}",
            "position": self.position,
            "change": "right to wrong" if self.became_wrong else "wrong to right",
            "label": name(self.label),
            "first": name(self.first),
            "other": name(self.second),
        }


def load_predictions(run: Run) -> Predictions | str:
    """The predictions that the Evaluator kept, or why there are none, in a few words."""
    from components.evaluator.predictions import read_predictions

    found = run.output("Evaluator", "evaluation")
    if found is None:
        return "there was no evaluation"
    if not Path(found.uri).is_dir():
        return "the evaluation's files were removed"
    try:
        return read_predictions(found.uri)
    except (OSError, ValueError, TypeError, zipfile.BadZipFile, EOFError):
        return "the file of predictions is damaged"


def compare_predictions(one: Predictions, other: Predictions) -> tuple[Json, list[Change]]:
    """Counts, McNemar's p-value, and the changes in the order of the first test split.

    Examples are the same if their ids are. A data set may hold an example several times: the first of them in one
    split is the first in the other, and so on.
    """
    first, second = shared_positions(one.ids, other.ids)
    was_right = one.class_ids[first] == one.labels[first]
    is_right = other.class_ids[second] == other.labels[second]
    changed = np.flatnonzero(was_right != is_right)
    changes = [
        Change(
            int(one.ids[position]),
            int(position),
            int(one.labels[position]),
            int(one.class_ids[position]),
            int(other.class_ids[place]),
        )
        for position, place in zip(first[changed], second[changed], strict=True)
    ]
    lost, won = int((was_right & ~is_right).sum()), int((is_right & ~was_right).sum())
    counts = {"shared": len(first), "right_to_wrong": lost, "wrong_to_right": won}
    return {**counts, "p_value": mcnemar(lost, won) if len(first) else None}, changes


def shared_positions(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the same examples are.

    Args:
        one: uint64 [N], ids; an id that occurs several times stands for that many examples.
        other: uint64 [M], ids.

    Returns:
        Two int64 [K]: positions in `one`, ascending, and those of the same examples in `other`.
    """
    import pandas as pd  # type: ignore[import-untyped]

    def numbered(ids: np.ndarray) -> pd.DataFrame:
        frame = pd.DataFrame({"id": ids, "position": range(len(ids))})
        return frame.assign(occurrence=frame.groupby("id").cumcount())

    pairs = numbered(one).merge(numbered(other), on=["id", "occurrence"], suffixes=("", "_other"))
    return pairs["position"].to_numpy(np.int64), pairs["position_other"].to_numpy(np.int64)
