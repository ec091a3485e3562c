"""What runs left behind, read from ML Metadata and the artifacts that it points to, and from nothing else."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field

import ml_metadata as mlmd
from ml_metadata.proto import metadata_store_pb2
from tfx.dsl.io import fileio

from components.baseline import VERSION
from components.evaluator.config import LABELS
from components.evaluator.report import Evaluation, read_evaluation
from components.infra_validator.report import InfraCheck, read_blessing


@dataclass(frozen=True)
class Step:
    """One execution of a run. `state` is ML Metadata's: COMPLETE, CACHED, FAILED, …"""

    id: str
    state: str


@dataclass(frozen=True)
class Run:
    """One run of the pipeline."""

    id: str
    steps: list[Step] = field(default_factory=list)
    evaluation: Evaluation | None = None
    baseline_version: str | None = None
    infra: InfraCheck | None = None
    pushed_to: str | None = None
    tensorboard: str | None = None

    @property
    def fully_cached(self) -> bool:
        """True when every step that computes came from the cache; the baseline is looked up again in each run."""
        return all(step.state == "CACHED" for step in self.steps if step.id != "Baseline")


class History:
    """A view of one pipeline's records in an ML Metadata store."""

    def __init__(self, connection: metadata_store_pb2.ConnectionConfig, pipeline: str) -> None:
        self._store = mlmd.MetadataStore(connection)
        self._pipeline = pipeline

    def runs(self) -> list[str]:
        """Ids of the pipeline's runs, oldest first."""
        contexts = self._store.get_contexts_by_type("pipeline_run")
        mine = [context for context in contexts if self._is_mine(context)]
        return [context.name for context in sorted(mine, key=lambda context: context.id)]

    def latest_run_with(self, steps: Collection[str]) -> str | None:
        """The newest run in which all of `steps` succeeded, or None."""
        for run_id in reversed(self.runs()):
            done = {step.id for step in _steps(self._executions(run_id)) if step.state in ("COMPLETE", "CACHED")}
            if done >= set(steps):
                return run_id
        return None

    def forget_missing(self, root: str) -> list[str]:
        """Marks artifacts as deleted if their files are gone, so that TFX's cache does not use them; returns the paths.

        A pushed model counts as gone if its version folder is gone. The Pusher then pushes it again.

        Args:
            root: the folder of the artifacts; others, of another machine perhaps, are left alone.
        """
        context = self._store.get_context_by_type_and_name("pipeline", self._pipeline)
        missing, paths = [], set()
        for artifact in self._store.get_artifacts_by_context(context.id) if context else ():
            pushed = "pushed_destination" in artifact.custom_properties
            path = _text(artifact, "pushed_destination") if pushed else artifact.uri
            live = artifact.state == metadata_store_pb2.Artifact.LIVE
            if live and artifact.uri.startswith(f"{root}/") and path and not fileio.exists(path):
                artifact.state = metadata_store_pb2.Artifact.DELETED
                missing.append(artifact)
                paths.add(path)
        self._store.put_artifacts(missing)
        return sorted(paths)

    def run(self, run_id: str) -> Run:
        """One run."""
        executions = self._executions(run_id)
        evaluator = executions.get("Evaluator")
        evaluation = self._output(evaluator, "evaluation")
        baseline = self._artifact(evaluator, "baseline_model", metadata_store_pb2.Event.INPUT)
        infra = self._output(executions.get("InfraValidator"), "blessing")
        pushed = self._output(executions.get("Pusher"), "pushed_model")
        model_run = self._output(executions.get("Trainer"), "model_run")
        return Run(
            id=run_id,
            steps=_steps(executions),
            evaluation=read_evaluation(evaluation.uri, _labels(evaluator)) if evaluation else None,
            baseline_version=_text(baseline, VERSION) if baseline else None,
            infra=read_blessing(infra) if infra else None,
            pushed_to=_text(pushed, "pushed_destination") if pushed and _number(pushed, "pushed") else None,
            tensorboard=model_run.uri if model_run else None,
        )

    def _is_mine(self, context: metadata_store_pb2.Context) -> bool:
        return any(parent.name == self._pipeline for parent in self._store.get_parent_contexts_by_context(context.id))

    def _executions(self, run_id: str) -> dict[str, metadata_store_pb2.Execution]:
        """A run's latest execution of each step, in the order they ran."""
        context = self._store.get_context_by_type_and_name("pipeline_run", run_id)
        executions = sorted(self._store.get_executions_by_context(context.id), key=lambda execution: execution.id)
        return {self._step_of(execution): execution for execution in executions}

    def _step_of(self, execution: metadata_store_pb2.Execution) -> str:
        nodes = (c for c in self._store.get_contexts_by_execution(execution.id) if c.type == "node")
        return next(node.name.removeprefix(f"{self._pipeline}.") for node in nodes)

    def _output(self, execution: metadata_store_pb2.Execution | None, key: str) -> metadata_store_pb2.Artifact | None:
        return self._artifact(execution, key, metadata_store_pb2.Event.OUTPUT)

    def _artifact(
        self, execution: metadata_store_pb2.Execution | None, key: str, kind: metadata_store_pb2.Event.Type
    ) -> metadata_store_pb2.Artifact | None:
        if execution is None:
            return None
        events = self._store.get_events_by_execution_ids([execution.id])
        ids = [event.artifact_id for event in events if event.type == kind and event.path.steps[0].key == key]
        return self._store.get_artifacts_by_id(ids)[0] if ids else None


def _steps(executions: dict[str, metadata_store_pb2.Execution]) -> list[Step]:
    return [
        Step(name, metadata_store_pb2.Execution.State.Name(execution.last_known_state))
        for name, execution in executions.items()
    ]


def _labels(evaluator: metadata_store_pb2.Execution) -> list[str]:
    known = LABELS in evaluator.custom_properties  # a run root of an earlier version has none
    return json.loads(evaluator.custom_properties[LABELS].string_value) if known else []


def _text(artifact: metadata_store_pb2.Artifact, name: str) -> str:
    return artifact.custom_properties[name].string_value


def _number(artifact: metadata_store_pb2.Artifact, name: str) -> int:
    return artifact.custom_properties[name].int_value
