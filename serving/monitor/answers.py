"""Answers from a request log, or from the tables of `pipeline.predict`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import UserError
from serving.request_log.reader import read
from serving.request_log.record import Record

_PARQUET = ".parquet"
_COLUMNS = ("id", "probabilities", "model_version")


@dataclass(frozen=True)
class Answers:
    """What one request was answered, or some rows of a table: N answers of one version.

    `probabilities` is [N, K], or None for a request that has none. `names` are the classes of the K columns, in their
    order, if the answer says so. `inputs` is the numeric input [N, …], if the log has one. `ids` has the id of the
    request, or one id for each row of a table. `labels` are true class ids, -1 where there is none.
    """

    model: str
    version: int | None
    time: datetime
    ids: Sequence[str]
    probabilities: np.ndarray | None
    names: tuple[str, ...] = ()
    inputs: np.ndarray | None = None
    labels: np.ndarray | None = None


def read_answers(source: Path, since: datetime | None) -> Iterator[Answers]:
    """Yields the answers of a request log, or of a Parquet file or a folder of them, from the time `since` on.

    Raises:
        LogError: the log cannot be read.
        UserError: a table cannot be read, or has other columns.
    """
    tables = sorted(source.glob(f"*{_PARQUET}")) if source.is_dir() else [source] * (source.suffix == _PARQUET)
    if tables:
        for table in tables:
            yield from _rows(table, since)
    else:
        for record in read(source, since):
            yield _answer(record)


def _answer(record: Record) -> Answers:
    outputs, names = record.outputs, tuple[str, ...]()
    probabilities = outputs.get("probabilities")
    if record.method == "Classify":
        probabilities, classes = outputs.get("scores"), outputs.get("classes")
        if classes is not None and len(classes):
            names = tuple(name.decode("utf-8", "replace") for name in classes[0])
    elif probabilities is not None and probabilities.ndim == 3 and probabilities.shape[1]:
        probabilities = probabilities[:, -1]  # of predict_rows: the answer after the last row
    if probabilities is None or probabilities.ndim != 2 or probabilities.dtype.kind != "f":
        return Answers(record.model, record.version, record.time, [record.request_id], None)
    arrays = [array for array in record.inputs.values() if array.dtype.kind in "biuf" and array.ndim > 1]
    inputs = arrays[0] if len(arrays) == 1 and len(arrays[0]) == len(probabilities) else None
    return Answers(record.model, record.version, record.time, [record.request_id], probabilities, names, inputs)


def _rows(path: Path, since: datetime | None) -> Iterator[Answers]:
    """The rows of a table, which have the time of the file: a request log has one for each request."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    if since and written < since:
        return
    try:
        table = pq.ParquetFile(path)
        names = table.schema_arrow.names
        if missing := [name for name in _COLUMNS if name not in names]:
            raise UserError(f"{path} has no column {missing[0]}: it is no output of python -m pipeline.predict.")
        for batch in table.iter_batches(columns=[*_COLUMNS, *({"label"} & {*names})]):
            columns: dict[str, Any] = {name: batch.column(name) for name in batch.schema.names}
            versions = np.array(columns["model_version"].to_pylist(), object)
            for version in dict.fromkeys(versions.tolist()):
                chosen = np.flatnonzero(versions == version)
                taken = {name: column.take(pa.array(chosen)).to_pylist() for name, column in columns.items()}
                labels = None
                if "label" in taken:
                    labels = np.array([-1 if label is None else label for label in taken["label"]], np.int64)
                probabilities = np.array(taken["probabilities"], np.float32)
                yield Answers("", version, written, taken["id"], probabilities, labels=labels)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
