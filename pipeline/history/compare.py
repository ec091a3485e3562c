"""The command compare: what differs between runs, and which examples changed sides."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from data.errors import UserError
from pipeline import tables
from pipeline.history.examples import compare_predictions, load_predictions
from pipeline.history.listing import run_json
from pipeline.runs.records import FIGURES, Json, Run
from pipeline.runs.root import RunRoot
from pipeline.runs.settings import differences, flatten

_KINDS = ("settings", "code", "packages")


def compare_runs(args: argparse.Namespace, root: RunRoot) -> Json:
    """The differences between the first run and the others.

    Each value of `settings`, `code`, `packages` and `data` is a list with one entry per run. `examples` has an entry
    for each run after the first: counts, McNemar's p-value, and the first `--limit` examples that changed sides.

    Raises:
        UserError: fewer than two runs, an unknown run, or no store.
    """
    history = root.history()
    runs = [history.run(identifier) for identifier in (args.first, *args.others)]
    if len({run.id for run in runs}) < len(runs):
        raise UserError("One run is given twice: name different runs.")
    files = [run.data_files for run in runs]
    known = None if None in files else differences([names or {} for names in files])
    return {
        "runs": [run_json(run, False, set()) for run in runs],
        "settings": differences([flatten(run.settings) for run in runs]),
        "code": differences([run.fingerprints for run in runs]),
        "packages": differences([run.packages for run in runs]),
        "data": {"digest": [run.data_digest for run in runs], "files": known},
        "not_recorded": {
            "settings": [run.id for run in runs if not run.settings],
            "packages": [run.id for run in runs if not run.packages],
        },
        "metrics": {name: [run.figures.get(name) for run in runs] for name in FIGURES},
        "examples": _examples(runs, args.limit),
    }


def print_comparison(console: Console, found: Json) -> None:
    ids = [run["run"] for run in found["runs"]]
    metrics = {
        name.replace("_", " "): [tables.NOTHING if value is None else f"{value:g}" for value in values]
        for name, values in found["metrics"].items()
        if name != "accuracy" and any(value is not None for value in values)
    }
    accuracies = [tables.accuracy_text(run["accuracy"], run["interval"]) for run in found["runs"]]
    head = {"verdict": [run["verdict"] for run in found["runs"]], "version": [run["version"] for run in found["runs"]]}
    _section(console, "Metrics", ids, {**head, "accuracy (95 % interval)": accuracies, **metrics})
    for kind in _KINDS:
        missing = found["not_recorded"].get(kind, [])
        if missing:
            console.print(f"\n{kind.capitalize()}: not recorded for {', '.join(missing)}.")
        elif found[kind]:
            _section(console, kind.capitalize(), ids, found[kind])
        else:
            console.print(f"\n{kind.capitalize()}: the same.")
    data = found["data"]
    if None in data["digest"]:
        missing = [run for run, digest in zip(ids, data["digest"], strict=True) if digest is None]
        console.print(f"\nData: not recorded for {', '.join(missing)}.")
    elif len(set(data["digest"])) == 1:
        console.print(f"\nData: the same, digest {data['digest'][0]}.")
    if len(set(data["digest"])) > 1:
        files = {name: [value and value[:16] for value in values] for name, values in (data["files"] or {}).items()}
        _section(console, "Data", ids, {"digest": data["digest"], **files})
        if data["files"] is None:
            console.print("The lists of files were removed.")
    for entry in found["examples"]:
        _print_examples(console, ids[0], entry)


def _section(console: Console, title: str, ids: list[str], rows: Mapping[str, list[Any]]) -> None:
    lines = [{"": name, **dict(zip(ids, map(tables.plain, values), strict=True))} for name, values in rows.items()]
    tables.section(console, title, lines)


def _print_examples(console: Console, first: str, entry: Json) -> None:
    console.print(f"\nExamples: {first} → {entry['run']}", style="bold")
    if entry["reason"]:
        console.print(f"They cannot be compared: {entry['reason']}.")
        return
    console.print(
        f"{entry['shared']:,} shared examples; {entry['right_to_wrong']} right → wrong,"
        f" {entry['wrong_to_right']} wrong → right; exact McNemar test p = {entry['p_value']:.3g}"
    )
    changes = entry["changes"]
    if changes:
        renamed = {"label": "true class", "first": first, "other": entry["run"]}
        console.print(tables.table([{renamed.get(k, k): v for k, v in change.items()} for change in changes]))
    hidden = entry["right_to_wrong"] + entry["wrong_to_right"] - len(changes)
    if hidden:
        console.print(f"… and {hidden} more: --limit shows them.")


def _examples(runs: list[Run], limit: int) -> list[Json]:
    predictions = {run.id: load_predictions(run) for run in runs}
    first, *others = runs
    labels, entries = first.labels, []
    for run in others:
        one, other = predictions[first.id], predictions[run.id]
        missing = [f"{name}: {found}" for name, found in ((first.id, one), (run.id, other)) if isinstance(found, str)]
        entry: Json = {"run": run.id, "reason": "; ".join(missing) or None}
        if not isinstance(one, str) and not isinstance(other, str):
            entry |= compare_predictions(one, other, labels)
            entry["changes"] = entry["changes"][:limit]
            if not entry["shared"]:
                entry["reason"] = "the test splits share no example"
        entries.append(entry)
    return entries
