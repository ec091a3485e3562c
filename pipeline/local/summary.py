"""The table at the end of a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from components.evaluator.report import Evaluation
    from pipeline.runs.records import Run

Row = tuple[str, Text | str]


def print_summary(console: Console, run: Run, report: Path | None, log: Path, before: set[int], now: set[int]) -> None:
    """Prints the final table of a run; `before` and `now` are the versions under TF Serving's base path."""
    rows, evaluation = list[Row](), run.evaluation()
    if evaluation is not None:
        rows += _evaluation(evaluation, run.baseline_version)
    if run.infra is not None and (run.infra.blessed or (evaluation and evaluation.blessed)):
        verdict = Text("passed: served and called over gRPC", "green")
        if not run.infra.blessed:
            verdict = Text(f"refused: {run.infra.reason}", "bold red")
        rows += [("Infra check", verdict), ("", f"by {run.infra.server}"), ("", run.infra.report)]
    if run.pushed_to:
        rows.append(("Pushed", _pushed(run.pushed_to, before, now)))
    elif evaluation is not None:
        rows.append(("Pushed", Text("nothing", "bold red")))
    if model_run := run.output("Trainer", "model_run"):
        rows.append(("TensorBoard", f"tensorboard --logdir {model_run.uri}"))
    if report:
        rows.append(("Report", str(report)))
    rows.append(("Log", str(log)))
    console.print()
    if run.fully_cached:
        what = f"No day is new since {run.days}" if run.days else "Nothing has changed"
        console.print(f"{what}: every step came from the cache.\n")
    for name, value in rows:
        console.print(Text.assemble((f"{name:<18}", "bold"), " ", value))


def _evaluation(evaluation: Evaluation, baseline_version: str | None) -> Iterator[Row]:
    label, worst = evaluation.worst_class
    yield "Test accuracy", f"{evaluation.accuracy:.4f} of {evaluation.examples:,} examples"
    if evaluation.golden_accuracy is not None:
        yield "Golden accuracy", f"{evaluation.golden_accuracy:.4f} of {evaluation.golden_examples:,} examples"
    yield "Worst class", f"{label}, {worst:.4f}"
    if confused := evaluation.most_confused:
        true, predicted, count = confused
        yield "Most confused", f"{true} taken for {predicted}, {count} times"
    yield "Cross-entropy", f"{evaluation.cross_entropy:.4f}"
    yield "Calibration error", f"{evaluation.calibration_error:.4f}"
    if evaluation.baseline_accuracy is None:
        yield "Baseline", "none: no other pushed model has the same inputs and outputs"
    else:
        difference = evaluation.compared_accuracy - evaluation.baseline_accuracy
        yield (
            "Baseline",
            f"version {baseline_version}: {evaluation.baseline_accuracy:.4f}, this model {difference:+.4f}"
            + (" on the golden set" if evaluation.golden_accuracy is not None else ""),
        )
    blessed = evaluation.blessed
    yield "Gates", Text("passed: blessed", "green") if blessed else Text("refused: not blessed", "bold red")
    for gate in evaluation.gates:
        yield "", Text.assemble(("✓", "green") if gate.passed else ("✗", "bold red"), f" {gate}")
    for name in evaluation.untested:
        yield "", f"– accuracy of class {name}: no test examples, no gate"


def _pushed(destination: str, before: set[int], now: set[int]) -> str:
    version = int(Path(destination).name)
    if version not in now:
        return f"version {version}, but {destination} is gone; run again to restore it"
    text = f"version {version}{' by an earlier run' if version in before else ''} to {destination}"
    return text if version == max(now) else f"{text}; version {max(now)} is newer"
