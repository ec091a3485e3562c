"""The commands list and show."""

from __future__ import annotations

import argparse
import fcntl
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from rich.console import Console

from data.errors import UserError
from pipeline.definition import STEPS
from pipeline.history import tables
from pipeline.history.records import ERROR, FROM, PROFILE, RESUMED, TO, Json, Rollback, Run
from pipeline.history.settings import not_default
from pipeline.history.statistics import wilson
from pipeline.history.versions import provenance_of, served_folders
from pipeline.local.run_root import RunRoot


def list_runs(args: argparse.Namespace, root: RunRoot) -> list[Json]:
    """The runs and the roll-backs, oldest first: the newest `--limit` of them.

    Each has `kind`: run or rollback. A number that was not recorded is None.

    Raises:
        UserError: there is no store, or it cannot be read.
    """
    history = root.history()
    runs, running, served = history.runs(), running_run(root), served_folders(root)
    rows = [run_json(run, run.id == running, served) for run in runs]
    rows += [rollback_json(r, served) for r in history.rollbacks() if r.done or Path(r.path).is_dir()]
    rows.sort(key=lambda row: row["started"])
    return rows[-args.limit :] if args.limit else rows


def show_run(args: argparse.Namespace, root: RunRoot) -> Json:
    """Everything about one run.

    Raises:
        UserError: there is no such run, or no store.
    """
    run = root.history().run(args.run_id)
    log, report = root.path / "logs" / run.id / "run.log", root.reports / f"{run.id}.html"
    return {
        **run_json(run, run.id == running_run(root), served_folders(root)),
        "profile": run.properties.get(PROFILE),
        "from": run.properties.get(FROM),
        "to": run.properties.get(TO),
        "resumed": run.properties.get(RESUMED),
        "error": run.properties.get(ERROR),
        "blessed": run.blessed,
        "infra": vars(run.infra) if run.infra else None,
        "gates": _gates(run),
        "baseline_version": run.baseline_version,
        "pushed_to": run.pushed_to,
        "report": str(report) if report.is_file() else None,
        "log": str(log) if log.is_file() else None,
        "steps": [
            {
                "step": step.id,
                "state": step.state,
                "started": step.started.isoformat(),
                "seconds": step.seconds if step.done or step.state == "FAILED" else None,
                "fingerprint": step.properties.get("fingerprint"),
                "artifacts": {
                    key: {"path": artifact.uri, "state": "LIVE" if artifact.live else "DELETED"}
                    for key, artifact in step.outputs.items()
                },
            }
            for step in run.steps
        ],
    }


def run_json(run: Run, running: bool, served: set[str]) -> Json:
    """The row of a run; `served` are the folders of the newest versions."""
    figures = run.figures
    verdict = run.verdict
    if running and verdict.startswith("stopped"):
        verdict = f"running in {_current_step(run)}"
    return {
        "kind": "run",
        "run": run.id,
        "pipeline": run.pipeline,
        "started": run.started.isoformat(),
        "settings": not_default(run.settings) if run.settings else None,
        "accuracy": figures.get("accuracy"),
        "interval": accuracy_interval(figures.get("accuracy"), figures),
        "figures": figures,
        "verdict": verdict,
        "version": run.version,
        "served": run.pushed_to in served,
    }


def rollback_json(rollback: Rollback, served: set[str]) -> Json:
    """The row of a roll-back, with the keys of a run's."""
    return {
        "kind": "rollback",
        "run": None,
        "pipeline": rollback.pipeline,
        "started": rollback.started.isoformat(),
        "settings": None,
        "accuracy": None,
        "interval": None,
        "figures": {},
        "verdict": f"rolled back from {rollback.instead_of} to {rollback.source}",
        "version": rollback.version,
        "served": rollback.path in served,
        "from": rollback.instead_of,
        "to": rollback.source,
    }


def accuracy_interval(accuracy: float | None, figures: Json) -> tuple[float, float] | None:
    """The 95 % Wilson interval of an accuracy on the test split; None if a number is missing."""
    examples = round(figures.get("examples", 0))
    return None if accuracy is None or not examples else wilson(round(accuracy * examples), examples)


def running_run(root: RunRoot) -> str | None:
    """The run that another process makes now: the newest, if it began after that process took the run root's lock."""
    try:
        lock = open(root.path / "lock")
    except OSError:
        return None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None
        except BlockingIOError:
            since = re.search(r"since (.+)$", lock.read())
    if not since:
        return None
    taken = datetime.strptime(since[1], "%Y-%m-%d %H:%M:%S").astimezone()
    started = root.history().runs_since(taken)
    return started[-1].id if started else None


def print_list(console: Console, rows: Sequence[Json]) -> None:
    if not rows:
        console.print("No run is recorded.")
        return
    several = len({row["pipeline"] for row in rows}) > 1
    console.print(tables.table([_table_row(row, several) for row in rows]))


def print_run(console: Console, run: Json) -> None:
    figures, infra = run["figures"], run["infra"]
    rows = [
        ("Run", run["run"]),
        ("Pipeline", run["pipeline"]),
        ("Started", _local(run["started"])),
        ("Profile", run["profile"]),
        ("Settings", _settings(run)),
        ("Steps asked for", f"{run['from'] or STEPS[0]} to {run['to'] or STEPS[-1]}"),
        ("Verdict", run["verdict"]),
        ("Test accuracy", tables.accuracy_text(run["accuracy"], run["interval"])),
        *((name.replace("_", " ").capitalize(), f"{value:g}") for name, value in figures.items() if name != "accuracy"),
        ("Evaluator", {True: "blessed", False: "not blessed"}.get(run["blessed"])),
        *(
            ("", f"{'✓' if g['passed'] else '✗'} {g['name']}: {g['value']:.4f}, {g['bound']}")
            for g in run["gates"] or ()
        ),
        ("Infra check", (infra["reason"] or "blessed") if infra else None),
        ("Baseline", f"version {run['baseline_version']}" if run["baseline_version"] else None),
        ("Version", _version(run)),
        ("Pushed to", run["pushed_to"]),
        ("Resumed run", run["resumed"]),
        ("Error", run["error"]),
        ("Report", run["report"]),
        ("Log", run["log"]),
    ]
    console.print(tables.pairs(rows))
    steps = [
        {
            "step": step["step"],
            "state": step["state"],
            "seconds": None if step["seconds"] is None else f"{step['seconds']:.1f}",
            "code": step["fingerprint"],
            "artifacts": "\n".join(
                a["path"] if a["state"] == "LIVE" else f"{a['path']} (deleted)" for a in step["artifacts"].values()
            ),
        }
        for step in run["steps"]
    ]
    if steps:
        console.print()
        console.print(tables.table(steps))


def _table_row(row: Json, with_pipeline: bool) -> Json:
    return {
        "run": row["run"] or "rollback",
        **({"pipeline": row["pipeline"]} if with_pipeline else {}),
        "started": _local(row["started"]),
        "settings that differ from the default": _settings(row),
        "test accuracy": tables.accuracy_text(row["accuracy"], row["interval"]),
        "verdict": row["verdict"],
        "version": _version(row),
    }


def _settings(row: Json) -> str | None:
    return None if row["settings"] is None else tables.settings_text(row["settings"]) or "default"


def _version(row: Json) -> str | None:
    return f"{row['version']}{' (newest)' if row['served'] else ''}" if row["version"] else None


def _local(moment: str) -> str:
    return tables.time_text(datetime.fromisoformat(moment))


def _current_step(run: Run) -> str:
    """The step that has no result yet; between two steps, the next one."""
    running = next((step.id for step in run.steps if not step.done), None)
    if running or not run.steps:
        return running or STEPS[0]
    last = run.steps[-1].id
    return STEPS[min(STEPS.index(last) + 1, len(STEPS) - 1)] if last in STEPS else last


def _gates(run: Run) -> list[Json] | None:
    """The gates as the pushed version's provenance has them, if it is there."""
    try:
        return (provenance_of(Path(run.pushed_to)) or {}).get("gates") if run.pushed_to else None
    except UserError:
        return None
