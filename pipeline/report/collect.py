"""A run as the plain values that its report shows. What cannot be shown is a sentence with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.version_folder import read_provenance
from data.errors import UserError
from data.example import ExampleSpec
from pipeline.report import dataset, evaluated, lineage
from pipeline.report.artifacts import attempt, missing
from pipeline.report.epochs import Epoch, kept_epoch, read_epochs
from pipeline.runs.records import Run

if TYPE_CHECKING:
    from components.evaluator.predictions import Predictions
    from components.evaluator.report import Evaluation

_EARLIER = "An earlier version evaluated the model, without keeping each example's prediction."


@dataclass(frozen=True)
class Facts:
    """Everything on the page. A string in place of a value says why there is none."""

    run: Run
    status: str
    headline: str
    reason: str
    error: str
    example: ExampleSpec | None
    labels: Sequence[str]
    evaluation: Evaluation | str
    classes: list[evaluated.ClassResult] | str
    comparison: evaluated.Comparison | str
    reliability: list[evaluated.Bin] | str
    mistakes: list[evaluated.Mistake] | str
    row_accuracy: list[float] | str
    epochs: list[Epoch] | str
    kept: Epoch | None
    balance: dataset.Balance | str
    values: dataset.ValueStatistics | str
    anomalies: list[str] | str
    digests: dict[str, str] | str
    data_folder: str
    licence: str
    steps: list[lineage.StepResult]
    settings: dict[str, str]
    changes: list[lineage.Change] | str
    packages: dict[str, str]
    provenance: dict[str, Any]
    profile: str
    part: str
    resumed: str


def collect(run: Run) -> Facts:
    """Reads what the report shows, from ML Metadata and the artifacts. It raises nothing for an artifact."""
    spec = run.example
    labels = spec.labels if spec else ()
    evaluation = attempt(partial(_evaluation, run))
    predictions = attempt(partial(_predictions, run))
    found_epochs = attempt(partial(read_epochs, run))
    status, headline, reason = _verdict(run)
    folder = dataset.data_folder(run)
    return Facts(
        run=run,
        status=status,
        headline=headline,
        reason=reason,
        error=run.record.get("error") or "",
        example=spec,
        labels=labels,
        evaluation=evaluation,
        classes=evaluation if isinstance(evaluation, str) else evaluated.classes(evaluation),
        comparison=_comparison(evaluation, predictions),
        reliability=_of(predictions, evaluated.reliability),
        mistakes=_of(predictions, lambda found: evaluated.worst_mistakes(found, spec) if spec else _EARLIER),
        row_accuracy=_of(predictions, _rows),
        epochs=found_epochs,
        kept=None if isinstance(found_epochs, str) else kept_epoch(run, found_epochs),
        balance=attempt(partial(dataset.read_balance, run, labels)),
        values=attempt(partial(dataset.read_values, run, spec)),
        anomalies=attempt(partial(dataset.read_anomalies, run)),
        digests=attempt(partial(dataset.read_file_digests, run)),
        data_folder=folder,
        licence=dataset.licence(folder, run.data_digest),
        steps=lineage.step_results(run),
        settings=lineage.flat_settings(run.settings),
        changes=lineage.changes(run.settings) if run.settings else "The file with the settings of the run is gone.",
        packages=run.packages,
        provenance=_provenance(run),
        profile=run.record.get("profile") or "",
        part=" ".join(f"--{key} {run.record[key]}" for key in ("from", "to") if run.record.get(key)),
        resumed=run.record.get("resumed") or "",
    )


def _of(predictions: Predictions | str, read: Any) -> Any:
    return predictions if isinstance(predictions, str) else attempt(partial(read, predictions))


def _evaluation(run: Run) -> Evaluation | str:
    return missing(run, "Evaluator", "evaluation") or run.evaluation() or "The evaluation cannot be read."


def _predictions(run: Run) -> Predictions | str:
    from components.evaluator.predictions import read_predictions

    if reason := missing(run, "Evaluator", "evaluation"):
        return reason
    evaluation = run.output("Evaluator", "evaluation")
    assert evaluation is not None
    return read_predictions(evaluation.uri) or _EARLIER


def _comparison(evaluation: Evaluation | str, predictions: Predictions | str) -> evaluated.Comparison | str:
    if not isinstance(evaluation, str) and evaluation.baseline_accuracy is None:
        return (
            "No other model with the same inputs, outputs and classes was being served,"
            " so there was nothing to compare."
        )
    return _of(
        predictions, lambda found: evaluated.compare(found) or "The predictions of the served model were not kept."
    )


def _rows(predictions: Predictions) -> list[float] | str:
    return [float(value) for value in predictions.row_accuracy] or (
        "The model is bidirectional: it reads the whole sequence before it answers, so it has no answer after each row."
    )


def _verdict(run: Run) -> tuple[str, str, str]:
    """The status, a headline, and what explains it: one of pushed, refused, failed, other."""
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


def _provenance(run: Run) -> dict[str, Any]:
    with suppress(UserError):
        return read_provenance(run.pushed_to) if run.pushed_to else {}
    return {}
