"""The page: the collected facts, drawn and filled into the template."""

from __future__ import annotations

import base64
import io
from datetime import datetime
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.report import evaluated, lineage
from pipeline.report.collect import Facts
from pipeline.report.dataset import SAMPLE

if TYPE_CHECKING:
    from jinja2 import Environment

SECTIONS = {
    "verdict": "Was the model pushed?",
    "accuracy": "Test accuracy",
    "training": "Training",
    "confusion": "Confusion matrix",
    "classes": "Accuracy per class",
    "reliability": "Reliability",
    "mistakes": "The most confident mistakes",
    "rows": "How early the network is sure",
    "data": "The data",
    "steps": "Steps",
    "lineage": "Lineage",
    "card": "Model card",
}
"""The sections by their ids, in the order of the page."""


def templates(package: str) -> Environment:
    """The templates of `package`, which know `css`, the style of all pages, and `svg`, a mark for inline pictures."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader(package, "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    css = Markup(files("pipeline.report").joinpath("page.css").read_text(encoding="utf-8"))
    environment.globals |= {"css": css, "svg": Markup}
    return environment


def render(facts: Facts) -> str:
    """The HTML of the report. It contains everything that it shows, and no script."""
    environment = templates("pipeline.report")
    environment.filters |= {"picture": data_uri, "duration": _duration, "number": _number}
    return environment.get_template("page.html.j2").render(
        facts=facts,
        run=facts.run,
        sections=SECTIONS,
        made=datetime.now().astimezone(),
        sample=SAMPLE,
        main_packages=lineage.main_packages(facts.packages),
        missing=lambda value: isinstance(value, str),
        written={artifact.id for step in facts.steps for artifact in step.outputs.values()},
        **_numbers(facts),
        **_charts(facts),
    )


def _numbers(facts: Facts) -> dict[str, Any]:
    """What the page says about the evaluation; empty values where there is none."""
    evaluation = facts.evaluation
    if isinstance(evaluation, str):
        return {"overall": None, "worst": None, "gates": [], "confused": [], "difference": None}
    results = facts.classes if not isinstance(facts.classes, str) else []
    gates = [(gate, evaluated.margin(gate)) for gate in evaluation.gates]
    baseline = evaluation.baseline_accuracy
    return {
        "overall": evaluated.overall(evaluation),
        "worst": min(results, key=lambda result: result.proportion.share, default=None),
        "gates": sorted(gates, key=lambda pair: pair[0].passed),
        "confused": evaluated.mistakes_by_count(evaluation),
        "difference": None if baseline is None else evaluation.accuracy - baseline,
    }


def _charts(facts: Facts) -> dict[str, Any]:
    from pipeline.report import charts, run_charts

    evaluation, labels = facts.evaluation, facts.labels
    few = not isinstance(evaluation, str) and 0 < len(labels) <= charts.MANY_CLASSES
    return {
        "loss": None if isinstance(facts.epochs, str) else charts.loss_chart(facts.epochs, facts.kept),
        "accuracy": None if isinstance(facts.epochs, str) else charts.accuracy_chart(facts.epochs, facts.kept),
        "confusion": charts.confusion_chart(evaluation.confusion, labels)
        if few and not isinstance(evaluation, str)
        else None,
        "classes": None if isinstance(facts.classes, str) else charts.class_chart(facts.classes),
        "reliability": None if isinstance(facts.reliability, str) else charts.reliability_chart(facts.reliability),
        "row_chart": None if isinstance(facts.row_accuracy, str) else charts.row_chart(facts.row_accuracy),
        "balance": None if isinstance(facts.balance, str) else run_charts.balance_chart(facts.balance),
        "step_chart": run_charts.step_chart(facts.steps),
        "many": charts.MANY_CLASSES,
    }


def data_uri(picture: np.ndarray) -> str:
    """A grey picture, uint8 [height, width], as the data URI of a PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "not known"
    return f"{seconds:.1f} s" if seconds < 120 else f"{int(seconds // 60)} min {int(seconds % 60)} s"


def _number(value: float, digits: int = 4) -> str:
    return f"{value:,.{digits}f}".replace("-", "\N{MINUS SIGN}")
