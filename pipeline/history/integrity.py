"""Whether the files of an artifact are those that its step wrote."""

from __future__ import annotations

import hashlib
from pathlib import Path

LISTINGS = "listings"
"""The custom property of a run's context: the listings of the artifacts that it wrote, JSON by their ids.

They are not properties of the artifacts: TFX's cache compares these.
"""


def listing(path: Path) -> str:
    """The number of files at `path`, their bytes, and a hash of their names and sizes. Hidden files do not count."""
    found = [path] if path.is_file() else sorted(file for file in path.rglob("[!.]*") if file.is_file())
    sizes = [file.stat().st_size for file in found]
    text = "".join(f"{file.relative_to(path)} {size}\n" for file, size in zip(found, sizes, strict=True))
    return f"{len(found)} files, {sum(sizes)} bytes, {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def is_whole(path: Path, recorded: str | None) -> bool:
    """Whether `path` exists, and has the recorded listing if there is one."""
    return path.exists() and recorded in (None, listing(path))
