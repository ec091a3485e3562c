"""The data that a run imported, as ExampleGen recorded it, without TFX."""

from __future__ import annotations

from pathlib import Path

from components.digests import DIGEST, DIGESTS, parse_digests
from pipeline.history.records import Run


def data_digest(run: Run) -> str | None:
    """SHA-256 of the list of the shards' SHA-256; None if it was not recorded."""
    examples = run.output("ExampleGen", "examples")
    return examples.properties.get(DIGEST) if examples else None


def data_files(run: Run) -> dict[str, str] | None:
    """The SHA-256 of each shard by its name; None if the list was not written, or was removed."""
    examples = run.output("ExampleGen", "examples")
    try:
        text = (Path(examples.uri) / DIGESTS).read_text() if examples else ""
    except OSError:
        return None
    return parse_digests(text) or None
