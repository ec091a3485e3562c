"""The charts of the run: its data and its steps. Each also has its numbers as text."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.report.charts import LINE, MANY_CLASSES, PERCENT, short
from pipeline.report.dataset import Balance
from pipeline.report.lineage import StepResult
from pipeline.report.svg import FIRST, SECOND, THIRD, Chart, figure, style, to_svg


def balance_chart(balance: Balance) -> Chart | None:
    """Which share of each split belongs to each class; None with too many classes."""
    names = list(balance.counts)
    if not 0 < len(names) <= MANY_CLASSES:
        return None
    marks = {"train": (FIRST, "o", -0.25), "eval": (SECOND, "s", 0.0), "test": (THIRD, "^", 0.25)}
    with style():
        drawn = figure(80 + 1.25 * LINE * len(names))
        axes = drawn.add_subplot()
        axes.grid(axis="x")
        for split, (colour, marker, shift) in marks.items():
            shares = [balance.share(name, split) for name in names]
            lines = [line + shift for line in range(len(names))]
            axes.plot(shares, lines, marker, color=colour, markersize=5, label=split)
        axes.set_yticks(range(len(names)), [short(name) for name in names])
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlim(left=0)
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_formatter(PERCENT)
        axes.set_xlabel("share of the split")
        drawn.legend(loc="outside upper left", ncols=3, handletextpad=0.3)
        found = {(name, split): balance.share(name, split) for name in names for split in balance.examples}
        (few, where), (many, there) = min(found, key=found.__getitem__), max(found, key=found.__getitem__)
        caption = (
            f"Class balance: from {found[few, where]:.1%} ({few}, {where}) to {found[many, there]:.1%}"
            f" ({many}, {there}) of a split."
        )
        svg = to_svg(drawn, "balance", "Class balance of each split", caption)
    return Chart(svg, caption)


def step_chart(steps: Sequence[StepResult]) -> Chart | None:
    """How long each step took; None if no times are known."""
    timed = [step for step in steps if step.seconds is not None]
    if not timed:
        return None
    seconds = [step.seconds or 0.0 for step in timed]
    with style():
        drawn = figure(50 + LINE * len(timed))
        axes = drawn.add_subplot()
        axes.barh(range(len(timed)), seconds, height=0.65, color=FIRST)
        for line, step in enumerate(timed):
            text = "from the cache" if step.state == "from the cache" else f"{seconds[line]:.1f} s"
            text += " (failed)" if step.state == "failed" else ""
            axes.annotate(text, (seconds[line], line), (5, 0), textcoords="offset points", va="center", fontsize=10.5)
        axes.set_yticks(range(len(timed)), [step.id for step in timed])
        axes.set_ylim(len(timed) - 0.5, -0.5)
        axes.set_xlim(0, max(*seconds, 0.1) * 1.28)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("seconds")
        longest = max(timed, key=lambda step: step.seconds or 0.0)
        cached = sum(step.state == "from the cache" for step in timed)
        caption = (
            f"Time of the steps: {sum(seconds):.1f} s together, {longest.id} took the longest, {longest.seconds:.1f} s;"
            f" {cached or 'none'} of {len(timed)} steps came from the cache."
        )
        svg = to_svg(drawn, "steps", "Time of each step", caption)
    return Chart(svg, caption)
