"""Evidently's part of `tests.benchmarks.drift`, in an environment that has Evidently: prints a JSON array.

Each row is a method, a shift, the size of the streams, and the share of streams with an alarm. The columns are those
that the monitor tests: the probabilities of the classes, and the answer.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from evidently.legacy.calculations.stattests import get_stattest
from evidently.legacy.core import ColumnType
from streams import Streams  # the file beside this one


def drifted(reference: np.ndarray, current: np.ndarray) -> list[bool]:
    """Whether Evidently finds a drift in each column, with the test and the threshold that it chooses.

    The DataDriftPreset does the same, and draws a page each time, which takes two seconds.
    """
    columns = [(ColumnType.Numerical, reference[:, label], current[:, label]) for label in range(10)]
    columns.append((ColumnType.Categorical, *(part.argmax(axis=1).astype(str) for part in (reference, current))))
    found = []
    for kind, *parts in columns:
        before, now = map(pd.Series, parts)
        found.append(bool(get_stattest(before, now, kind, None)(before, now, kind, None).drifted))
    return found


def main() -> None:
    given = json.loads(sys.argv[1])
    streams, rows = Streams(Path(given["file"])), []
    for shift, count in given["counts"].items():
        for size in given["sizes"]:
            alarms = []
            for number in range(count):
                found = drifted(streams.reference(number)[0], streams.stream(shift, number, size)[0])
                alarms.append((any(found), np.mean(found) >= 0.5))
            any_column, data_set = np.mean(alarms, axis=0).tolist()
            rows += [("Evidently, any column", shift, size, any_column), ("Evidently, data set", shift, size, data_set)]
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
