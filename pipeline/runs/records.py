"""Runs, steps and artifacts as plain objects. TFX, TFMA and TensorFlow are not needed to read them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.digests import DAYS, DIGEST, read_digests
from components.infra_validator.report import InfraCheck, read_blessing
from components.version_folder import read_provenance, read_warm_start
from data.errors import UserError
from data.example import ExampleSpec
from data.proportion import wilson
from pipeline.definition import STEPS

if TYPE_CHECKING:
    from components.evaluator.report import Evaluation

FIGURES = (
    "accuracy",
    "examples",
    "cross_entropy",
    "calibration_error",
    "worst_class_accuracy",
    "baseline_accuracy",
    "golden_accuracy",
)
"""The Evaluator's numbers in ML Metadata: the custom properties of the artifact `evaluation`."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Artifact:
    """An artifact: its id, its URI, whether ML Metadata has it as live (not deleted), and its custom properties.

    `listing` is the recorded listing of its files, None if there is none.
    """

    id: int
    uri: str
    live: bool
    properties: Json
    listing: str | None = None

    @property
    def path(self) -> str:
        """Where its files are: of a pushed model in the version folder, else in the URI."""
        return self.properties.get("pushed_destination") or self.uri

    @property
    def alive(self) -> bool:
        """Whether it can be used: ML Metadata has it as live, and its files are those that its step wrote."""
        if not self.live:
            return False
        if "://" in self.path:
            from tfx.dsl.io import fileio

            return fileio.exists(self.path)
        path = Path(self.path)
        return path.exists() and self.listing in (None, listing(path))


def listing(path: Path) -> str:
    """The number of files at `path`, their bytes, and a hash of their names and sizes. Hidden files do not count."""
    found = [path] if path.is_file() else sorted(file for file in path.rglob("[!.]*") if file.is_file())
    sizes = [file.stat().st_size for file in found]
    text = "".join(f"{file.relative_to(path)} {size}\n" for file, size in zip(found, sizes, strict=True))
    return f"{len(found)} files, {sum(sizes)} bytes, {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def provenance_of(folder: str) -> Json:
    """The provenance in a version folder; empty if it is not there or damaged."""
    with suppress(UserError):
        return read_provenance(folder)
    return {}


def class_name(label: int, labels: Sequence[str]) -> str:
    """The name of a class, or its id if there are no names."""
    return labels[label] if label < len(labels) else str(label)


@dataclass(frozen=True)
class Step:
    """One execution. `state` is ML Metadata's: COMPLETE, CACHED, FAILED, RUNNING, …; `properties` are its settings.

    `inputs` and `outputs` are the artifacts by their keys.
    """

    id: str
    state: str
    started: datetime
    seconds: float
    properties: Json = field(default_factory=dict, repr=False)
    inputs: dict[str, Artifact] = field(default_factory=dict, repr=False)
    outputs: dict[str, Artifact] = field(default_factory=dict, repr=False)

    @property
    def done(self) -> bool:
        """Whether the step has its result."""
        return self.state in ("COMPLETE", "CACHED")


@dataclass(frozen=True)
class Run:
    """One run of a pipeline.

    `record` is what the local runner recorded: profile, settings (and which of them were given), packages, from, to,
    resumed, error. It is empty if its file is gone. The steps are in the order in which they run.
    """

    id: str
    pipeline: str
    started: datetime
    record: Json = field(repr=False)
    steps: list[Step] = field(repr=False)

    @cached_property
    def _by_id(self) -> dict[str, Step]:
        return {step.id: step for step in self.steps}

    @property
    def _open(self) -> str | None:
        """The step that began and has no result."""
        return next((step.id for step in self.steps if not step.done), None)

    def step(self, name: str) -> Step | None:
        """One of the steps, or None if it did not run."""
        return self._by_id.get(name)

    def output(self, step: str, key: str) -> Artifact | None:
        """An artifact that a step wrote, or None."""
        found = self.step(step)
        return found.outputs.get(key) if found else None

    @property
    def settings(self) -> Json:
        """The tree of settings, without the sections that may hold secrets; empty if it is not known."""
        return self.record.get("settings", {})

    @property
    def packages(self) -> dict[str, str]:
        """The versions of Python and of all installed packages; empty if they are not known."""
        return self.record.get("packages", {})

    @property
    def figures(self) -> dict[str, float]:
        """The Evaluator's numbers: accuracy, examples, cross_entropy, …; empty if there was no evaluation."""
        evaluation = self.output("Evaluator", "evaluation")
        return {key: value for key, value in (evaluation.properties if evaluation else {}).items() if key in FIGURES}

    @property
    def accuracy_interval(self) -> tuple[float, float] | None:
        """The 95 % Wilson interval of the accuracy on the test split; None if there was no evaluation."""
        accuracy, examples = self.figures.get("accuracy"), round(self.figures.get("examples", 0))
        return wilson(round(accuracy * examples), examples) if accuracy is not None and examples else None

    @property
    def fingerprints(self) -> dict[str, str]:
        """The fingerprint of each step's code, by the step's id."""
        return {step.id: step.properties["fingerprint"] for step in self.steps if "fingerprint" in step.properties}

    @property
    def data_digest(self) -> str | None:
        """SHA-256 of the list of the shards' SHA-256; None if no data were imported."""
        examples = self.output("ExampleGen", "examples")
        return examples.properties.get(DIGEST) if examples else None

    @property
    def days(self) -> str:
        """The days whose examples were imported, as a text; empty for a data folder."""
        examples = self.output("ExampleGen", "examples")
        return examples.properties.get(DAYS, "") if examples else ""

    @property
    def start(self) -> Json:
        """How the training started, as `components.trainer.warm_start` wrote it; empty where days play no role."""
        model = self.output("Trainer", "model")
        with suppress(OSError, ValueError):
            return read_warm_start(f"{model.uri}/Format-Serving") if model else {}
        return {}

    @property
    def data_files(self) -> dict[str, str] | None:
        """The SHA-256 of each shard by its name; None if the list was not written, or was removed."""
        examples = self.output("ExampleGen", "examples")
        try:
            return read_digests(examples.uri) if examples else None
        except OSError:
            return None

    @property
    def blessed(self) -> bool | None:
        """The Evaluator's verdict, or None."""
        blessing = self.output("Evaluator", "blessing")
        return bool(blessing.properties.get("blessed")) if blessing and self._by_id["Evaluator"].done else None

    @property
    def infra(self) -> InfraCheck | None:
        """The infra check's verdict, or None."""
        blessing = self.output("InfraValidator", "blessing")
        done = blessing is not None and self._by_id["InfraValidator"].done
        return read_blessing(blessing.uri, blessing.properties) if blessing and done else None

    @property
    def pushed_to(self) -> str | None:
        """The version folder of the model of this run, or None."""
        pushed = self.output("Pusher", "pushed_model")
        return pushed.properties["pushed_destination"] if pushed and pushed.properties.get("pushed") else None

    @property
    def provenance(self) -> Json:
        """What the version folder says of the model; see `provenance_of`."""
        return provenance_of(self.pushed_to) if self.pushed_to else {}

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
        if found is None or not self._by_id["Evaluator"].done or not found.alive:
            return None
        from components.evaluator.report import read_evaluation

        return read_evaluation(found.uri, self.labels)

    @property
    def example(self) -> ExampleSpec | None:
        """What an example of the run's data is; None if no step recorded it."""
        evaluation, gate = self.output("Evaluator", "evaluation"), self.step("DataGate")
        found = [properties.properties.get("example") for properties in (evaluation, gate) if properties]
        text = next((text for text in found if text), None)
        return ExampleSpec.model_validate_json(text) if text else None

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes; empty if they are not known."""
        return self.example.labels if self.example else ()

    @property
    def last_step(self) -> str:
        """The last step that the run was asked for."""
        return self.record.get("to") or STEPS[-1]

    @property
    def finished(self) -> bool:
        """Whether the run came to its end: its last step has a result, or the data gate refused the data."""
        last, gate = self.step(self.last_step), self.step("DataGate")
        return bool(last and last.done) or bool(gate and gate.state == "FAILED")

    @property
    def next_step(self) -> str | None:
        """The step that has no result yet, or the one after the last; None after the end."""
        if self._open or self.finished:
            return self._open
        last = STEPS.index(self.steps[-1].id) if self.steps and self.steps[-1].id in STEPS else -1
        return STEPS[min(last + 1, len(STEPS) - 1)]

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
            return f"stopped in {self._open}" if self._open else "stopped between two steps"
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
