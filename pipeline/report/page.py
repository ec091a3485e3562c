"""The page: the collected facts, drawn and filled into the template."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.files import write_file
from data.pages.html import templates
from pipeline.report import charts
from pipeline.report.collect import Absent, Facts, attempt, collect
from pipeline.report.dataset import SAMPLE
from pipeline.report.evaluated import classes, mistakes_by_count, overall

if TYPE_CHECKING:
    from pipeline.runs.records import Run

SECTIONS = {
    "verdict": "Was the model pushed?",
    "accuracy": "Test accuracy",
    "training": "Training",
    "confusion": "Confusion matrix",
    "classes": "Accuracy per class",
    "reliability": "Reliability",
    "mistakes": "The most confident mistakes",
    "rows": "How early the network is sure",
    "reference": "What the monitor will compare",
    "data": "The data",
    "steps": "Steps",
    "lineage": "Lineage",
    "card": "Model card",
}
"""The sections by their ids, in the order of the page."""
_MAIN_PACKAGES = (
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


def write_report(run: Run, path: Path) -> Path:
    """Writes the report of `run` as one self-contained HTML file, and returns its path.

    A reader of `path` sees the whole new page or the old one.

    Raises:
        OSError: the file cannot be written.
    """
    write_file(render(collect(run)), path)
    return path


def render(facts: Facts) -> str:
    """The HTML of the report. It contains everything that it shows, and no script."""
    environment = templates("pipeline.report")
    environment.filters |= {"duration": _duration, "json": _json}
    run, evaluation = facts.run, facts.evaluation
    results = attempt(classes, evaluation)
    return environment.get_template("page.html.j2").render(
        facts=facts,
        run=run,
        sections=SECTIONS,
        made=datetime.now().astimezone(),
        sample=SAMPLE,
        many=charts.MANY_CLASSES,
        states=charts.STATES,
        main_packages=main_packages(run.packages),
        missing=lambda value: isinstance(value, Absent),
        written={artifact.id for step in run.steps for artifact in step.outputs.values()},
        overall=attempt(overall, evaluation),
        results=results,
        confused=attempt(mistakes_by_count, evaluation),
        loss_chart=attempt(charts.curve_chart, "loss", "cross-entropy, nats", facts.epochs, facts.kept),
        accuracy_chart=attempt(charts.curve_chart, "accuracy", "accuracy", facts.epochs, facts.kept),
        confusion_chart=attempt(charts.confusion_chart, evaluation),
        class_chart=attempt(charts.class_chart, results),
        reliability_chart=attempt(charts.reliability_chart, facts.reliability),
        row_chart=attempt(charts.row_chart, facts.row_accuracy),
        balance_chart=attempt(charts.balance_chart, facts.balance),
        step_chart=attempt(charts.step_chart, run.steps),
    )


def main_packages(packages: Mapping[str, str]) -> dict[str, str]:
    """The packages that compute the results, by their normal names (PEP 503), with their versions."""
    normal = {re.sub("[-_.]+", "-", name).lower(): version for name, version in packages.items()}
    return {name: normal[name] for name in _MAIN_PACKAGES if name in normal}


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 120 else f"{int(seconds // 60)} min {int(seconds % 60)} s"


def _json(value: Any) -> str:
    return "not set" if value is None else json.dumps(value, ensure_ascii=False)
