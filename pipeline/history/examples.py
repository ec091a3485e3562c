"""The predictions of two runs, example by example."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.runs.records import Json, Run, class_name
from pipeline.runs.statistics import mcnemar

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]

    from components.evaluator.predictions import Predictions


def load_predictions(run: Run) -> Predictions | str:
    """The predictions that the Evaluator kept, or why there are none, in a few words."""
    from components.evaluator.predictions import read_predictions

    found = run.output("Evaluator", "evaluation")
    if found is None:
        return "there was no evaluation"
    if not found.alive:
        return "the evaluation's files are gone or have changed"
    try:
        return read_predictions(found.uri)
    except (OSError, ValueError, TypeError, zipfile.BadZipFile, EOFError):
        return "the file of predictions is damaged"


def compare_predictions(one: Predictions, other: Predictions, labels: Sequence[str]) -> Json:
    """Counts, McNemar's p-value, and the changes in the order of the first test split.

    Examples are the same if their ids are. A data set may hold an example several times: the first of them in one
    split is the first in the other, and so on. `labels` are the names of the classes.

    Returns:
        `shared`, `right_to_wrong` and `wrong_to_right` count examples; `changes` has for each example that changed
        sides its id (16 hexadecimal digits), its place in the first split, and the names of three classes.
    """
    pairs = _table(one).merge(_table(other), on=["id", "occurrence"], suffixes=("", "_other"))
    was, now = pairs.predicted == pairs.label, pairs.predicted_other == pairs.label_other
    lost, won = int((was & ~now).sum()), int((~was & now).sum())
    return {
        "shared": len(pairs),
        "right_to_wrong": lost,
        "wrong_to_right": won,
        "p_value": mcnemar(lost, won) if len(pairs) else None,
        "changes": [
            {
                "id": f"{row.id:016x}",
                "position": row.position,
                "change": "right to wrong" if row.predicted == row.label else "wrong to right",
                "label": class_name(row.label, labels),
                "first": class_name(row.predicted, labels),
                "other": class_name(row.predicted_other, labels),
            }
            for row in pairs[was != now].itertuples()
        ],
    }


def _table(found: Predictions) -> pd.DataFrame:
    import pandas as pd

    table = pd.DataFrame({"id": found.ids, "label": found.labels, "predicted": found.class_ids})
    return table.assign(position=range(len(table)), occurrence=table.groupby("id").cumcount())
