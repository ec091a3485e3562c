"""The commands list and show."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from rich.console import Console

from pipeline import tables
from pipeline.definition import STEPS
from pipeline.runs.records import Json, Rollback, Run
from pipeline.runs.root import RunRoot
from pipeline.runs.settings import changed, defaults, flatten


def list_runs(args: argparse.Namespace, root: RunRoot) -> list[Json]:
    """The runs and the roll-backs, oldest first: the newest `--limit` of them.

    Each has `kind`: run or rollback. A number that was not recorded is None.

    Raises:
        UserError: there is no store, or it cannot be read.
    """
    history = root.history()
    runs, running, served = history.runs(), root.running(), root.served()
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
    log, report = root.log(run.id), root.report(run.id)
    return {
        **run_json(run, run.id == root.running(), root.served()),
        **{name: run.record.get(name) for name in ("profile", "from", "to", "resumed", "error")},
        "blessed": run.blessed,
        "infra": vars(run.infra) if run.infra else None,
        "gates": run.provenance.get("gates"),
        "days": run.days,
        "start": run.start,
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
                    key: {"path": artifact.uri, "state": "LIVE" if artifact.alive else "DELETED"}
                    for key, artifact in step.outputs.items()
                },
            }
            for step in run.steps
        ],
    }


def run_json(run: Run, running: bool, served: set[str]) -> Json:
    """The row of a run; `served` are the folders of the newest versions."""
    figures, verdict = run.figures, run.verdict
    if running and verdict.startswith("stopped"):
        verdict = f"running in {run.next_step}"
    return {
        "kind": "run",
        "run": run.id,
        "pipeline": run.pipeline,
        "started": run.started.isoformat(),
        "settings": changed(flatten(run.settings), defaults()) if run.settings else None,
        "accuracy": figures.get("accuracy"),
        "interval": run.accuracy_interval,
        "figures": figures,
        "verdict": verdict,
        "version": run.version,
        "served": run.pushed_to in served,
    }


def rollback_json(rollback: Rollback, served: set[str]) -> Json:
    """The row of a roll-back, with the keys of a run's."""
    empty = dict.fromkeys(("run", "settings", "accuracy", "interval"))
    return {
        "kind": "rollback",
        **empty,
        "pipeline": rollback.pipeline,
        "started": rollback.started.isoformat(),
        "figures": {},
        "verdict": f"rolled back from {rollback.instead_of} to {rollback.source}",
        "version": rollback.version,
        "served": rollback.path in served,
        "from": rollback.instead_of,
        "to": rollback.source,
    }


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
        *(("", text) for text in tables.gates_text(run["gates"] or ())),
        ("Infra check", (infra["reason"] or "blessed") if infra else None),
        ("Baseline", f"version {run['baseline_version']}" if run["baseline_version"] else None),
        ("Version", _version(run)),
        ("Pushed to", run["pushed_to"]),
        ("Days", run["days"] or None),
        ("Start", run["start"].get("text")),
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
    return f"{datetime.fromisoformat(moment):%Y-%m-%d %H:%M:%S}"
