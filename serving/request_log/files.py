"""The files of a request log: one folder an hour (UTC), a file appears when it is complete, the oldest are removed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from serving.errors import LogError
from serving.records import frame, whole_bytes

HOUR = "%Y-%m-%dT%H"
"""The name of an hour's folder."""
_SUFFIX, _UNFINISHED = ".tfrecord", ".unfinished"
_FILE_BYTES = 64 * 2**20
_FILE_SECONDS = 300.0


def hour_of(folder: Path) -> datetime | None:
    """The hour of a folder, or None if it is not a folder of an hour."""
    try:
        return datetime.strptime(folder.name, HOUR).replace(tzinfo=UTC)
    except ValueError:
        return None


class Files:
    """Writes records. Several processes may write to one folder, each with an object of its own.

    A file is complete after five minutes, at 64 MiB (or a tenth of `max_mb`), or with its hour. Until then its name
    begins with a dot. An unfinished file of a process that has ended is cut after its last whole record and completed.

    Args:
        folder: is made if it is not there, for its owner alone, as all that is in it.
        max_mb: how many MB (10⁶ bytes) the files may have. Above that, the oldest are removed.
        max_days: after how many days a file is removed.

    Raises:
        OSError: from all methods. What was written before stays whole, and the object can be used again.
    """

    def __init__(self, folder: Path, max_mb: float, max_days: float) -> None:
        self._folder, self._max_bytes, self._max_age = folder, int(max_mb * 1e6), timedelta(days=max_days)
        self._file: int | None = None
        self._path, self._size, self._end, self._hour = folder, 0, 0.0, ""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._tidy()

    def write(self, record: bytes, time_ns: int) -> None:
        """Appends a record. `time_ns` is its time in nanoseconds since 1970; it says in which hour's folder it is."""
        framed = frame(record)
        hour = time.strftime(HOUR, time.gmtime(time_ns / 1e9))
        if self._size + len(framed) > min(_FILE_BYTES, self._max_bytes // 10) or hour != self._hour:
            self.close()
        self.complete_old()
        file = self._file if self._file is not None else self._open(hour)
        try:
            rest = memoryview(framed)
            while rest:
                rest = rest[os.write(file, rest) :]
        except OSError:
            try:
                os.ftruncate(file, self._size)
            except OSError:
                self._forget()  # the next process completes it
            raise
        self._size += len(framed)

    def complete_old(self) -> None:
        """Completes the file if it is five minutes old."""
        if time.monotonic() > self._end:
            self.close()

    def close(self) -> None:
        """Completes the file."""
        if self._file is None:
            return
        try:
            _complete(self._file, self._path, self._size)
        finally:
            self._forget()

    def _forget(self) -> None:
        if self._file is not None:
            os.close(self._file)
        self._file, self._size, self._hour = None, 0, ""

    def _open(self, hour: str) -> int:
        self._tidy()
        folder = self._folder / hour
        folder.mkdir(mode=0o700, exist_ok=True)
        while True:
            stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
            self._path = folder / f".{stamp}-{uuid.uuid4().hex[:8]}{_SUFFIX}{_UNFINISHED}"
            file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
            # Another process takes a file that nobody has locked for a leftover.
            if _lock(file) and os.fstat(file).st_nlink:
                self._file, self._hour, self._end = file, hour, time.monotonic() + _FILE_SECONDS
                return file
            os.close(file)

    def _tidy(self) -> None:
        """Completes what ended processes left, and removes the oldest files until the limits hold."""
        for path in sorted(self._found(_UNFINISHED)):
            with contextlib.suppress(OSError, LogError):  # another process has completed it, or another user owns it
                file = os.open(path, os.O_WRONLY | os.O_APPEND)
                try:
                    if _lock(file):
                        whole = whole_bytes(path)
                        os.ftruncate(file, whole)
                        _complete(file, path, whole)
                finally:
                    os.close(file)
        oldest = datetime.now(UTC) - self._max_age - timedelta(hours=1)
        total = sum(_size(path) for suffix in (_SUFFIX, _UNFINISHED) for path in self._found(suffix))
        for path in sorted(self._found(_SUFFIX)):
            hour = hour_of(path.parent)
            if total > self._max_bytes or (hour and hour < oldest):
                total -= _size(path)
                path.unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # there are other files in it
                    path.parent.rmdir()

    def _found(self, suffix: str) -> Iterator[Path]:
        for folder in self._folder.iterdir():
            if hour_of(folder):
                with contextlib.suppress(FileNotFoundError):  # another process has removed it
                    yield from (path for path in folder.iterdir() if path.name.endswith(suffix))


def _complete(file: int, path: Path, size: int) -> None:
    if not size:
        path.unlink(missing_ok=True)
        return
    os.fsync(file)
    path.rename(path.with_name(path.name.removeprefix(".").removesuffix(_UNFINISHED)))
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
