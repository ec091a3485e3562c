"""Errors: the exceptions whose messages are written for the user, and what other exceptions say about the disk."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

_REMEDIES = {
    errno.ENOSPC: "no space is left on the device: free some, or choose a folder on another disk",
    errno.EDQUOT: "the disk quota is used up: free some, or choose a folder on another disk",
    errno.EROFS: "the file system is read-only: choose another folder",
    errno.EACCES: "permission was denied: change the folder's rights, or choose another one",
    errno.EPERM: "permission was denied: change the folder's rights, or choose another one",
}
_NO_S3 = (
    "TensorFlow knows s3:// through tensorflow-io, which has no release for TensorFlow 2.21: use gs:// or a mounted"
    " volume, or install the project with its extra s3 on Python 3.11"
)


class UserError(Exception):
    """A mistake or a condition that the user can correct.

    The message is one sentence or two: what is wrong, where, and the remedy. The commands print it without a
    traceback and exit with a code other than 0.
    """


class SettingsError(UserError):
    """A profile, an override or an environment variable that cannot be used."""


class DataError(UserError):
    """The data on disk is not what it must be."""


def storage_problem(error: BaseException) -> str | None:
    """The problem with the disk, and its remedy, if `error` or one of its causes reports one; else None.

    TensorFlow, Beam and SQLite wrap the system's errors in their own types, so the text of the message counts too.
    """
    for cause in causes(error):
        if isinstance(cause, OSError) and cause.errno in _REMEDIES:
            return _REMEDIES[cause.errno]
        text = str(cause)
        if any(words in text for words in (os.strerror(errno.ENOSPC), "database or disk is full", "disk I/O error")):
            return _REMEDIES[errno.ENOSPC]
        if os.strerror(errno.EROFS) in text:
            return _REMEDIES[errno.EROFS]
        if "File system scheme 's3' not implemented" in text:
            return _NO_S3
    return None


def causes(error: BaseException) -> Iterator[BaseException]:
    """`error` and its causes, outermost first."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
