"""The command gc: removes what old runs left, and marks it as deleted in ML Metadata."""

from __future__ import annotations

import argparse
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ml_metadata.proto import metadata_store_pb2
from rich.console import Console

from data.errors import UserError
from data.storage import storage_problem
from pipeline.history import tables
from pipeline.history.kept import kept_runs, kept_versions
from pipeline.history.records import Json, Run
from pipeline.history.store import History, pushed_destination
from pipeline.history.versions import model_folders, version_folders
from pipeline.local.run_root import RunRoot

_BACKUP = Path("Trainer", "backup")
"""In `artifacts`: the state of interrupted trainings. The Trainer removes it."""
_REMOVING = ".removing-"
_VERSIONS = "versions of "
_VALUE = "value"
"""The file of an artifact that is a number or a text; it is alone in its folder."""
_SYSTEM = (".system/executor_execution/*", ".system/driver_execution/*", ".system/stateful_working_dir/*", ".temp")


@dataclass
class _Plan:
    """What is removed: `paths` by what they are; the artifacts in ML Metadata that are marked; what is left alone."""

    paths: list[tuple[str, Path]] = field(default_factory=list)
    marked: list[metadata_store_pb2.Artifact] = field(default_factory=list)
    unknown: list[Path] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)
    runs: int = 0


def collect(args: argparse.Namespace, root: RunRoot) -> Json:
    """Removes what is not kept, or says what it would remove.

    Raises:
        UserError: a run is in progress, there is no store, or a file cannot be removed.
    """
    history = root.history()
    with root.held():
        plan = _plan(history, root, args.keep, args.keep_versions)
        sizes = [size(path) for _, path in plan.paths]
        if not args.dry_run:
            # First the records: an artifact that is marked is never used, whatever of it is still there.
            history.forget(plan.marked)
            for what, path in plan.paths:
                _remove(path, is_version=what.startswith(_VERSIONS))
    counts, totals = Counter(what for what, _ in plan.paths), Counter[str]()
    for (what, _), count in zip(plan.paths, sizes, strict=True):
        totals[what] += count
    return {
        "dry_run": args.dry_run,
        "removed": [{"what": what, "count": counts[what], "bytes": totals[what]} for what in counts],
        "paths": [str(path) for _, path in plan.paths],
        "marked_deleted": len(plan.marked),
        "bytes": sum(sizes),
        "kept_runs": plan.kept,
        "runs": plan.runs,
        "left_alone": [{"path": str(path), "bytes": size(path)} for path in plan.unknown],
    }


def print_collected(console: Console, done: Json) -> None:
    if done["removed"]:
        rows = [
            {"what": row["what"], "number": row["count"], "size": tables.size_text(row["bytes"])}
            for row in done["removed"]
        ]
        console.print(tables.table(rows))
    if done["removed"] or done["marked_deleted"]:
        verb = ("would free", "would be") if done["dry_run"] else ("freed", "are")
        console.print(
            f"{verb[0].capitalize()} {tables.size_text(done['bytes'])}; {done['marked_deleted']} artifacts"
            f" {verb[1]} marked as deleted in ML Metadata."
        )
    else:
        console.print("Nothing to do.")
    reasons = Counter(done["kept_runs"].values())
    why = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    console.print(f"Kept: {len(done['kept_runs'])} of {done['runs']} runs ({why or 'none is recorded'}).")
    if done["left_alone"]:
        total = tables.size_text(sum(entry["bytes"] for entry in done["left_alone"]))
        console.print(f"Left alone, as ML Metadata does not know them: {len(done['left_alone'])} folders, {total}:")
        for entry in done["left_alone"]:
            console.print(f"  {entry['path']}")


def size(path: Path) -> int:
    """The bytes of all files in a folder, or of one file. Symbolic links count as such."""
    if not path.is_dir() or path.is_symlink():
        return path.lstat().st_size if os.path.lexists(path) else 0
    return sum(file.lstat().st_size for file in path.rglob("*") if file.is_symlink() or not file.is_dir())


def _plan(history: History, root: RunRoot, keep: int, keep_versions: int | None) -> _Plan:
    runs = history.runs()
    here = [run for run in runs if not _is_elsewhere(run, root)]
    if runs and not here:
        raise UserError(f"The artifacts of all runs lie outside of {root.path}: gc works where the runs were made.")
    plan = _Plan(kept=kept_runs(history, root, here, keep), runs=len(here))
    needed = _artifact_ids(run for run in runs if run.id in plan.kept or run not in here)
    versions = _old_versions(root, here, keep_versions)
    artifacts = history.artifacts()
    kept, old = list[metadata_store_pb2.Artifact](), list[metadata_store_pb2.Artifact]()
    for artifact in artifacts:
        gone = pushed_destination(artifact) in {str(version) for version in versions}
        (old if gone or artifact.id not in needed else kept).append(artifact)
    protected = _Protected([root.artifacts / _BACKUP, *(Path(artifact.uri) for artifact in kept)])
    found: dict[Path, str] = {}
    for artifact in old:
        path = Path(artifact.uri)
        inside = _is_safely_inside(path, root.artifacts)
        if inside and protected.touches(path):
            continue
        if artifact.state == metadata_store_pb2.Artifact.LIVE and (inside or path in versions):
            plan.marked.append(artifact)
        if inside and path.exists():
            found[path] = f"artifacts of {path.relative_to(root.artifacts).parts[0]}"
    plan.paths = [(what, path) for path, what in found.items() if not any(parent in found for parent in path.parents)]
    plan.paths += [(f"{_VERSIONS}{path.parent.name}", path) for path in versions]
    for run in here:
        if run.id not in plan.kept:
            left = (("logs", root.path / "logs" / run.id), ("reports", root.reports / f"{run.id}.html"))
            plan.paths += [(what, path) for what, path in left if path.exists() and _is_safely_inside(path, root.path)]
    plan.paths += [("leftovers", path) for path in _leftovers(root) if _is_safely_inside(path, root.path)]
    plan.unknown = _unknown(root.artifacts, [Path(artifact.uri) for artifact in artifacts])
    return plan


def _is_elsewhere(run: Run, root: RunRoot) -> bool:
    """Whether a run has artifacts in another run root: one store may serve several."""
    outputs = (artifact for step in run.steps for artifact in step.outputs.values())
    return any(not Path(artifact.uri).is_relative_to(root.artifacts) for artifact in outputs)


def _artifact_ids(runs: Iterable[Run]) -> set[int]:
    """The ids of all artifacts that these runs read or wrote."""
    steps = (step for run in runs for step in run.steps)
    return {artifact.id for step in steps for artifact in (*step.inputs.values(), *step.outputs.values())}


def _old_versions(root: RunRoot, runs: list[Run], count: int | None) -> list[Path]:
    if count is None:
        return []
    found = []
    for model in model_folders(root):
        kept = kept_versions(model, runs, count)
        found += [v for v in version_folders(model) if v not in kept and _is_safely_inside(v, root.path)]
    return found


def _is_safely_inside(path: Path, folder: Path) -> bool:
    """Whether `path` is in `folder`, without a symbolic link or `..` on the way or at its end."""
    return path != folder and path.is_relative_to(folder) and path.resolve() == path


class _Protected:
    """Paths that must stay, with all that is in them."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = set(paths)
        self._parents = {parent for path in self._paths for parent in path.parents}

    def touches(self, path: Path) -> bool:
        """Whether one of them is `path`, in it, or around it."""
        return path in self._paths or path in self._parents or not self._paths.isdisjoint(path.parents)


def _leftovers(root: RunRoot) -> Iterator[Path]:
    """What killed processes left. The run root is held, so none of them still runs."""
    for pattern in _SYSTEM:
        yield from (path for path in root.artifacts.glob(f"*/{pattern}") if size(path))
    yield from root.artifacts.glob("Baseline/model/*.unfinished")
    for model in model_folders(root):
        yield from (path for prefix in (_REMOVING, ".pushing-") for path in model.glob(f"{prefix}*"))


def _unknown(artifacts: Path, known: list[Path]) -> list[Path]:
    """The folders of executions that belong to no artifact."""
    recorded = _Protected([artifacts / _BACKUP, *known])
    found = (path for path in artifacts.glob("*/*/*") if not path.parent.name.startswith("."))
    return sorted(path for path in found if not recorded.touches(path) and path.suffix != ".unfinished")


def _remove(path: Path, is_version: bool) -> None:
    """Removes a file or a folder. A version gets a hidden name first, so that a server never sees a part of it.

    Raises:
        UserError: it cannot be removed.
    """
    try:
        if is_version:
            path = path.rename(path.with_name(f"{_REMOVING}{path.name}"))
        if path.is_dir():
            shutil.rmtree(path)
            return
        path.unlink()
        if path.name == _VALUE:
            path.parent.rmdir()
    except FileNotFoundError:
        pass
    except OSError as error:
        reason = storage_problem(error) or error.strerror
        raise UserError(f"{error.filename} could not be removed: {reason}. Correct that, and repeat gc.") from None
