"""What gc keeps: runs, versions and artifacts that something still needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from data.errors import UserError
from pipeline.definition import STEPS
from pipeline.history.records import Run
from pipeline.history.store import History
from pipeline.history.versions import model_folders, provenance_of, same_model, version_folders
from pipeline.local.run_root import RunRoot


def kept_runs(history: History, root: RunRoot, runs: Sequence[Run], keep: int) -> dict[str, str]:
    """Why each run is kept, by its id.

    Args:
        history: of all pipelines.
        root: its versions count too.
        runs: all runs, oldest first.
        keep: how many of the newest runs of each pipeline.
    """
    served = {run_id for model in model_folders(root) for run_id in _makers(model, runs)}
    kept = dict.fromkeys(sorted(served), "made what is served or its baseline")
    for pipeline in {run.pipeline for run in runs}:
        mine = [run for run in runs if run.pipeline == pipeline]
        kept |= dict.fromkeys(sorted(_reusable(mine)), "--from reuses")
        kept |= {run.id: "among the newest" for run in mine[-keep:]}
    with suppress(UserError):  # every run has finished
        kept.setdefault(history.unfinished().id, "--resume takes up")
    return kept


def kept_versions(model: Path, runs: Iterable[Run], count: int) -> set[Path]:
    """The version folders of a model that stay: the newest `count`, and the baseline.

    The baseline is the newest version with another model than the newest one, and the version with which the newest
    one was compared.
    """
    versions = version_folders(model)
    kept = set(versions[:count])
    if versions:
        newest = versions[0]
        kept |= set([version for version in versions if not same_model(version, newest)][:1])
        compared = {version for run in runs if run.pushed_to == str(newest) for version in _baselines(run)}
        kept |= {version for version in versions if version.name in compared}
    return kept


def _baselines(run: Run) -> set[str | None]:
    """The version that the model was compared with, also as an earlier version of the software recorded it."""
    evaluator = run.step("Evaluator")
    baseline = evaluator.inputs.get("baseline_model") if evaluator else None
    return {run.baseline_version, baseline.properties.get("version") if baseline else None}


def _makers(model: Path, runs: Sequence[Run]) -> set[str]:
    """The runs that made the newest version of a model and its baseline, also if a version is a roll-back's copy."""
    found = set()
    for folder in kept_versions(model, runs, 1):
        try:
            provenance = provenance_of(folder) or {}
        except UserError:
            provenance = {}
        found |= {run.id for run in runs if run.pushed_to == str(folder) or run.id == provenance.get("run")}
    return found


def _reusable(runs: Sequence[Run]) -> set[str]:
    """The runs that --from takes: for each step, the newest run that has all steps before it."""
    found = set()
    for last in range(1, len(STEPS)):
        needed = set(STEPS[:last])
        for run in reversed(runs):
            if needed <= {step.id for step in run.steps if step.done}:
                found.add(run.id)
                break
    return found
