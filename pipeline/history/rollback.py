"""The command rollback: a copy of an earlier version becomes the newest one."""

from __future__ import annotations

import argparse
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from components.version_folder import (
    MODELS,
    ROLLED_BACK,
    model_id,
    same_model,
    version_folders,
    write_provenance,
)
from data.errors import UserError
from data.process import quiet
from data.signature import private_key, sign, signed_by
from pipeline.runs.records import Json, provenance_of
from pipeline.runs.rollbacks import RollbackRecord
from pipeline.runs.root import RunRoot
from pipeline.runs.store import History

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey


def roll_back(args: argparse.Namespace, root: RunRoot) -> Json:
    """Serves `args.version`, by default the newest version with another model than the newest one.

    Raises:
        UserError: no model, no other model, an unknown or a damaged version, a signed one without a key to sign the
            copy, or a run root that is held.
        SettingsError: no P-256 key.
    """
    history = root.history()
    with root.held():
        model = _model(args.model, root)
        with quiet():
            return _serve_again(history, model, args.version, args.sign_key)


def print_rollback(console: Console, done: Json) -> None:
    console.print(
        f"Version {done['version']} of {done['model']} is a copy of version {done['to']},"
        f" and the newest one instead of version {done['from']}."
    )
    console.print(f"It is in {done['path']}. To return: python -m pipeline.history rollback {done['from']}")


def _serve_again(history: History, model: Path, wanted: int | None, sign_key: str) -> Json:
    from components.pusher.component import hidden_folder, publish, rolled_back

    versions = [Path(folder) for folder in version_folders(str(model))]
    if not versions:
        raise UserError(f"{model} holds no version: there is nothing to roll back.")
    newest = versions[0]
    source = _source(versions, wanted)
    key = _key(sign_key, newest, source)
    _check(source, versions)
    replaced = dict.fromkeys([model_id(str(newest)), *rolled_back(str(newest))])
    refused = [identifier for identifier in replaced if identifier not in (None, model_id(str(source)))]
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    about = {"from": int(newest.name), "to": int(source.name), "at": now, MODELS: refused}
    provenance = provenance_of(str(source))
    with hidden_folder(str(model)) as hidden:
        copy = Path(hidden) / source.name
        shutil.copytree(source, copy)
        write_provenance(str(copy), {**provenance, ROLLED_BACK: about})
        if key:
            sign(str(copy), key, model.name)
        record = RollbackRecord(history, source, newest, provenance.get("pipeline"))
        final = model / str(publish(str(copy), str(model), int(newest.name) + 1))
    record.finish(final)
    return {
        "model": model.name,
        "version": int(final.name),
        **{key: about[key] for key in ("from", "to", "at")},
        "path": str(final),
    }


def _key(setting: str, *versions: Path) -> EllipticCurvePrivateKey | None:
    """The key that signs the copy; None if neither it nor what it replaces is signed, and no key is given."""
    if setting:
        return private_key(setting)
    if signed := [version.name for version in versions if signed_by(str(version))]:
        raise UserError(
            f"Version {signed[0]} is signed, and a roll-back is a new version: sign it with --sign-key KEY, a PEM file"
            " or $NAME, so that servers that verify take it."
        )
    return None


def _model(name: str | None, root: RunRoot) -> Path:
    models = [model for model in root.models() if version_folders(str(model))]
    names = ", ".join(model.name for model in models)
    if not models:
        raise UserError(f"{root.serving_dir.parent} holds no version: push one first.")
    if name is None and len(models) > 1:
        raise UserError(f"The run root has several models: name one with --model, one of {names}.")
    found = [model for model in models if name in (None, model.name)]
    if not found:
        raise UserError(f"There is no version of a model {name} in {root.path}: the run root has {names}.")
    return found[0]


def _source(versions: list[Path], wanted: int | None) -> Path:
    newest, others = versions[0], versions[1:]
    if wanted is None:
        different = (version for version in others if not same_model(str(version), str(newest)))
        if (found := next(different, None)) is None:
            raise UserError(f"{newest.parent} holds no other model than that of version {newest.name}.")
        return found
    found = next((version for version in versions if int(version.name) == wanted), None)
    if found is None:
        names = ", ".join(version.name for version in others) or "none"
        raise UserError(f"There is no version {wanted} in {newest.parent}; the versions before {newest.name}: {names}.")
    if found == newest or same_model(str(found), str(newest)):
        raise UserError(f"Nothing to do: version {newest.name}, the newest, holds the model of version {wanted}.")
    return found


def _check(source: Path, versions: list[Path]) -> None:
    """Loads the version, so that a damaged one is never served."""
    import tensorflow as tf

    try:
        tf.saved_model.load(str(source))
    except Exception as error:
        names = ", ".join(version.name for version in versions[1:] if version != source) or "there is none"
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
        raise UserError(f"Version {source.name} is damaged: {reason}. Name another version: {names}.") from error
