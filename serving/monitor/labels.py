"""True labels that come later, by the ids of the requests."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import UserError

Labels = Mapping[str, list[Any]]
"""The labels of each id, in the order of the file."""


def read_labels(path: Path) -> Labels:
    """The columns `id` and `label` of a CSV or Parquet file.

    An id of a request with several inputs stands in several rows, in their order.

    Raises:
        UserError: the file cannot be read, or lacks a column.
    """
    found: dict[str, list[Any]] = {}
    for id_, label in _rows(path):
        found.setdefault(str(id_), []).append(label)
    return found


def class_ids(labels: Iterable[Any], names: tuple[str, ...]) -> np.ndarray:
    """The class ids, int64 [N], of labels that are the names of classes or their ids; -1 for None and an empty text.

    Raises:
        UserError: a label is none of these.
    """
    ids = {"": -1, **{name: class_id for class_id, name in enumerate(names)}}
    found = []
    for label in labels:
        text = "" if label is None else str(label).strip()
        class_id = ids.get(text, int(text) if text.isdecimal() else len(names))
        if class_id >= len(names):
            raise UserError(f"The label {text} is neither one of the {len(names)} classes nor the number of one.")
        found.append(class_id)
    return np.array(found, np.int64)


def _rows(path: Path) -> list[tuple[Any, Any]]:
    try:
        if path.suffix == ".parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            try:
                table = pq.read_table(path)
            except pa.ArrowException as error:
                raise ValueError(str(error).splitlines()[0]) from None
            _check(path, table.schema.names)
            return list(zip(table.column("id").to_pylist(), table.column("label").to_pylist(), strict=True))
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            _check(path, rows.fieldnames or [])
            return [(row["id"], row["label"]) for row in rows]
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from None
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path} is no CSV or Parquet file: {error}.") from None


def _check(path: Path, names: Iterable[str]) -> None:
    if missing := {"id", "label"} - {*names}:
        raise UserError(f"{path} has no column {min(missing)}: it needs the columns id and label.")
