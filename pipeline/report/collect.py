"""A run as the plain values that its report shows. In place of what cannot be shown is the reason."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from data.reference import REFERENCE, Reference, read_reference
from pipeline.report.dataset import Balance, Values, data_folder, licence, read_anomalies, read_balance, read_values
from pipeline.report.evaluated import (
    Bin,
    Comparison,
    Epoch,
    Mistake,
    compare,
    kept_epoch,
    read_epochs,
    reliability,
    worst_mistakes,
)
from pipeline.runs.records import Run
from pipeline.runs.settings import Flat, defaults, differences, flatten

if TYPE_CHECKING:
    from components.evaluator.predictions import Predictions
    from components.evaluator.report import Evaluation

Found = TypeVar("Found")
log = logging.getLogger(__name__)


class Absent(str):
    """Why a part of the page has nothing to show, in one sentence."""


@dataclass(frozen=True)
class Facts:
    """Everything on the page that is not in the records of the run themselves.

    `status` is one of pushed, refused, failed, other. `changes` are the settings that differ from the profile default:
    both values, None for one that is not set.
    """

    run: Run
    status: str
    headline: str
    reason: str
    evaluation: Evaluation | Absent
    comparison: Comparison | Absent
    reliability: list[Bin] | Absent
    mistakes: list[Mistake] | Absent
    row_accuracy: list[float] | Absent
    reference: Reference | Absent
    epochs: list[Epoch] | Absent
    kept: Epoch | None
    balance: Balance | Absent
    values: list[Values] | Absent
    anomalies: list[str] | Absent
    digests: dict[str, str] | Absent
    data_folder: str
    licence: str
    settings: Flat
    changes: dict[str, list[Any]] | Absent
    provenance: dict[str, Any]


def collect(run: Run) -> Facts:
    """Reads what the report shows, from ML Metadata and the artifacts. It raises nothing for an artifact."""
    from components.digests import read_digests
    from components.evaluator.predictions import read_predictions
    from components.evaluator.report import read_evaluation

    judged, examples = _folder(run, "Evaluator", "evaluation"), _folder(run, "ExampleGen", "examples")
    evaluation = attempt(read_evaluation, judged, run.labels)
    predictions = attempt(read_predictions, judged)
    epochs = attempt(read_epochs, _folder(run, "Trainer", "model_run"))
    schema = _folder(run, "CuratedSchema", "schema")
    folder, settings = data_folder(run), flatten(run.settings)
    spec = run.example or Absent("The size of an example was not recorded, so the examples cannot be read.")
    status, headline, reason = _verdict(run)
    return Facts(
        run=run,
        status=status,
        headline=headline,
        reason=reason,
        evaluation=evaluation,
        comparison=attempt(_comparison, evaluation, predictions),
        reliability=attempt(reliability, predictions),
        mistakes=attempt(worst_mistakes, predictions, spec),
        row_accuracy=attempt(_rows, predictions),
        reference=attempt(_reference, judged),
        epochs=epochs,
        kept=None if isinstance(epochs, Absent) else kept_epoch(settings.get("training.patience"), epochs),
        balance=attempt(read_balance, _folder(run, "StatisticsGen", "statistics"), run.labels),
        values=attempt(read_values, examples, spec),
        anomalies=attempt(read_anomalies, _folder(run, "ExampleValidator", "anomalies"), schema),
        digests=attempt(read_digests, examples),
        data_folder=folder,
        licence=licence(folder, run.data_digest),
        settings=settings,
        changes=differences([settings, defaults()]) if settings else Absent("The file with the settings is gone."),
        provenance=run.provenance,
    )


def attempt(read: Callable[..., Found | Absent], *values: Any) -> Found | Absent:
    """What `read` makes of the values; the first reason among them; or that it failed.

    A damaged file must not cost the whole page.
    """
    for value in values:
        if isinstance(value, Absent):
            return value
    try:
        return read(*values)
    except Exception as error:
        log.exception("A part of the report could not be made.")
        first = (str(error).strip().splitlines() or [""])[0]
        return Absent(f"This part could not be made: {type(error).__name__}: {first[:300]}")


def _folder(run: Run, step: str, key: str) -> str:
    """Where the files of an output are; or why they cannot be read."""
    found, artifact = run.step(step), run.output(step, key)
    if found is None:
        return Absent(f"The step {step} did not run: {_ending(run)}.")
    if not found.done or artifact is None:
        return Absent(f"The step {step} has no result: {_ending(run)}.")
    if not artifact.alive:
        return Absent(f"The files that {step} wrote are gone or have changed: {artifact.path}")
    return artifact.uri


def _ending(run: Run) -> str:
    """How a run that lacks a step ended, as a clause."""
    verdict = run.verdict
    if verdict == "data refused":
        return "the data gate refused the data"
    if verdict.startswith("done up to"):
        return f"the run was asked for the steps up to {run.last_step}"
    if verdict.startswith(("failed", "stopped")):
        return f"the run {verdict}"
    return "it was not part of this run"


def _comparison(evaluation: Evaluation, predictions: Predictions) -> Comparison | Absent:
    if evaluation.baseline_accuracy is None:
        return Absent(
            "No other model with the same inputs, outputs and classes was being served,"
            " so there was nothing to compare."
        )
    return compare(predictions)


def _rows(predictions: Predictions) -> list[float] | Absent:
    return predictions.row_accuracy.tolist() or Absent(
        "The model is bidirectional: it reads the whole sequence before it answers, so it has no answer after each row."
    )


def _reference(folder: str) -> Reference | Absent:
    return read_reference(f"{folder}/{REFERENCE}") or Absent("The evaluation has no reference.")


def _verdict(run: Run) -> tuple[str, str, str]:
    """The status, a headline, and what explains it."""
    verdict = run.verdict
    if verdict == "pushed":
        gone = "" if Path(run.pushed_to or "").is_dir() or "://" in str(run.pushed_to) else " That folder is gone now."
        return "pushed", f"The model was pushed as version {run.version}.", f"It is in {run.pushed_to}.{gone}"
    if verdict == "refused by the gates":
        return "refused", "The model was not pushed: a gate refused it.", ""
    if verdict == "refused by the infra check":
        return "refused", "The model was not pushed: the infra check refused it.", run.infra.reason if run.infra else ""
    if verdict == "data refused":
        return "refused", "No model was trained: the data gate refused the data.", ""
    if verdict.startswith("failed"):
        return "failed", f"No model was pushed: the run {verdict}.", ""
    return "other", f"No model was pushed: the run {'is ' if verdict.startswith('done') else ''}{verdict}.", ""
