"""Figures of matplotlib as inline SVG whose colours follow the page, with a title and a description."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# matplotlib needs colours, the page has variables: each of these stands for one.
INK, GRID, FIRST, SECOND, THIRD, BAD = _COLOURS = [f"#01010{number}" for number in range(6)]
_VARIABLES = ["--ink", "--grid", "--series-1", "--series-2", "--series-3", "--bad"]
WIDTH = 410.0
"""Of a chart, in units that are pixels at a scale of 1: narrow, so that its text is readable on a phone."""
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "font.family": ["DejaVu Sans"],
    "font.size": 12,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GRID,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
}


@dataclass(frozen=True)
class Chart:
    """An inline SVG, its caption, and a table of the numbers that it draws: the heads and the lines."""

    svg: str
    caption: str
    heads: tuple[str, ...] = ()
    lines: tuple[tuple[str, ...], ...] = ()


@contextmanager
def canvas(height: float, ratios: Sequence[float] = (1,)) -> Iterator[list[Axes]]:
    """The axes of an empty figure, one under the other; make the chart of them inside, with `finish`.

    Args:
        height: of the figure, in units of the page.
        ratios: of the heights of the axes.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH / 72, height / 72), layout="constrained")
        yield list(figure.subplots(len(ratios), sharex=True, squeeze=False, height_ratios=ratios)[:, 0])


def finish(
    axes: Axes,
    name: str,
    title: str,
    caption: str,
    heads: Sequence[str] = (),
    lines: Iterable[Sequence[str]] = (),
) -> Chart:
    """The chart of the figure that `axes` are in, and above it a legend if these have labels.

    The same figure gives the same text. `name` is unique on the page, and begins every id. `caption` is what a reader
    sees in it, with the numbers. `heads` and `lines` are a table of the numbers.
    """
    figure: Any = axes.figure
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside upper left", ncols=3, handlelength=2.2, columnspacing=1.2)
    return Chart(_svg(figure, name, title, caption), caption, tuple(heads), tuple(map(tuple, lines)))


def _svg(figure: Figure, name: str, title: str, description: str) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = text.replace("url(#", f"url(#{name}-").replace('xlink:href="#', f'xlink:href="#{name}-')
    for colour, variable in zip(_COLOURS, _VARIABLES, strict=True):
        text = text.replace(colour, f"var({variable})")
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--font)", text)
    (box,) = re.findall(r'viewBox="([^"]*)"', text)
    head = (
        f'<svg viewBox="{box}" role="img" aria-labelledby="{name}-title {name}-description"'
        ' xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-description">{escape(description)}</desc>'
    )
    return head + text[text.index(">") + 1 :]
