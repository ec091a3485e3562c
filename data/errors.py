"""The one exception whose message is written for the person at the keyboard."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from data.features import shard_pattern


class UserError(Exception):
    """A mistake or a circumstance the user can mend.

    The message is one sentence or two: what is wrong, where, and the remedy. Command-line
    entry points print it without a traceback and exit with a code other than 0.
    """


class ConfigError(UserError):
    """A profile or an override that cannot be used."""


class DataError(UserError):
    """The data on disk is not what it must be."""


_STORAGE = {
    errno.ENOSPC: "no space is left on the device: free some, or choose a folder on another disk",
    errno.EDQUOT: "the disk quota is used up: free some, or choose a folder on another disk",
    errno.EROFS: "the file system is read-only: choose another folder",
    errno.EACCES: "permission was denied: change the folder's rights, or choose another one",
    errno.EPERM: "permission was denied: change the folder's rights, or choose another one",
}


def storage_trouble(error: BaseException) -> str | None:
    """What is wrong with the disk if that is what `error`, or anything that led to it, says; else None.

    TensorFlow, Beam and SQLite wrap the system's errors in their own types, so the words count too.
    """
    for cause in causes(error):
        if isinstance(cause, OSError) and cause.errno in _STORAGE:
            return _STORAGE[cause.errno]
        text = str(cause)
        if any(words in text for words in (os.strerror(errno.ENOSPC), "database or disk is full", "disk I/O error")):
            return _STORAGE[errno.ENOSPC]
        if os.strerror(errno.EROFS) in text:
            return _STORAGE[errno.EROFS]
    return None


def causes(error: BaseException) -> Iterator[BaseException]:
    """`error` and what led to it, outermost first."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def missing_split(folder: Path | str, split: str) -> DataError:
    """The error for a data folder without shards of `split`."""
    return DataError(
        f"{folder} holds no file {shard_pattern(split)}, so the {split} split is missing:"
        " build the folder with python -m data.build, or point data.path of the profile elsewhere."
    )
