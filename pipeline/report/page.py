"""The page: the collected facts, drawn and filled into the template."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Mapping
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.report import charts
from pipeline.report.collect import Absent, Facts, attempt, collect
from pipeline.report.dataset import SAMPLE
from pipeline.report.evaluated import classes, mistakes_by_count, overall
from pipeline.runs.files import write_file

if TYPE_CHECKING:
    from jinja2 import Environment

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
    environment.filters |= {"picture": data_uri, "duration": _duration, "number": _number, "json": _json}
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


def data_uri(picture: np.ndarray) -> str:
    """A grey picture, uint8 [height, width], as the data URI of a PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 120 else f"{int(seconds // 60)} min {int(seconds % 60)} s"


def _number(value: float, digits: int = 4) -> str:
    return f"{value:,.{digits}f}".replace("-", "\N{MINUS SIGN}")


def _json(value: Any) -> str:
    return "not set" if value is None else json.dumps(value, ensure_ascii=False)
