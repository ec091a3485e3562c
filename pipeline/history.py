"""What runs left behind, read from ML Metadata and the artifacts it points to, and from nothing else."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import ml_metadata as mlmd
import tensorflow_model_analysis as tfma
from ml_metadata.proto import metadata_store_pb2

from components.evaluator import ACCURACY
from components.infra_validator import REASON, REPORT
from components.settings import Gates
from pipeline import STEPS


@dataclass(frozen=True)
class Step:
    """One execution of a run. `state` is ML Metadata's: COMPLETE, CACHED, FAILED, …"""

    id: str
    state: str


@dataclass(frozen=True)
class Gate:
    """One bar a model had to clear: accuracy shares, `value` against `bar`."""

    name: str
    value: float
    bar: float
    passed: bool


@dataclass(frozen=True)
class Evaluation:
    """What the Evaluator found on the test split. Accuracies are shares, 0 … 1; cross-entropy is in nats."""

    examples: int
    accuracy: float
    cross_entropy: float
    calibration_error: float
    class_accuracy: dict[int, float]
    baseline_accuracy: float | None
    baseline_version: str | None
    blessed: bool
    gates: list[Gate]

    @property
    def worst_class(self) -> tuple[int, float]:
        return min(self.class_accuracy.items(), key=lambda item: item[1])


@dataclass(frozen=True)
class InfraCheck:
    """What the infra check found when the model was served; `reason` is empty where it was blessed."""

    blessed: bool
    reason: str
    report: str


@dataclass(frozen=True)
class Run:
    """One run of the pipeline."""

    id: str
    steps: list[Step] = field(default_factory=list)
    evaluation: Evaluation | None = None
    infra: InfraCheck | None = None
    pushed_to: str | None = None
    tensorboard: str | None = None

    @property
    def fully_cached(self) -> bool:
        """True when every step that computes came from the cache; the baseline is looked up anew in each run."""
        return all(step.state == "CACHED" for step in self.steps if step.id != "Baseline")


class History:
    """A view of one pipeline's records in an ML Metadata store."""

    def __init__(self, connection: metadata_store_pb2.ConnectionConfig, pipeline: str) -> None:
        self._store = mlmd.MetadataStore(connection)
        self._pipeline = pipeline

    def runs(self) -> list[str]:
        """Ids of the pipeline's runs, oldest first."""
        contexts = self._store.get_contexts_by_type("pipeline_run")
        mine = [context for context in contexts if self._belongs(context)]
        return [context.name for context in sorted(mine, key=lambda context: context.id)]

    def latest_run_with(self, steps: Collection[str]) -> str | None:
        """The newest run in which all of `steps` succeeded, or None."""
        for run_id in reversed(self.runs()):
            done = {step.id for step in _steps(self._executions(run_id)) if step.state in ("COMPLETE", "CACHED")}
            if done >= set(steps):
                return run_id
        return None

    def run(self, run_id: str, gates: Gates) -> Run:
        """One run; `gates` are the bars its profile set."""
        executions = self._executions(run_id)
        evaluator, pusher, trainer = (executions.get(name) for name in ("Evaluator", "Pusher", "Trainer"))
        pushed = self._output(pusher, "pushed_model")
        model_run = self._output(trainer, "model_run")
        return Run(
            id=run_id,
            steps=_steps(executions),
            evaluation=self._evaluation(evaluator, gates),
            infra=_infra(self._output(executions.get("InfraValidator"), "blessing")),
            pushed_to=_text(pushed, "pushed_destination") if pushed and _number(pushed, "pushed") else None,
            tensorboard=model_run.uri if model_run else None,
        )

    def _evaluation(self, execution: metadata_store_pb2.Execution | None, gates: Gates) -> Evaluation | None:
        evaluation, blessing = self._output(execution, "evaluation"), self._output(execution, "blessing")
        if evaluation is None or blessing is None:
            return None
        baseline_id = _number(blessing, "baseline_model_id")
        candidate = tfma.load_eval_result(evaluation.uri, model_name="candidate" if baseline_id else None)
        metrics = {key: values[""][""] for key, values in candidate.slicing_metrics}
        overall = metrics[()]
        accuracy = overall[ACCURACY]["doubleValue"]
        per_class = {
            int(key[0][1]): values[ACCURACY]["doubleValue"] for key, values in sorted(metrics.items()) if key != ()
        }
        baseline_accuracy = None
        if baseline_id:
            baseline = tfma.load_eval_result(evaluation.uri, model_name="baseline")
            baseline_accuracy = dict(baseline.slicing_metrics)[()][""][""][ACCURACY]["doubleValue"]
        failed = set(_failures(tfma.load_validation_result(evaluation.uri)))
        rows = [Gate("accuracy", accuracy, gates.accuracy, (None, False) not in failed)]
        rows += [
            Gate(f"accuracy of class {label}", value, gates.class_accuracy, (label, False) not in failed)
            for label, value in per_class.items()
        ]
        if baseline_accuracy is not None:
            bar = baseline_accuracy - gates.max_drop
            rows.append(Gate("accuracy against the baseline", accuracy, bar, (None, True) not in failed))
        return Evaluation(
            examples=int(overall["example_count"]["doubleValue"]),
            accuracy=accuracy,
            cross_entropy=overall["sparse_categorical_crossentropy"]["doubleValue"],
            calibration_error=overall["expected_calibration_error"]["doubleValue"],
            class_accuracy=per_class,
            baseline_accuracy=baseline_accuracy,
            baseline_version=self._version_of(baseline_id) if baseline_id else None,
            blessed=bool(_number(blessing, "blessed")),
            gates=rows,
        )

    def _version_of(self, model_id: int) -> str | None:
        """The version a model was last pushed as, if it was: model → infra check → push."""
        blessings = [self._output(execution, "blessing") for execution in self._readers(model_id)]
        pushes = [push for blessing in blessings if blessing is not None for push in self._readers(blessing.id)]
        versions = [
            _text(pushed, "pushed_version")
            for push in pushes
            if (pushed := self._output(push, "pushed_model")) is not None and _number(pushed, "pushed")
        ]
        return max(versions, default=None)

    def _readers(self, artifact_id: int) -> list[metadata_store_pb2.Execution]:
        """The executions that took an artifact as input."""
        events = self._store.get_events_by_artifact_ids([artifact_id])
        return list(
            self._store.get_executions_by_id(
                [event.execution_id for event in events if event.type == metadata_store_pb2.Event.INPUT]
            )
        )

    def _belongs(self, context: metadata_store_pb2.Context) -> bool:
        return any(parent.name == self._pipeline for parent in self._store.get_parent_contexts_by_context(context.id))

    def _executions(self, run_id: str) -> dict[str, metadata_store_pb2.Execution]:
        """A run's latest execution of each step."""
        context = self._store.get_context_by_type_and_name("pipeline_run", run_id)
        executions = sorted(self._store.get_executions_by_context(context.id), key=lambda execution: execution.id)
        return {self._step_of(execution): execution for execution in executions}

    def _step_of(self, execution: metadata_store_pb2.Execution) -> str:
        nodes = (c for c in self._store.get_contexts_by_execution(execution.id) if c.type == "node")
        return next(node.name.removeprefix(f"{self._pipeline}.") for node in nodes)

    def _output(self, execution: metadata_store_pb2.Execution | None, key: str) -> metadata_store_pb2.Artifact | None:
        if execution is None:
            return None
        events = self._store.get_events_by_execution_ids([execution.id])
        ids = [
            event.artifact_id
            for event in events
            if event.type == metadata_store_pb2.Event.OUTPUT and event.path.steps[0].key == key
        ]
        return self._store.get_artifacts_by_id(ids)[0] if ids else None


def _infra(blessing: metadata_store_pb2.Artifact | None) -> InfraCheck | None:
    if blessing is None:
        return None
    return InfraCheck(bool(_number(blessing, "blessed")), _text(blessing, REASON), f"{blessing.uri}/{REPORT}")


def _steps(executions: dict[str, metadata_store_pb2.Execution]) -> list[Step]:
    return [
        Step(name, metadata_store_pb2.Execution.State.Name(execution.last_known_state))
        for name in STEPS
        if (execution := executions.get(name)) is not None
    ]


def _failures(result: tfma.ValidationResult) -> Iterator[tuple[int | None, bool]]:
    """(label, or None for all examples; whether it was the comparison with the baseline) of each missed bar."""
    for part in result.metric_validations_per_slice:
        keys = part.slice_key.single_slice_keys
        for failure in part.failures:
            yield keys[0].int64_value if keys else None, failure.metric_key.is_diff


def _text(artifact: metadata_store_pb2.Artifact, name: str) -> str:
    return artifact.custom_properties[name].string_value


def _number(artifact: metadata_store_pb2.Artifact, name: str) -> int:
    return artifact.custom_properties[name].int_value
