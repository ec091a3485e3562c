"""The data that a run imported, as ExampleGen recorded it, without TFX."""

from __future__ import annotations

from pathlib import Path

from pipeline.history.records import Run

DIGEST = "data_digest"
"""components.example_gen.DIGEST; that module loads TFX and Beam."""
_DIGESTS = "SHA256SUMS"


def data_digest(run: Run) -> str | None:
    """SHA-256 of the list of the shards' SHA-256; None if it was not recorded."""
    examples = run.output("ExampleGen", "examples")
    return examples.properties.get(DIGEST) if examples else None


def data_files(run: Run) -> dict[str, str] | None:
    """The SHA-256 of each shard by its name; None if the list was not written, or was removed."""
    examples = run.output("ExampleGen", "examples")
    try:
        lines = (Path(examples.uri) / _DIGESTS).read_text().splitlines() if examples else []
    except OSError:
        return None
    return {name: digest for digest, name in (line.split("  ", 1) for line in lines)} or None
