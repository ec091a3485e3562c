"""Where a result comes from: steps, artifacts, settings, packages, source fingerprints."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pipeline.config import load
from pipeline.runs.records import Artifact, Run, Step
from pipeline.runs.settings import dump, flatten

MAIN_PACKAGES = (
    "python",
    "tfx",
    "tensorflow",
    "tensorflow-cpu",
    "tf-keras",
    "tensorflow-transform",
    "tensorflow-data-validation",
    "tensorflow-model-analysis",
    "ml-metadata",
    "apache-beam",
    "numpy",
)
_STATES = {
    "COMPLETE": "done",
    "CACHED": "from the cache",
    "FAILED": "failed",
    "RUNNING": "did not end",
    "NEW": "did not start",
    "CANCELED": "cancelled",
}


@dataclass(frozen=True)
class StepResult:
    """One step: its state in words, its time in seconds (None if it is not known), its code, its artifacts."""

    id: str
    state: str
    started: datetime
    seconds: float | None
    fingerprint: str
    inputs: dict[str, Artifact]
    outputs: dict[str, Artifact]


@dataclass(frozen=True)
class Change:
    """A setting that differs from the default profile; None stands for a setting that one of the two lacks."""

    key: str
    value: str | None
    default: str | None


def step_results(run: Run) -> list[StepResult]:
    """The steps of the run, in the order of the chain."""
    return [_result(step) for step in run.steps]


def _result(step: Step) -> StepResult:
    return StepResult(
        step.id,
        _STATES.get(step.state, step.state.lower()),
        step.started,
        None if math.isnan(step.seconds) else step.seconds,
        str(step.properties.get("fingerprint", "")),
        step.inputs,
        step.outputs,
    )


def flat_settings(settings: Mapping[str, Any]) -> dict[str, str]:
    """The tree of settings as `section.key` → the value as JSON, without those that change no result."""
    return {key: json.dumps(value, ensure_ascii=False) for key, value in flatten(settings).items()}


def changes(settings: Mapping[str, Any]) -> list[Change]:
    """Where `settings` differ from the profile `default`, as it is now."""
    default = flat_settings(dump(load("default")))
    mine = flat_settings(settings)
    keys = [*mine, *(key for key in default if key not in mine)]
    return [Change(key, mine.get(key), default.get(key)) for key in keys if mine.get(key) != default.get(key)]


def main_packages(packages: Mapping[str, str]) -> dict[str, str]:
    """The packages that compute the results, by their normal names (PEP 503), with their versions."""
    normal = {re.sub("[-_.]+", "-", name).lower(): version for name, version in packages.items()}
    return {name: normal[name] for name in MAIN_PACKAGES if name in normal}
