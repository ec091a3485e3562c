"""How a roll-back is recorded in ML Metadata."""

from __future__ import annotations

from pathlib import Path

from ml_metadata.proto import metadata_store_pb2

from pipeline.runs.store import ROLLBACK, History


class RollbackRecord:
    """A roll-back: an execution that is RUNNING until the copy of the version `source`, after `newest`, is there.

    It belongs to the pipeline that pushed `source`; `pipeline` is the name of that, if ML Metadata does not know it.
    """

    def __init__(self, history: History, source: Path, newest: Path, pipeline: str | None) -> None:
        self._store = history.store
        kind = self._store.put_execution_type(metadata_store_pb2.ExecutionType(name=ROLLBACK))
        self._execution = metadata_store_pb2.Execution(
            type_id=kind, last_known_state=metadata_store_pb2.Execution.RUNNING
        )
        pushed = self._store.get_artifacts_by_id([a.id for a in history.artifacts() if a.path == str(source)][:1])
        known = [context for artifact in pushed for context in self._store.get_contexts_by_artifact(artifact.id)]
        named = [context for context in self._store.get_contexts_by_type("pipeline") if context.name == pipeline]
        self._contexts = [context for context in known if context.type == "pipeline"] or named
        version = str(int(newest.name) + 1)
        values = {"model": source.parent.name, "source": source.name, "instead_of": newest.name}
        self._put(
            {**values, "version": version, "path": str(newest.parent / version)},
            [(artifact, _event(metadata_store_pb2.Event.INPUT, "source")) for artifact in pushed],
        )

    def finish(self, final: Path) -> None:
        """Records the new version, the folder `final`."""
        pushed_model = metadata_store_pb2.ArtifactType(name="PushedModel")
        kind = self._store.put_artifact_type(pushed_model, can_omit_fields=True)
        artifact = metadata_store_pb2.Artifact(type_id=kind, uri=str(final), state=metadata_store_pb2.Artifact.LIVE)
        artifact.custom_properties["pushed"].int_value = 1
        artifact.custom_properties["pushed_destination"].string_value = str(final)
        artifact.custom_properties["pushed_version"].string_value = final.name
        self._execution.last_known_state = metadata_store_pb2.Execution.COMPLETE
        output = (artifact, _event(metadata_store_pb2.Event.OUTPUT, "pushed_model"))
        self._put({"version": final.name, "path": str(final)}, [output])

    def _put(self, values: dict[str, str], artifacts: list) -> None:
        for name, value in values.items():
            self._execution.custom_properties[name].string_value = value
        self._execution.id, _, _ = self._store.put_execution(self._execution, artifacts, self._contexts)


def _event(kind: int, key: str) -> metadata_store_pb2.Event:
    event = metadata_store_pb2.Event(type=kind)
    event.path.steps.add().key = key
    event.path.steps.add().index = 0
    return event
