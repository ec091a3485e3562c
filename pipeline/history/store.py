"""The runs in an ML Metadata store."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import ml_metadata as mlmd
from ml_metadata.proto import metadata_store_pb2

from data.errors import UserError
from pipeline.history.integrity import LISTINGS, is_whole, listing
from pipeline.history.records import RESUMED, ROLLBACK, Artifact, Rollback, Run, Step

_State = metadata_store_pb2.Execution.State
_INPUT, _OUTPUT = metadata_store_pb2.Event.INPUT, metadata_store_pb2.Event.OUTPUT


class History:
    """A view of an ML Metadata store.

    Args:
        connection: of the store.
        pipeline: show only the runs of this pipeline; None means all.
    """

    def __init__(self, connection: metadata_store_pb2.ConnectionConfig, pipeline: str | None = None) -> None:
        self.store = mlmd.MetadataStore(connection)
        self._pipeline = pipeline

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

    def runs_since(self, moment: datetime) -> list[Run]:
        """The runs that started at `moment` or later, oldest first."""
        return list(self._load([pair for pair in self._contexts() if _started(pair[0]) >= moment]))

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

    def latest_run_with(self, steps: Collection[str]) -> str | None:
        """The newest run in which all of `steps` succeeded, or None."""
        for context in reversed(self._contexts()):
            (run,) = self._load([context])
            if {step.id for step in run.steps if step.done} >= set(steps):
                return run.id
        return None

    def unfinished(self) -> Run:
        """The newest run that did not finish, and that no later run took up, by resuming it or with the same settings.

        Raises:
            UserError: there is no such run, or an earlier version recorded it without its settings.
        """
        runs = self.runs()
        for index, run in reversed(list(enumerate(runs))):
            later = runs[index + 1 :]
            if run.finished or any(run.id == o.properties.get(RESUMED) or run.settings == o.settings for o in later):
                continue
            if not run.settings:
                raise UserError(f"An earlier version recorded the run {run.id} without settings: repeat its command.")
            return run
        raise UserError("There is nothing to resume: every run has finished.")

    def record(self, run_id: str, **properties: str) -> None:
        """Adds custom properties to the context of a run."""
        context = self.store.get_context_by_type_and_name("pipeline_run", run_id)
        if context:
            for name, value in properties.items():
                context.custom_properties[name].string_value = value
            self.store.put_contexts([context])

    def artifacts(self) -> list[metadata_store_pb2.Artifact]:
        """All artifacts of the pipeline, of the store if there is no pipeline."""
        if self._pipeline is None:
            return self.store.get_artifacts()
        context = self.store.get_context_by_type_and_name("pipeline", self._pipeline)
        return self.store.get_artifacts_by_context(context.id) if context else []

    def forget(self, artifacts: Collection[metadata_store_pb2.Artifact]) -> None:
        """Marks artifacts as deleted, so that TFX's cache does not use them."""
        for artifact in artifacts:
            artifact.state = metadata_store_pb2.Artifact.DELETED
        self.store.put_artifacts(list(artifacts))

    def seal(self, run_id: str) -> None:
        """Records what lies in the folders of the artifacts of a run, so that a missing file is noticed later."""
        run, known = self.run(run_id), self._listings()
        outputs = [artifact for step in run.steps if step.done for artifact in step.outputs.values()]
        paths = {
            str(artifact.id): Path(artifact.properties.get("pushed_destination", artifact.uri))
            for artifact in outputs
            if artifact.live and str(artifact.id) not in known
        }
        found = {identifier: listing(path) for identifier, path in paths.items() if path.exists()}
        self.record(run_id, **{LISTINGS: json.dumps(found)})

    def _listings(self) -> dict[str, str]:
        """The recorded listing of each artifact by its id."""
        found: dict[str, str] = {}
        for context, _ in self._contexts():
            found |= json.loads(_values(context.custom_properties).get(LISTINGS, "{}"))
        return found

    def forget_missing(self, root: str, *, only_here: bool) -> list[str]:
        """Marks artifacts as deleted if their files are gone or have changed; returns the paths.

        A pushed model counts as gone if its version folder does. The Pusher then pushes it again.

        Args:
            root: the folder of the artifacts.
            only_here: whether artifacts elsewhere are of no use: they belong to the run root that this one is a copy
                of. In a store that several run roots share they are left alone.
        """
        missing, paths, listings = [], set(), self._listings()
        for artifact in self.artifacts():
            if artifact.state != metadata_store_pb2.Artifact.LIVE:
                continue
            path = _values(artifact.custom_properties).get("pushed_destination", artifact.uri)
            here = artifact.uri.startswith(f"{root}/")
            whole = is_whole(Path(path), listings.get(str(artifact.id)))
            if (here and not whole) or (only_here and not here):
                missing.append(artifact)
                paths.add(path)
        self.forget(missing)
        return sorted(paths)

    def _contexts(self) -> list[tuple[metadata_store_pb2.Context, str]]:
        """The runs' contexts, oldest first, each with the name of its pipeline."""
        found = []
        for context in sorted(self.store.get_contexts_by_type("pipeline_run"), key=lambda context: context.id):
            for parent in self.store.get_parent_contexts_by_context(context.id):
                if self._pipeline in (None, parent.name):
                    found.append((context, parent.name))
        return found

    def _load(self, contexts: Collection[tuple[metadata_store_pb2.Context, str]]) -> Iterator[Run]:
        """The runs of these contexts, with few queries however many they are."""
        executions = {context.id: self._executions(context.id) for context, _ in contexts}
        ids = [execution.id for found in executions.values() for execution in found]
        names = self._step_names(ids)
        events = self.store.get_events_by_execution_ids(ids) if ids else []
        artifacts = {
            artifact.id: Artifact(
                artifact.id,
                artifact.uri,
                artifact.state == metadata_store_pb2.Artifact.LIVE,
                _values(artifact.custom_properties),
            )
            for artifact in self.store.get_artifacts_by_id(list({event.artifact_id for event in events}))
        }
        ends: dict[tuple[int, int], dict[str, Artifact]] = {}
        for event in events:
            key = event.path.steps[0].key if event.path.steps else ""
            ends.setdefault((event.execution_id, event.type), {}).setdefault(key, artifacts[event.artifact_id])
        for context, pipeline in contexts:
            latest = {names[execution.id]: execution for execution in executions[context.id]}
            yield Run(
                context.name,
                pipeline,
                _started(context),
                _values(context.custom_properties),
                [
                    Step(
                        name,
                        _State.Name(execution.last_known_state),
                        _time(execution.create_time_since_epoch),
                        (execution.last_update_time_since_epoch - execution.create_time_since_epoch) / 1000,
                        _values(execution.custom_properties),
                        ends.get((execution.id, _INPUT), {}),
                        ends.get((execution.id, _OUTPUT), {}),
                    )
                    for name, execution in latest.items()
                ],
            )

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


def pushed_destination(artifact: metadata_store_pb2.Artifact) -> str | None:
    """The version folder of a pushed model; None for another artifact, "" for a model that was not pushed."""
    return _values(artifact.custom_properties).get("pushed_destination")


def _values(properties: Any) -> dict[str, Any]:
    """ML Metadata's values as Python's."""
    return {
        name: getattr(value, value.WhichOneof("value"))
        for name, value in properties.items()
        if value.WhichOneof("value")
    }


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000).astimezone()


def _started(context: metadata_store_pb2.Context) -> datetime:
    return _time(context.create_time_since_epoch)
