"""A folder that appears when it is complete, and not before."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from data.errors import DataError, storage_problem
from data.process import remove_older


@contextlib.contextmanager
def unfinished(out: Path) -> Iterator[Path]:
    """A new folder beside `out`. At the end it is renamed to `out`, which is never incomplete; an error removes it.

    Such folders of builds that were killed are removed when they are a day old.

    Raises:
        DataError: `out` is there, or cannot be created.
    """
    if os.path.lexists(out):
        what = "exists already" if out.exists() else "is a link to nothing"
        raise DataError(f"{out} {what}: remove it or choose another --out.")
    with contextlib.suppress(OSError):
        remove_older(out.parent, f".{glob.escape(out.name)}.unfinished-????????", seconds=24 * 60 * 60)
    created = [parent for parent in out.parents if not os.path.lexists(parent)]
    folder: Path | None = None
    try:
        with _creating(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.unfinished-", dir=out.parent))
        yield folder
        with _creating(out):
            folder.chmod(0o755)
            folder.rename(out)
    except BaseException:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        for parent in created:
            with contextlib.suppress(OSError):  # another process may use it now
                parent.rmdir()
        raise


@contextlib.contextmanager
def _creating(out: Path) -> Iterator[None]:
    """Turns an error of the system into a sentence, unless `storage_problem` has one."""
    try:
        yield
    except OSError as error:
        if storage_problem(error):
            raise
        raise DataError(f"{out} cannot be created ({error.strerror}): choose another --out.") from error
