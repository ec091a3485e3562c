"""The command gc: removes what old runs left, and marks it as deleted in ML Metadata."""

from __future__ import annotations

import argparse
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.filesize import decimal

from components.digests import learned_days
from components.version_folder import same_model, version_folders
from data.errors import UserError, storage_problem
from pipeline import tables
from pipeline.definition import STEPS
from pipeline.runs.records import Artifact, Json, Run, provenance_of
from pipeline.runs.root import RunRoot
from pipeline.runs.store import History, newest_with

_BACKUP = Path("Trainer", "backup")
"""In `artifacts`: the state of interrupted trainings. The Trainer removes it."""
_REMOVING = ".removing-"
_VERSIONS = "versions of "
_SYSTEM = (".system/executor_execution/*", ".system/driver_execution/*", ".system/stateful_working_dir/*", ".temp")


def collect(args: argparse.Namespace, root: RunRoot) -> Json:
    """Removes what is not kept, or says what it would remove.

    Raises:
        UserError: a run is in progress, there is no store, or a file cannot be removed.
    """
    history = root.history()
    with root.held():
        runs, artifacts = history.runs(), history.artifacts()
        here = [run for run in runs if not _is_elsewhere(run, root)]
        if runs and not here:
            raise UserError(f"The artifacts of all runs lie outside of {root.path}: gc works where the runs were made.")
        kept = kept_runs(history, root, here, args.keep)
        paths, marked = _plan(root, runs, here, artifacts, kept, args.keep_versions)
        unknown = _unknown(root.artifacts, artifacts)
        sizes = {path: size(path) for path in paths}
        if not args.dry_run:
            # First the records: an artifact that is marked is never used, whatever of it is still there.
            history.forget(marked)
            for path, what in paths.items():
                _remove(path, is_version=what.startswith(_VERSIONS))
    totals = Counter[str]()
    for path, what in paths.items():
        totals[what] += sizes[path]
    counts = Counter(paths.values())
    return {
        "dry_run": args.dry_run,
        "removed": [{"what": what, "count": counts[what], "bytes": totals[what]} for what in counts],
        "paths": [str(path) for path in paths],
        "marked_deleted": len(marked),
        "bytes": sum(sizes.values()),
        "kept_runs": kept,
        "runs": len(here),
        "left_alone": [{"path": str(path), "bytes": size(path)} for path in unknown],
    }


def print_collected(console: Console, done: Json) -> None:
    if done["removed"]:
        rows = [{"what": row["what"], "number": row["count"], "size": decimal(row["bytes"])} for row in done["removed"]]
        console.print(tables.table(rows))
    if done["removed"] or done["marked_deleted"]:
        verb = ("would free", "would be") if done["dry_run"] else ("freed", "are")
        console.print(
            f"{verb[0].capitalize()} {decimal(done['bytes'])}; {done['marked_deleted']} artifacts"
            f" {verb[1]} marked as deleted in ML Metadata."
        )
    else:
        console.print("Nothing to do.")
    reasons = Counter(done["kept_runs"].values())
    why = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    console.print(f"Kept: {len(done['kept_runs'])} of {done['runs']} runs ({why or 'none is recorded'}).")
    if done["left_alone"]:
        total = decimal(sum(entry["bytes"] for entry in done["left_alone"]))
        console.print(f"Left alone, as ML Metadata does not know them: {len(done['left_alone'])} folders, {total}:")
        for entry in done["left_alone"]:
            console.print(f"  {entry['path']}")


def size(path: Path) -> int:
    """The bytes of all files in a folder, or of one file. Symbolic links count as such."""
    if not path.is_dir() or path.is_symlink():
        return path.lstat().st_size if os.path.lexists(path) else 0
    return sum(file.lstat().st_size for file in path.rglob("*") if file.is_symlink() or not file.is_dir())


def kept_runs(history: History, root: RunRoot, runs: Sequence[Run], keep: int) -> dict[str, str]:
    """Why each of `runs`, oldest first, is kept, by its id: the newest `keep` of each pipeline, and more."""
    served = {run_id for model in root.models() for run_id in _makers(model, runs)}
    kept = dict.fromkeys(sorted(served), "made what is served or its baseline")
    for pipeline in {run.pipeline for run in runs}:
        mine = [run for run in runs if run.pipeline == pipeline]
        reused = (newest_with(STEPS[:last], mine) for last in range(1, len(STEPS)))
        kept |= {run.id: "--from reuses" for run in reused if run}
        kept |= {run.id: "among the newest" for run in mine[-keep:]}
    with suppress(UserError):  # every run has finished
        kept.setdefault(history.unfinished().id, "--resume takes up")
    return kept


def kept_versions(model: Path, runs: Iterable[Run], count: int) -> set[Path]:
    """The version folders of a model that stay: the newest `count`, and the baseline.

    That is the newest version with another model than the newest one, and the one that this was compared with. The
    newest version of other days stays, too: a training of the same days would look at it again.
    """
    versions = version_folders(str(model))
    kept = versions[:count]
    if versions:
        newest = versions[0]
        kept += [version for version in versions if not same_model(version, newest)][:1]
        compared = {run.baseline_version for run in runs if run.pushed_to == newest}
        kept += [version for version in versions if Path(version).name in compared]
        if days := _days(newest):
            kept += [version for version in versions if _days(version) != days][:1]
    return set(map(Path, kept))


def _days(version: str) -> dict[str, str]:
    """What identifies the days of a version; empty for a data folder."""
    return learned_days(provenance_of(version))


def _makers(model: Path, runs: Sequence[Run]) -> set[str]:
    """The runs that made the newest version of a model and its baseline, also if a version is a roll-back's copy."""
    found = set()
    for folder in kept_versions(model, runs, 1):
        maker = provenance_of(str(folder)).get("run")
        found |= {run.id for run in runs if run.pushed_to == str(folder) or run.id == maker}
    return found


def _plan(
    root: RunRoot,
    runs: list[Run],
    here: list[Run],
    artifacts: list[Artifact],
    keep: Iterable[str],
    versions: int | None,
) -> tuple[dict[Path, str], list[Artifact]]:
    """What goes: all that belongs to no run in `keep`, to no run of another root, and to no kept version.

    Returns:
        The paths with what each is, and the artifacts that are marked as deleted in ML Metadata.
    """
    steps = [step for run in runs if run.id in keep or run not in here for step in run.steps]
    needed = {artifact.id for step in steps for artifact in (*step.inputs.values(), *step.outputs.values())}
    old_versions = _old_versions(root, here, versions)
    old = [a for a in artifacts if Path(a.path) in old_versions or a.id not in needed]
    kept = {artifact.id for artifact in artifacts} - {artifact.id for artifact in old}
    protected = _Protected([root.artifacts / _BACKUP, *(Path(a.uri) for a in artifacts if a.id in kept)])
    marked, found = list[Artifact](), dict[Path, str]()
    for artifact in old:
        path = Path(artifact.uri)
        inside = _is_safely_inside(path, root.artifacts)
        if inside and protected.touches(path):
            continue
        if artifact.live and (inside or path in old_versions):
            marked.append(artifact)
        if inside and path.exists():
            found[path] = f"artifacts of {path.relative_to(root.artifacts).parts[0]}"
    paths = {path: what for path, what in found.items() if not any(parent in found for parent in path.parents)}
    paths |= {path: f"{_VERSIONS}{path.parent.name}" for path in old_versions}
    others = [("leftovers", path) for path in _leftovers(root)]
    for run in here:
        if run.id not in keep:
            # The record of the run stays, as in ML Metadata.
            others += [("logs", root.log(run.id)), ("reports", root.report(run.id))]
    paths |= {path: what for what, path in others if path.exists() and _is_safely_inside(path, root.path)}
    return paths, marked


def _is_elsewhere(run: Run, root: RunRoot) -> bool:
    """Whether a run has artifacts in another run root: one store may serve several."""
    outputs = (artifact for step in run.steps for artifact in step.outputs.values())
    return any(not Path(artifact.uri).is_relative_to(root.artifacts) for artifact in outputs)


def _old_versions(root: RunRoot, runs: list[Run], count: int | None) -> list[Path]:
    if count is None:
        return []
    found = []
    for model in root.models():
        kept = kept_versions(model, runs, count)
        versions = map(Path, version_folders(str(model)))
        found += [v for v in versions if v not in kept and _is_safely_inside(v, root.path)]
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
    for model in root.models():
        yield from (path for prefix in (_REMOVING, ".pushing-") for path in model.glob(f"{prefix}*"))


def _unknown(folder: Path, artifacts: Iterable[Artifact]) -> list[Path]:
    """The folders of executions that belong to no artifact."""
    recorded = _Protected([folder / _BACKUP, *(Path(artifact.uri) for artifact in artifacts)])
    found = (path for path in folder.glob("*/*/*") if not path.parent.name.startswith("."))
    return sorted(path for path in found if not recorded.touches(path) and path.suffix != ".unfinished")


def _remove(path: Path, is_version: bool) -> None:
    """Removes a file or a folder. A version gets a hidden name first, so that a server never sees a part of it."""
    try:
        if is_version:
            path = path.rename(path.with_name(f"{_REMOVING}{path.name}"))
        if path.is_dir():
            shutil.rmtree(path)
            return
        path.unlink()
        if path.name == "value":  # of an artifact that is a number or a text; alone in its folder
            path.parent.rmdir()
    except FileNotFoundError:
        pass
    except OSError as error:
        reason = storage_problem(error) or error.strerror
        raise UserError(f"{error.filename} could not be removed: {reason}. Correct that, and repeat gc.") from None
