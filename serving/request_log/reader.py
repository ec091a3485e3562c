"""Reads a request log, or PredictionLogs that others wrote."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import groupby
from operator import attrgetter, itemgetter
from pathlib import Path

from serving.errors import LogError
from serving.records import read_records
from serving.request_log.files import hour_of
from serving.request_log.record import Record, decode_record

_TFRECORD = "tfrecord"


def read(source: Path, since: datetime | None = None, until: datetime | None = None) -> Iterator[Record]:
    """Yields the records of a log in the order of their times. Unfinished files are left out.

    Args:
        source: a request log's folder; or a file of PredictionLogs, also one of TensorFlow Serving; or a folder of such
            files, with `tfrecord` in their names. They are read one after another in the order of their times. A record
            without a time has that of its file.
        since: the earliest time, with its zone.
        until: the time, with its zone, before which the records are.

    Raises:
        LogError: there is no such file or folder, or no file in it; or one is damaged or holds other records. The
            records before were yielded.
    """
    if not source.exists():
        raise LogError(f"{source} is not there. Give the folder of a request log, or a file of PredictionLogs.")
    if source.is_dir():
        inside = list(source.iterdir())
        if inside and not any(hour_of(path) or _TFRECORD in path.name for path in inside):
            raise LogError(f"{source} holds no hour of a request log, and no file with {_TFRECORD} in its name.")
    files = sorted((hour_of(path.parent) or _modified(path), path) for path in _files(source))
    for begin, group in groupby(files, itemgetter(0)):
        paths = [path for _, path in group]
        if hour_of(paths[0].parent) and not _overlaps(begin, since, until):
            continue
        for record in heapq.merge(*(_records(path, begin) for path in paths), key=attrgetter("time")):
            if (since is None or record.time >= since) and (until is None or record.time < until):
                yield record


def _files(source: Path) -> Iterator[Path]:
    if source.is_file():
        yield source
    else:
        found = (path for path in source.rglob(f"*{_TFRECORD}*") if path.is_file())
        yield from (path for path in found if not path.name.startswith("."))


def _overlaps(hour: datetime, since: datetime | None, until: datetime | None) -> bool:
    return (until is None or hour < until) and (since is None or hour + timedelta(hours=1) > since)


def _records(path: Path, otherwise: datetime) -> Iterator[Record]:
    for number, record in enumerate(read_records(path)):
        try:
            yield decode_record(record, otherwise)
        except ValueError as error:
            raise LogError(f"{path}, record {number}: {error}. Leave the file out.") from None


def _modified(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)
