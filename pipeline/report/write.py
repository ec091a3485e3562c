"""Writes the report of a run."""

from __future__ import annotations

from pathlib import Path

from pipeline.history.records import Run


def write_report(run: Run, path: Path) -> Path:
    """Writes the report of `run` to `path`, and returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"<!doctype html><title>{run.id}</title>\n", encoding="utf-8")
    return path
