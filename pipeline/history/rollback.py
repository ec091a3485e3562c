"""The command rollback: a copy of an earlier version becomes the newest one."""

from __future__ import annotations

import argparse
import shutil
from datetime import UTC, datetime
from pathlib import Path

from ml_metadata.proto import metadata_store_pb2
from rich.console import Console

from components.provenance import write_provenance
from data.errors import UserError
from data.quiet import quiet
from pipeline.history.records import ROLLBACK, Json
from pipeline.history.store import History, pushed_destination
from pipeline.history.versions import model_folders, provenance_of, version_folders
from pipeline.local.run_root import RunRoot


def roll_back(args: argparse.Namespace, root: RunRoot) -> Json:
    """Serves `args.version`, by default the newest version with another model than the newest one.

    Raises:
        UserError: no model, no other model, an unknown or a damaged version, or a run root that is held.
    """
    history = root.history()
    with root.held():
        model = _model(args.model, root)
        with quiet():
            return _serve_again(history, model, args.version)


def print_rollback(console: Console, done: Json) -> None:
    console.print(
        f"Version {done['version']} of {done['model']} is a copy of version {done['to']},"
        f" and the newest one instead of version {done['from']}."
    )
    console.print(f"It is in {done['path']}. To return: python -m pipeline.history rollback {done['from']}")


def _serve_again(history: History, model: Path, wanted: int | None) -> Json:
    from components.assets_extra import model_id
    from components.pusher.component import MODELS, ROLLED_BACK, hidden_folder, publish, rolled_back

    versions = version_folders(model)
    if not versions:
        raise UserError(f"{model} holds no version: there is nothing to roll back.")
    newest = versions[0]
    source = _source(versions, wanted)
    _check(source, versions)
    refused = [model_id(str(newest)), *rolled_back(str(newest)).get(MODELS, [])]
    refused = [model for model in dict.fromkeys(refused) if model and model != model_id(str(source))]
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    about = {"from": int(newest.name), "to": int(source.name), "at": now, MODELS: refused}
    with hidden_folder(str(model)) as hidden:
        copy = Path(hidden) / source.name
        shutil.copytree(source, copy)
        write_provenance(str(copy), {**_provenance(source), ROLLED_BACK: about})
        record = _Record(history, newest, source)
        final = model / str(publish(str(copy), str(model), int(newest.name) + 1))
    record.finish(final)
    return {
        "model": model.name,
        "version": int(final.name),
        **{key: about[key] for key in ("from", "to", "at")},
        "path": str(final),
    }


class _Record:
    """The roll-back in ML Metadata: an execution that is RUNNING until the version is there."""

    def __init__(self, history: History, newest: Path, source: Path) -> None:
        self._store = history.store
        pushed = [a for a in history.artifacts() if pushed_destination(a) == str(source)]
        execution_type = metadata_store_pb2.ExecutionType(name=ROLLBACK)
        self._execution = metadata_store_pb2.Execution(
            type_id=self._store.put_execution_type(execution_type),
            last_known_state=metadata_store_pb2.Execution.RUNNING,
        )
        self._set(model=source.parent.name, source=source.name, instead_of=newest.name)
        self._set(version=str(int(newest.name) + 1), path=str(newest.parent / str(int(newest.name) + 1)))
        self._contexts = self._pipeline(pushed, source)
        events = [(artifact, _event(metadata_store_pb2.Event.INPUT, "source")) for artifact in pushed[:1]]
        self._execution.id, _, _ = self._store.put_execution(self._execution, events, self._contexts)

    def finish(self, final: Path) -> None:
        """Records the new version."""
        pushed_model = metadata_store_pb2.ArtifactType(name="PushedModel")
        kind = self._store.put_artifact_type(pushed_model, can_omit_fields=True)
        artifact = metadata_store_pb2.Artifact(type_id=kind, uri=str(final), state=metadata_store_pb2.Artifact.LIVE)
        artifact.custom_properties["pushed"].int_value = 1
        artifact.custom_properties["pushed_destination"].string_value = str(final)
        artifact.custom_properties["pushed_version"].string_value = final.name
        self._execution.last_known_state = metadata_store_pb2.Execution.COMPLETE
        self._set(version=final.name, path=str(final))
        output = (artifact, _event(metadata_store_pb2.Event.OUTPUT, "pushed_model"))
        self._store.put_execution(self._execution, [output], self._contexts)

    def _set(self, **values: str) -> None:
        for name, value in values.items():
            self._execution.custom_properties[name].string_value = value

    def _pipeline(self, pushed: list[metadata_store_pb2.Artifact], source: Path) -> list[metadata_store_pb2.Context]:
        """The pipeline's context: of the pushed artifact, or the one that the provenance names."""
        if pushed:
            return [c for c in self._store.get_contexts_by_artifact(pushed[0].id) if c.type == "pipeline"]
        name = _provenance(source).get("pipeline")
        return [context for context in self._store.get_contexts_by_type("pipeline") if context.name == name]


def _event(kind: int, key: str) -> metadata_store_pb2.Event:
    event = metadata_store_pb2.Event(type=kind)
    event.path.steps.add().key = key
    event.path.steps.add().index = 0
    return event


def _model(name: str | None, root: RunRoot) -> Path:
    models = [model for model in model_folders(root) if version_folders(model)]
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
    from components.assets_extra import same_model

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
    """Loads the version, so that a damaged one is never served.

    Raises:
        UserError: it cannot be loaded.
    """
    import tensorflow as tf

    try:
        tf.saved_model.load(str(source))
    except Exception as error:
        names = ", ".join(version.name for version in versions[1:] if version != source) or "there is none"
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
        raise UserError(f"Version {source.name} is damaged: {reason}. Name another version: {names}.") from error


def _provenance(source: Path) -> Json:
    """The provenance of a version; empty if it has none or a damaged one, because that prevents no roll-back."""
    try:
        return provenance_of(source) or {}
    except UserError:
        return {}
