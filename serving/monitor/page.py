"""The page: what was found about each version, drawn and filled into the template."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from data.example import draw
from data.pages.html import templates
from serving.monitor import charts
from serving.monitor.served import Strange
from serving.monitor.watch import Watched, newest
from serving.monitor.words import estimated, sentences, title


def page(found: list[Watched], log: Path, since: datetime | None, drop: float) -> str:
    """The HTML of the page. It contains everything that it shows, and no script.

    Args:
        found: by model and version; the newest version comes first on the page.
        log: where the answers are from.
        since: the time of the first answer, or None.
        drop: of the accuracy, what the verdicts were made with.
    """
    environment = templates("serving.monitor")
    return environment.get_template("page.html.j2").render(
        log=log,
        since=since,
        made=datetime.now().astimezone(),
        versions=[_version(number, watched, drop) for number, watched in enumerate(reversed(found))],
        newest=[title(watched) for watched in newest(found)],
    )


def _version(number: int, watched: Watched, drop: float) -> dict[str, Any]:
    """What the template shows of one version."""
    verdict, reference, served = watched.verdict, watched.reference, watched.served
    headline, *reasons = sentences(watched, drop)
    shown = {"title": title(watched), "answers": watched.answers, "headline": headline, "reasons": reasons}
    if not verdict or not reference or not served or not verdict.whole:
        return {**shown, "word": verdict.word if verdict else "none", "whole": None}
    names = reference.spec.labels
    return {
        **shown,
        "word": verdict.word,
        "whole": verdict.whole,
        "estimated": estimated(verdict.whole.estimate),
        "reference": reference,
        "tests": [(name, f"{p:.2g}") for name, p in zip((*names, "all classes"), verdict.p_values, strict=True)],
        "charts": [
            charts.accuracy_chart(f"accuracy-{number}", verdict.days, reference, drop),
            charts.confidence_chart(f"confidence-{number}", verdict.days, reference),
            charts.class_chart(f"classes-{number}", verdict.days, reference),
        ],
        "strangest": [
            {"strange": strange, "name": names[strange.class_id], "picture": _picture(strange, watched)}
            for strange in served.strangest()
        ],
    }


def _picture(strange: Strange, watched: Watched) -> np.ndarray | None:
    """The input as a picture; None if the log has none, or one of another form than the model's examples."""
    if strange.inputs is None or watched.reference is None:
        return None
    try:
        picture = draw(strange.inputs, watched.reference.spec)
    except ValueError:
        return None
    return picture if picture.dtype == np.uint8 else None
