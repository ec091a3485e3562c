"""The report: a run as one HTML file, and the command that writes it again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.runs.records import Run


def write_report(run: Run, path: Path) -> Path:
    """Writes the report of `run` as one self-contained HTML file, and returns its path.

    A reader of `path` sees the whole new page or the old one.

    Raises:
        OSError: the file cannot be written.
    """
    from pipeline.report.collect import collect
    from pipeline.report.page import render
    from pipeline.runs.files import write_file

    write_file(render(collect(run)), path)
    return path
