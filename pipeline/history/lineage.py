"""The command lineage: what made a served model."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from components.version_folder import ROLLED_BACK, read_provenance
from data.errors import SettingsError, UserError
from pipeline import tables
from pipeline.runs.records import Json, Rollback, Run
from pipeline.runs.root import RunRoot
from pipeline.runs.settings import flatten

PARTS = (
    "run",
    "pushed",
    "pipeline",
    "settings",
    "fingerprints",
    "data",
    "evaluation",
    "gates",
    "infra_check",
    "packages",
)
"""The parts of the provenance."""


def show_lineage(args: argparse.Namespace, root: RunRoot) -> Json:
    """What is known about a version.

    The parts of the provenance are at the top level; `unknown` names those that are missing. `source` says where they
    come from: provenance.json, ML Metadata, or both; `store` why the latter adds nothing. `runs` are the runs whose
    model this is, `artifacts` what they wrote, `rollbacks` those that took part in this version.

    Raises:
        UserError: no such version, several models that have it, nothing known about it, or damaged provenance.
    """
    runs, rollbacks, store = _records(root)
    folder = find_version(args.version, root, [*(r.pushed_to for r in runs), *(r.path for r in rollbacks)])
    provenance = read_provenance(str(folder)) if folder.is_dir() else {}
    source, copies = folder, {r.path: r.source for r in rollbacks if r.done}
    while not provenance and str(source) in copies:  # a copy that is gone
        source = source.parent / str(copies[str(source)])
    made = [run for run in runs if run.pushed_to in (str(folder), str(source)) or run.id == provenance.get("run", "")]
    recorded = _from_run(made[0]) if made else {}
    if not provenance and not recorded:
        why = store or f"No run in {root.path} pushed it."
        raise UserError(f"Nothing is known about {folder}: it has no provenance.json. {why}")
    parts = {name: provenance.get(name, recorded.get(name)) for name in PARTS}
    unknown = [name for name, value in parts.items() if not value]
    return {
        "version": int(folder.name) if folder.name.isdecimal() else None,
        "path": str(folder),
        "present": folder.is_dir(),
        "source": " and ".join([*(["provenance.json"] if provenance else []), *(["ML Metadata"] if recorded else [])]),
        "store": store or (None if made else f"No run in {root.path} pushed it."),
        **parts,
        "warm_start": provenance.get("warm_start") or (made[0].start if made else {}),
        "unknown": unknown,
        "rolled_back": provenance.get(ROLLED_BACK),
        "runs": [{"run": run.id, "verdict": run.verdict, "started": run.started.isoformat()} for run in made],
        "artifacts": _artifacts(made[0]) if made else [],
        "rollbacks": [
            {"at": r.started.isoformat(), "from": r.instead_of, "to": r.source, "version": r.version, "done": r.done}
            for r in rollbacks
            if folder.name in (str(r.source), str(r.instead_of), str(r.version))
            and Path(r.path).parent == folder.parent
        ],
    }


def find_version(text: str, root: RunRoot, recorded: Iterable[str | None]) -> Path:
    """The folder of a version, by its number or its path; `recorded` are those that may have been removed.

    Raises:
        UserError: no such version, or several models that have it.
    """
    path = Path(text)
    if text.isdecimal():
        found = {model / text for model in root.models() if (model / text).is_dir()}
        found = found or {Path(folder) for folder in recorded if folder and Path(folder).name == text}
        if len(found) > 1:
            names = ", ".join(str(folder) for folder in sorted(found))
            raise UserError(f"Several models have a version {text}: name the path, one of {names}.")
        if found:
            return found.pop()
        if not path.is_dir():
            raise UserError(f"There is no version {text} under {root.serving_dir.parent}.")
    path = path.resolve()
    if path.is_dir() and not (path / "saved_model.pb").is_file():
        raise UserError(f"{path} holds no SavedModel: name the folder of a version.")
    if not path.is_dir() and str(path) not in recorded:
        raise UserError(f"There is no folder {path}: name the folder of a version, or its number.")
    return path


def print_lineage(console: Console, found: Json) -> None:
    data, infra, back = found["data"] or {}, found["infra_check"] or {}, found["rolled_back"]
    figures, settings = found["evaluation"] or {}, found["settings"] or {}
    rows: list[tuple[str, Any]] = [
        ("Version", found["version"]),
        ("Path", found["path"] if found["present"] else f"{found['path']} (removed)"),
        ("Known from", found["source"]),
        ("Run", found["run"]),
        ("Pipeline", found["pipeline"]),
        ("Pushed", found["pushed"]),
        *(
            [("Rolled back", f"{back.get('at')}: a copy of {back.get('to')}, instead of {back.get('from')}")]
            if back
            else []
        ),
        ("Data digest", data.get("digest")),
        *_named("Data files", {name: digest[:16] for name, digest in (data.get("files") or {}).items()}),
        *(_started(found["warm_start"])),
        *_named("Settings", {name: tables.plain(value) for name, value in flatten(settings).items()}),
        *_named("Code", found["fingerprints"]),
        *_named("Figures", {name: f"{value:g}" for name, value in figures.items()}),
        *_named("Gates", dict.fromkeys(tables.gates_text(found["gates"] or ()), "")),
        ("Infra check", infra.get("server")),
        *_named("Libraries", found["packages"]),
    ]
    console.print(tables.pairs(rows))
    if found["unknown"]:
        names = ", ".join(name.replace("_", " ") for name in found["unknown"])
        console.print(f"\nUnknown, because it was pushed by other means or its files are gone: {names}.")
    if not found["runs"]:
        console.print(f"\nML Metadata adds nothing: {found['store']}")
        return
    tables.section(console, "Runs with this model", found["runs"])
    tables.section(console, "Artifacts", found["artifacts"])
    if found["rollbacks"]:
        tables.section(console, "Roll-backs", found["rollbacks"])


def _started(start: Json) -> Iterator[tuple[str, Any]]:
    """The models in the line of this one, the newest first, back to the one that was trained from scratch."""
    if not start:
        return
    bases = start["bases"][::-1]
    yield (
        ("Started from", f"version {bases[0]['version']}, {bases[0]['days']}") if bases else ("Started", start["text"])
    )
    yield from (("", f"version {base['version']}, {base['days']}") for base in bases[1:])
    if bases:
        yield "", "which was trained from scratch"


def _named(title: str, rows: dict[str, Any] | None) -> list[tuple[str, Any]]:
    """Rows of which only the first has the title."""
    texts = [f"{name}  {value}".rstrip() for name, value in (rows or {}).items()]
    return [(title if index == 0 else "", text) for index, text in enumerate(texts)] or [(title, None)]


def _records(root: RunRoot) -> tuple[list[Run], list[Rollback], str]:
    """The runs and roll-backs of the store, and "" or why there are none: a copied version has no store."""
    try:
        history = root.history()
    except SettingsError:
        raise
    except UserError as error:
        return [], [], str(error)
    return history.runs(), history.rollbacks(), ""


def _from_run(run: Run) -> Json:
    """The parts of the provenance that ML Metadata has."""
    pusher, infra = run.step("Pusher"), run.infra
    return {
        "run": run.id,
        "pushed": pusher.started.isoformat() if pusher else None,
        "pipeline": run.pipeline,
        "settings": run.settings,
        "fingerprints": run.fingerprints,
        "data": {"digest": run.data_digest, "files": run.data_files} if run.data_digest else None,
        "evaluation": run.figures,
        "infra_check": {"server": infra.server, "artifact": infra.report} if infra else None,
        "packages": run.packages,
    }


def _artifacts(run: Run) -> list[Json]:
    return [
        {
            "step": step.id,
            "artifact": key,
            "state": "live" if artifact.alive else "deleted",
            "path": artifact.uri,
        }
        for step in run.steps
        for key, artifact in step.outputs.items()
    ]
