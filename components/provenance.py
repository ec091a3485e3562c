"""Where a pushed model comes from: `assets.extra/provenance.json` in its folder, readable without ML Metadata."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

FILE = os.path.join("assets.extra", "provenance.json")


def environment() -> dict[str, str]:
    """The version of Python, and of each installed distribution by its name."""
    found = {distribution.name: distribution.version for distribution in distributions()}
    return {"python": platform.python_version(), **dict(sorted(found.items(), key=lambda item: item[0].lower()))}


def write_provenance(folder: str, content: dict[str, Any]) -> None:
    """Writes `content` as JSON into the version `folder`, on any file system that TFX can write."""
    from tfx.dsl.io import fileio

    fileio.makedirs(os.path.dirname(f"{folder}/{FILE}"))
    with fileio.open(f"{folder}/{FILE}", "w") as file:
        file.write(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read_provenance(folder: Path) -> dict[str, Any] | None:
    """The content of the file in a version folder of this machine; None where there is none.

    Raises:
        ValueError: the file is not JSON.
    """
    try:
        return json.loads((folder / FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
