"""The records of runs: ML Metadata, and what is too long for its properties in a file beside each run's log."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import ml_metadata as mlmd
from ml_metadata.proto import metadata_store_pb2

from data.errors import UserError
from data.files import write_file
from pipeline.definition import STEPS
from pipeline.runs.connection import connect
from pipeline.runs.records import Artifact, Json, Rollback, Run, Step, listing

RECORD, DIGEST, FOLDER = "run.json", "record", "folder"
"""The file beside a run's log, and the custom properties of its context: the SHA-256 of that file, and its folder."""
ROLLBACK = "Rollback"
"""The type of the execution that records a roll-back."""

_LIVE, _DELETED = metadata_store_pb2.Artifact.LIVE, metadata_store_pb2.Artifact.DELETED
_State = metadata_store_pb2.Execution.State
# A resolver has internal events.
_OUTPUTS = (metadata_store_pb2.Event.OUTPUT, metadata_store_pb2.Event.INTERNAL_OUTPUT)


class History:
    """The runs of a run root in an ML Metadata store: of one pipeline, or of all if that is None."""

    def __init__(
        self, connection: metadata_store_pb2.ConnectionConfig, root: Path, pipeline: str | None = None
    ) -> None:
        self.store = connect(connection)
        self._root, self._pipeline = root, pipeline

    @property
    def empty(self) -> bool:
        """Whether the store has no record of any step of any pipeline."""
        return not self.store.get_executions(list_options=mlmd.ListOptions(limit=1))

    def ids(self) -> list[str]:
        """Ids of the runs, oldest first."""
        return [context.name for context, _ in self._contexts()]

    def run(self, run_id: str) -> Run:
        """One run, by its id, by the beginning of it that only one run has, or "last".

        Raises:
            UserError: there is no such run, or more than one.
        """
        contexts = self._contexts()
        exact = [pair for pair in contexts if pair[0].name == run_id]
        found = exact or (contexts[-1:] if run_id == "last" else [p for p in contexts if p[0].name.startswith(run_id)])
        if not found:
            raise UserError(f"There is no run {run_id}: python -m pipeline.history list shows them.")
        if len(found) > 1:
            names = ", ".join(context.name for context, _ in found[:5])
            raise UserError(f"{len(found)} runs begin with {run_id}: {names}. Give more of the id.")
        return next(self._load(found))

    def runs(self) -> list[Run]:
        """All runs, oldest first."""
        return list(self._load(self._contexts()))

    def unfinished(self) -> Run:
        """The newest run that did not finish, and that no later run took up, by resuming it or with the same settings.

        Raises:
            UserError: there is no such run, or its record is gone.
        """
        runs = self.runs()
        for index, run in reversed(list(enumerate(runs))):
            later = runs[index + 1 :]
            if run.finished or any(run.id == o.record.get("resumed") or run.settings == o.settings for o in later):
                continue
            if not run.settings:
                raise UserError(
                    f"The settings of the run {run.id} are not known: {self._file(run.id)} is gone or has changed."
                    " Repeat its command."
                )
            return run
        raise UserError("There is nothing to resume: every run has finished.")

    def base_run(self, start: str) -> Run:
        """The newest run that has all steps before `start`: the one that --from takes.

        Raises:
            UserError: there is no such run, or an artifact of one of these steps is gone or has changed.
        """
        before = STEPS[: STEPS.index(start)]
        run = newest_with(before, self.runs())
        if run is None:
            raise UserError(f"--from {start} reuses all steps before it, but {self._root} holds no run that has them.")
        for step in before:
            outputs = next(found.outputs for found in run.steps if found.id == step)
            if dead := [artifact.path for artifact in outputs.values() if not artifact.alive]:
                raise UserError(
                    f"--from {start} reuses the step {step} of the run {run.id}, but {dead[0]} is gone or has changed:"
                    f" use --from {step}, or leave out --from."
                )
        return run

    def rollbacks(self) -> list[Rollback]:
        """The roll-backs, oldest first; those that were recorded for no pipeline belong to the pipeline ""."""
        found = []
        for execution in sorted(self.store.get_executions_by_type(ROLLBACK), key=lambda execution: execution.id):
            contexts = self.store.get_contexts_by_execution(execution.id)
            pipeline = next((context.name for context in contexts if context.type == "pipeline"), "")
            if self._pipeline in (None, pipeline):
                values = _values(execution.custom_properties)
                numbers = {name: int(values[name]) for name in ("source", "instead_of", "version")}
                done = execution.last_known_state == _State.COMPLETE
                started = _time(execution.create_time_since_epoch)
                found.append(Rollback(pipeline, values["model"], started, **numbers, path=values["path"], done=done))
        return found

    def artifacts(self) -> list[Artifact]:
        """All artifacts of the pipeline, of the store if there is no pipeline."""
        if self._pipeline is None:
            return self._artifacts(self.store.get_artifacts(), self._records())
        context = self.store.get_context_by_type_and_name("pipeline", self._pipeline)
        found = self.store.get_artifacts_by_context(context.id) if context else []
        return self._artifacts(found, self._records())

    def forget(self, artifacts: Iterable[Artifact]) -> None:
        """Marks artifacts as deleted, so that TFX's cache does not use them."""
        found = self.store.get_artifacts_by_id([artifact.id for artifact in artifacts])
        for artifact in found:
            artifact.state = _DELETED
        self.store.put_artifacts(found)

    def forget_missing(self, *, shared: bool) -> list[str]:
        """Marks the live artifacts that are not alive as deleted, and returns their paths.

        A pushed model counts as gone if its version folder does. The Pusher then pushes it again.

        Args:
            shared: whether several run roots share the store. Then artifacts outside of the run root are left alone;
                else they belong to the run root that this one is a copy of, and are of no use.
        """
        live = [artifact for artifact in self.artifacts() if artifact.live]
        missing = [a for a in live if (not a.alive if self._is_here(a) else not shared)]
        self.forget(missing)
        return sorted({artifact.path for artifact in missing})

    def begin(self, run_id: str, record: Json) -> dict[str, str]:
        """Writes the record of a run that begins; returns the custom properties that its context must have."""
        text = _text(record)
        write_file(text, self._file(run_id))
        return {DIGEST: _sha256(text), FOLDER: str(self._file(run_id).parent)}

    def record(self, run_id: str, **parts: Any) -> None:
        """Adds to the record of a run, if its first step has begun."""
        context = self.store.get_context_by_type_and_name("pipeline_run", run_id)
        if context:
            text = _text({**self._record(context), **parts})
            known = context.custom_properties[DIGEST].string_value.split()[:1]
            # Whenever the process is killed, the file has one of both digests.
            context.custom_properties[DIGEST].string_value = " ".join([_sha256(text), *known])
            self.store.put_contexts([context])
            write_file(text, self._file(run_id))

    def seal(self, run_id: str) -> None:
        """Records the files of all artifacts that have no listing yet, so that a change is noticed later."""
        new = [a for a in self.artifacts() if a.live and a.listing is None and self._is_here(a)]
        found = {str(artifact.id): listing(Path(artifact.path)) for artifact in new if Path(artifact.path).exists()}
        self.record(run_id, listings=found)

    def _is_here(self, artifact: Artifact) -> bool:
        return Path(artifact.uri).is_relative_to(self._root)

    def _file(self, run_id: str) -> Path:
        return self._root / "logs" / run_id / RECORD

    def _record(self, context: metadata_store_pb2.Context) -> Json:
        """What is recorded beside the log of a run; empty if that is gone, or not what ML Metadata knows."""
        values = _values(context.custom_properties)
        # A run root that was copied has the file itself; a store may serve several run roots.
        for file in (self._file(context.name), Path(values.get(FOLDER, ""), RECORD)):
            if file.is_file() and _sha256(text := file.read_text(encoding="utf-8")) in values.get(DIGEST, "").split():
                return json.loads(text)
        return {}

    def _contexts(self) -> list[tuple[metadata_store_pb2.Context, str]]:
        """The runs' contexts, oldest first, each with the name of its pipeline.

        A partial run has a second parent, the run whose steps it reuses.
        """
        found = [
            (run, pipeline.name)
            for pipeline in self.store.get_contexts_by_type("pipeline")
            if self._pipeline in (None, pipeline.name)
            for run in self.store.get_children_contexts_by_context(pipeline.id)
            if run.type == "pipeline_run"
        ]
        return sorted(found, key=lambda pair: pair[0].id)

    def _records(self) -> dict[int, Json]:
        """The record of each run of the store, by the id of its context."""
        return {context.id: self._record(context) for context in self.store.get_contexts_by_type("pipeline_run")}

    def _artifacts(self, found: Iterable[metadata_store_pb2.Artifact], records: Mapping[int, Json]) -> list[Artifact]:
        listings: dict[str, str] = {}
        for record in records.values():
            listings |= record.get("listings", {})
        return [
            Artifact(a.id, a.uri, a.state == _LIVE, _values(a.custom_properties), listings.get(str(a.id)))
            for a in found
        ]

    def _load(self, contexts: Collection[tuple[metadata_store_pb2.Context, str]]) -> Iterator[Run]:
        """The runs of these contexts, with few queries however many they are."""
        executions = {context.id: self._executions(context.id) for context, _ in contexts}
        ids = [execution.id for found in executions.values() for execution in found]
        names = self._step_names(ids)
        events = self.store.get_events_by_execution_ids(ids) if ids else []
        found = self.store.get_artifacts_by_id(list({event.artifact_id for event in events}))
        records = self._records()
        artifacts = {artifact.id: artifact for artifact in self._artifacts(found, records)}
        ends: dict[tuple[int, bool], dict[str, Artifact]] = {}
        for event in events:
            key = event.path.steps[0].key if event.path.steps else ""
            place = (event.execution_id, event.type in _OUTPUTS)
            ends.setdefault(place, {}).setdefault(key, artifacts[event.artifact_id])
        for context, pipeline in contexts:
            latest = {names[execution.id]: execution for execution in executions[context.id]}
            steps = [
                Step(
                    name,
                    _State.Name(execution.last_known_state),
                    _time(execution.create_time_since_epoch),
                    (execution.last_update_time_since_epoch - execution.create_time_since_epoch) / 1000,
                    _values(execution.custom_properties),
                    ends.get((execution.id, False), {}),
                    ends.get((execution.id, True), {}),
                )
                for name, execution in latest.items()
            ]
            steps.sort(key=lambda step: STEPS.index(step.id) if step.id in STEPS else len(STEPS))
            started = _time(context.create_time_since_epoch)
            yield Run(context.name, pipeline, started, records[context.id], steps)

    def _executions(self, context_id: int) -> list[metadata_store_pb2.Execution]:
        return sorted(self.store.get_executions_by_context(context_id), key=lambda execution: execution.id)

    def _step_names(self, ids: Collection[int]) -> dict[int, str]:
        """The step of each execution."""
        names: dict[int, str] = {}
        if len(ids) < 100:
            for identifier in ids:
                nodes = (c for c in self.store.get_contexts_by_execution(identifier) if c.type == "node")
                names[identifier] = next(nodes).name.rpartition(".")[2]
            return names
        for node in self.store.get_contexts_by_type("node"):
            for execution in self.store.get_executions_by_context(node.id):
                names[execution.id] = node.name.rpartition(".")[2]
        return names


def newest_with(steps: Collection[str], runs: Sequence[Run]) -> Run | None:
    """The newest of `runs`, oldest first, in which all of `steps` succeeded; None if there is none."""
    return next((run for run in reversed(runs) if {s.id for s in run.steps if s.done} >= set(steps)), None)


def _text(record: Json) -> str:
    return json.dumps(record, ensure_ascii=False, indent=1) + "\n"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _values(properties: Any) -> Json:
    """ML Metadata's values as Python's."""
    return {
        name: getattr(value, value.WhichOneof("value"))
        for name, value in properties.items()
        if value.WhichOneof("value")
    }


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000).astimezone()
