"""Files that are replaced in one step."""

from __future__ import annotations

import os
from pathlib import Path


def write_file(text: str, path: Path) -> None:
    """Replaces the file `path` by `text`, in UTF-8, in one step.

    Raises:
        OSError: the file cannot be written. Then nothing of it is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
