"""Whether a run's artifacts can be read, and if not, why: the sentence that the page shows instead."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from pipeline.runs.records import Run

Found = TypeVar("Found")
log = logging.getLogger(__name__)


def missing(run: Run, step: str, key: str) -> str:
    """Why the files of an output cannot be read, in one sentence; empty if they can.

    Args:
        run: the run.
        step: the step that wrote the artifact.
        key: of the artifact among the outputs of that step.
    """
    found = run.step(step)
    if found is None:
        return f"The step {step} did not run: {_ending(run)}."
    artifact = found.outputs.get(key)
    if not found.done or artifact is None:
        return f"The step {step} has no result: {_ending(run)}."
    if not artifact.alive:
        return f"The files that {step} wrote are gone or have changed: {artifact.path}"
    return ""


def _ending(run: Run) -> str:
    """How a run that lacks a step ended, as a clause."""
    verdict = run.verdict
    if verdict == "data refused":
        return "the data gate refused the data"
    if verdict.startswith("done up to"):
        return f"the run was asked for the steps up to {run.last_step}"
    if verdict.startswith(("failed", "stopped")):
        return f"the run {verdict}"
    return "it was not part of this run"


def attempt(read: Callable[[], Found | str]) -> Found | str:
    """The result of `read`, or a sentence if it fails. A damaged file must not cost the whole page."""
    try:
        return read()
    except Exception as error:
        log.exception("A part of the report could not be made.")
        first = (str(error).strip().splitlines() or [""])[0]
        return f"This part could not be made: {type(error).__name__}: {first[:300]}"
