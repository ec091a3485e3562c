"""What was found as Prometheus' text format, for the textfile collector of node_exporter."""

from __future__ import annotations

import time
from collections.abc import Iterator

from serving.monitor.watch import Watched

_HELP = {
    "answers": "Answers in the window that could be judged.",
    "estimated_accuracy": "Accuracy that average thresholded confidence expects, a share.",
    "estimated_accuracy_low": "Lower end of its 95 % interval.",
    "estimated_accuracy_high": "Upper end of its 95 % interval.",
    "reference_accuracy": "Accuracy on the held-out examples, a share.",
    "true_accuracy": "Accuracy of the answers with a label, a share.",
    "smallest_p_value": "Smallest p-value of the tests against the reference.",
    "changed": "1 if the answers are distributed otherwise than the reference.",
    "retrain": "1 if a new training is asked for.",
}


def metrics(found: list[Watched]) -> str:
    """One gauge for each number, with the labels `model` and `version`."""
    samples = [(watched, dict(_values(watched))) for watched in found]
    lines = []
    for name, text in _HELP.items():
        lines += [f"# HELP serving_monitor_{name} {text}", f"# TYPE serving_monitor_{name} gauge"]
        for watched, values in samples:
            if name in values:
                labels = f'model="{_escaped(watched.model)}",version="{watched.version}"'
                lines.append(f"serving_monitor_{name}{{{labels}}} {values[name]!r}")
    lines += ["# HELP serving_monitor_time_seconds When the monitor ran.", "# TYPE serving_monitor_time_seconds gauge"]
    return "\n".join([*lines, f"serving_monitor_time_seconds {time.time():.0f}", ""])


def _values(watched: Watched) -> Iterator[tuple[str, float]]:
    yield "answers", watched.answers
    if (verdict := watched.verdict) is None or (reference := watched.reference) is None:
        return
    yield "reference_accuracy", reference.accuracy
    if whole := verdict.whole:
        yield "estimated_accuracy", whole.estimate.accuracy
        yield "estimated_accuracy_low", whole.estimate.interval[0]
        yield "estimated_accuracy_high", whole.estimate.interval[1]
        yield "smallest_p_value", float(verdict.p_values.min())
        if whole.true:
            yield "true_accuracy", whole.true.share
    yield "changed", int(verdict.word in ("changed", "retrain"))
    yield "retrain", int(verdict.word == "retrain")


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
