"""Runs, steps and artifacts as plain objects. TFX, TFMA and TensorFlow are not needed to read them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.infra_validator.report import InfraCheck, read_blessing
from data.example import ExampleSpec
from pipeline.definition import STEPS

if TYPE_CHECKING:
    from components.evaluator.report import Evaluation

# The custom properties of a run's context: what the local runner records beside TFX's own records.
PROFILE = "profile"
SETTINGS = "settings"
PACKAGES = "packages"
FROM = "from"
TO = "to"
RESUMED = "resumed"
"""The run that this one resumed."""
ERROR = "error"
"""The sentence with which the run ended."""

FIGURES = ("accuracy", "examples", "cross_entropy", "calibration_error", "worst_class_accuracy", "baseline_accuracy")
"""The Evaluator's numbers in ML Metadata: the custom properties of the artifact `evaluation`."""

Json = dict[str, Any]

ROLLBACK = "Rollback"
"""The type of the execution that records a roll-back."""


@dataclass(frozen=True)
class Artifact:
    """An artifact: its id, its path, whether it is live (not deleted), and its custom properties."""

    id: int
    uri: str
    live: bool
    properties: dict[str, Any]


@dataclass(frozen=True)
class Step:
    """One execution. `state` is ML Metadata's: COMPLETE, CACHED, FAILED, RUNNING, …; `properties` are its settings.

    `inputs` and `outputs` are the artifacts by their keys.
    """

    id: str
    state: str
    started: datetime
    seconds: float
    properties: dict[str, Any] = field(default_factory=dict, repr=False)
    inputs: dict[str, Artifact] = field(default_factory=dict, repr=False)
    outputs: dict[str, Artifact] = field(default_factory=dict, repr=False)

    @property
    def done(self) -> bool:
        """Whether the step has its result."""
        return self.state in ("COMPLETE", "CACHED")


@dataclass(frozen=True)
class Run:
    """One run of a pipeline. `properties` are what the local runner recorded; a run of an earlier version has none."""

    id: str
    pipeline: str
    started: datetime
    properties: dict[str, Any] = field(repr=False)
    steps: list[Step] = field(repr=False)

    @cached_property
    def _by_id(self) -> dict[str, Step]:
        return {step.id: step for step in self.steps}

    def step(self, name: str) -> Step | None:
        """One of the steps, or None if it did not run."""
        return self._by_id.get(name)

    def output(self, step: str, key: str) -> Artifact | None:
        """An artifact that a step wrote, or None."""
        found = self.step(step)
        return found.outputs.get(key) if found else None

    @property
    def settings(self) -> dict[str, Any]:
        """The tree of settings; empty if it was not recorded."""
        return json.loads(self.properties.get(SETTINGS, "{}"))

    @property
    def packages(self) -> dict[str, str]:
        """The versions of Python and of all installed packages; empty if they were not recorded."""
        return json.loads(self.properties.get(PACKAGES, "{}"))

    @property
    def figures(self) -> dict[str, float]:
        """The Evaluator's numbers: accuracy, examples, cross_entropy, …; empty if there was no evaluation."""
        evaluation = self.output("Evaluator", "evaluation")
        return {key: value for key, value in (evaluation.properties if evaluation else {}).items() if key in FIGURES}

    @property
    def blessed(self) -> bool | None:
        """The Evaluator's verdict, or None."""
        blessing = self.output("Evaluator", "blessing")
        return bool(blessing.properties.get("blessed")) if blessing and self._by_id["Evaluator"].done else None

    @property
    def infra(self) -> InfraCheck | None:
        """The infra check's verdict, or None."""
        blessing = self.output("InfraValidator", "blessing")
        return (
            read_blessing(blessing.uri, blessing.properties)
            if blessing and self._by_id["InfraValidator"].done
            else None
        )

    @property
    def pushed_to(self) -> str | None:
        """The version folder of the model of this run, or None."""
        pushed = self.output("Pusher", "pushed_model")
        return pushed.properties["pushed_destination"] if pushed and pushed.properties.get("pushed") else None

    @property
    def version(self) -> int | None:
        """The version that this run's model has."""
        return int(Path(self.pushed_to).name) if self.pushed_to else None

    @property
    def baseline_version(self) -> str | None:
        """The pushed version that the model was compared with, or None."""
        evaluation = self.output("Evaluator", "evaluation")
        return evaluation.properties.get("baseline_version") if evaluation else None

    def evaluation(self) -> Evaluation | None:
        """The whole evaluation, from TFMA's files; it loads TFMA."""
        found = self.output("Evaluator", "evaluation")
        if found is None or not self._by_id["Evaluator"].done or not Path(found.uri).is_dir():
            return None
        from components.evaluator.report import read_evaluation

        return read_evaluation(found.uri, self.labels)

    @property
    def example(self) -> ExampleSpec | None:
        """What an example of the run's data is; None if it was not recorded, or in another form."""
        evaluation, gate = self.output("Evaluator", "evaluation"), self.step("DataGate")
        for properties in (evaluation.properties if evaluation else {}, gate.properties if gate else {}):
            if text := properties.get("example"):
                try:
                    return ExampleSpec.model_validate_json(text)
                except ValueError:
                    return None
        return None

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes; empty if they were not recorded."""
        return self.example.labels if self.example else ()

    @property
    def last_step(self) -> str:
        """The last step that the run was asked for."""
        return self.properties.get(TO) or STEPS[-1]

    @property
    def finished(self) -> bool:
        """Whether the run came to its end: its last step has a result, or the data gate refused the data."""
        last, gate = self.step(self.last_step), self.step("DataGate")
        return bool(last and last.done) or bool(gate and gate.state == "FAILED")

    @property
    def fully_cached(self) -> bool:
        """True when every step that computes came from the cache; the baseline is looked up again in each run."""
        return all(step.state == "CACHED" for step in self.steps if step.id != "Baseline")

    @property
    def verdict(self) -> str:
        """How the run ended, in a few words."""
        for step in self.steps:
            if step.state == "FAILED":
                return "data refused" if step.id == "DataGate" else f"failed in {step.id}"
        if not self.finished:
            running = next((step.id for step in self.steps if not step.done), None)
            return f"stopped in {running}" if running else "stopped between two steps"
        if self.blessed is False:
            return "refused by the gates"
        if self.infra and not self.infra.blessed:
            return "refused by the infra check"
        if self.pushed_to:
            return "pushed"
        return f"done up to {self.last_step}"


@dataclass(frozen=True)
class Rollback:
    """A roll-back: the new `version` in the folder `path` is a copy of the version `source`, instead of `instead_of`.

    `done` is False if it was killed before its end.
    """

    pipeline: str
    model: str
    started: datetime
    source: int
    instead_of: int
    version: int
    path: str
    done: bool
