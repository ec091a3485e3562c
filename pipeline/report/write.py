"""Writes the report of a run, and files in one step."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from pipeline.history.records import Run


def write_report(run: Run, path: Path) -> Path:
    """Writes the report of `run` as one self-contained HTML file, and returns its path.

    A reader of `path` sees the whole new page or the old one.

    Raises:
        OSError: the file cannot be written.
    """
    from pipeline.report.collect import collect
    from pipeline.report.page import render

    write_file(render(collect(run)), path)
    return path


def write_file(text: str, path: Path) -> None:
    """Replaces the file `path` by `text`, in UTF-8, in one step.

    Raises:
        OSError: the file cannot be written. Then nothing of it is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    unfinished = Path(name)
    try:
        with open(number, "w", encoding="utf-8") as file:
            file.write(text)
        unfinished.chmod(0o666 & ~_umask())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
