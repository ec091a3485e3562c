"""The one exception whose message is written for the person at the keyboard."""

import errno
import os


class UserError(Exception):
    """A mistake or a circumstance the user can mend.

    The message is one sentence or two: what is wrong, where, and the remedy. Command-line
    entry points print it without a traceback and exit with a code other than 0.
    """


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
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, OSError) and chain.errno in _STORAGE:
            return _STORAGE[chain.errno]
        text = str(chain)
        if any(words in text for words in (os.strerror(errno.ENOSPC), "database or disk is full", "disk I/O error")):
            return _STORAGE[errno.ENOSPC]
        if os.strerror(errno.EROFS) in text:
            return _STORAGE[errno.EROFS]
        chain = chain.__cause__ or chain.__context__
    return None
