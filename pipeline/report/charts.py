"""The charts of a report. Each also has its numbers as text: in its caption, or in a table under it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from data.pages.svg import BAD, FIRST, INK, SECOND, THIRD, WIDTH, Chart, canvas, finish
from pipeline.report.dataset import Balance
from pipeline.report.evaluated import Bin, ClassResult, Epoch
from pipeline.runs.records import Step

if TYPE_CHECKING:
    from components.evaluator.report import Evaluation

MANY_CLASSES = 30
"""With more classes, a chart of all would not be readable."""
STATES = {
    "COMPLETE": "done",
    "CACHED": "from the cache",
    "FAILED": "failed",
    "RUNNING": "did not end",
    "NEW": "did not start",
    "CANCELED": "cancelled",
}
"""The states of ML Metadata, for people."""
_LINE = 19.0
"""The height of a line of a horizontal chart."""
_PERCENT = FuncFormatter(lambda value, _: f"{100 * value:.4g} %")
_COUNT = FuncFormatter(lambda value, _: f"{value:,.0f}")


def curve_chart(name: str, label: str, epochs: Sequence[Epoch], kept: Epoch | None) -> Chart:
    """The loss or the accuracy, `name`, per epoch, in training and in validation."""
    numbers = [epoch.number for epoch in epochs]
    values = [(getattr(epoch, name), getattr(epoch, f"val_{name}")) for epoch in epochs]
    training, validation = zip(*values, strict=True)
    with canvas(250) as (axes,):
        _count_along(axes, numbers, "epoch", label)
        axes.plot(numbers, training, "o-", color=FIRST, markersize=4, label="training")
        axes.plot(numbers, validation, "s--", color=SECOND, markersize=4, label="validation")
        if kept:
            axes.axvline(kept.number, color=INK, linewidth=1, linestyle=":", label=f"kept: epoch {kept.number}")
        if name == "accuracy":
            axes.yaxis.set_major_formatter(_PERCENT)
        else:
            axes.set_ylim(bottom=0)
        title = f"{label.partition(',')[0].capitalize()} per epoch"
        caption = f"{title}: in epoch {numbers[-1]} {training[-1]:.4f} in training, {validation[-1]:.4f} in validation."
        lines = [
            (str(number), *(f"{value:.4f}" for value in pair)) for number, pair in zip(numbers, values, strict=True)
        ]
        return finish(axes, f"curve-{name}", title, caption, ("epoch", "training", "validation"), lines)


def confusion_chart(evaluation: Evaluation) -> Chart | None:
    """The confusion matrix: a line for each true class, the shade is the share of its examples; None if unreadable."""
    confusion, labels, count = evaluation.confusion, evaluation.labels, len(evaluation.labels)
    if not 0 < count <= MANY_CLASSES:
        return None
    table = [[confusion.get((true, predicted), 0) for predicted in range(count)] for true in range(count)]
    names = [_short(name, 12) for name in labels]
    with canvas(WIDTH) as (axes,):
        for (true, predicted), examples in sorted(confusion.items()):
            share = examples / (sum(table[true]) or 1)
            colour, strength = (FIRST, 0.42 * share) if true == predicted else (BAD, min(0.45, 0.1 + 3 * share))
            if examples:
                corner = (predicted - 0.5, true - 0.5)
                axes.add_patch(Rectangle(corner, 1, 1, facecolor=colour, alpha=strength, linewidth=0))
            if examples and count <= 15:
                axes.text(predicted, true, f"{examples:,}", ha="center", va="center", fontsize=9.5 if count > 7 else 11)
        axes.set(xlim=(-0.5, count - 0.5), ylim=(count - 0.5, -0.5), aspect="equal")
        axes.set_xticks(range(count), names, rotation=0 if max(map(len, labels)) * count <= 40 else 90)
        axes.set_yticks(range(count), names)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks([position - 0.5 for position in range(count + 1)], minor=True)
        axes.grid(which="minor", linewidth=0.5)
        axes.tick_params(which="both", length=0)
        axes.set(xlabel="predicted class", ylabel="true class")
        right, total = sum(table[label][label] for label in range(count)), sum(map(sum, table))
        caption = f"Confusion matrix: {right:,} of {total:,} examples lie on the diagonal, where the answer is right."
        lines = [(name, *(f"{examples:,}" for examples in line)) for name, line in zip(labels, table, strict=True)]
        return finish(axes, "confusion", "Confusion matrix", caption, ("true \\ predicted", *labels), lines)


def class_chart(results: Sequence[ClassResult]) -> Chart:
    """The accuracy of each class with its Wilson interval, and the floor of the gate; of many classes, the worst."""
    worst_first = sorted(results, key=lambda result: result.proportion.share)
    shown = results if len(results) <= MANY_CLASSES else worst_first[:MANY_CLASSES]
    floors = [result.floor for result in shown if result.floor is not None]
    with canvas(90 + _LINE * len(shown)) as (axes,):
        _lines(axes, [result.name for result in shown], "accuracy")
        axes.grid(axis="x")
        axes.plot([], [], "o-", color=FIRST, label="accuracy, 95 % interval")
        if floors:
            axes.plot([], [], color=SECOND, linestyle="--", label="floor of the gate")
        for line, result in enumerate(shown):
            share, (low, high) = result.proportion.share, result.proportion.interval
            below = result.floor is not None and share < result.floor
            colour, marker, size = (BAD, "X", 9) if below else (FIRST, "o", 6)
            axes.plot([low, high], [line, line], color=colour, linewidth=1.6, solid_capstyle="butt")
            axes.plot([share], [line], marker, color=colour, markersize=size)
            if result.floor is not None:
                axes.plot([result.floor] * 2, [line - 0.5, line + 0.5], color=SECOND, linestyle="--", zorder=1)
        least = min([*floors, *(result.proportion.interval[0] for result in shown)])
        axes.set_xlim(max(0.0, least - 0.03), 1.005)
        axes.xaxis.set_major_formatter(_PERCENT)
        worst, (low, high) = worst_first[0], worst_first[0].proportion.interval
        of = "Accuracy of each class" if shown is results else f"The {MANY_CLASSES} classes with the lowest accuracy"
        caption = f"{of}: lowest for {worst.name}, {worst.proportion.share:.4f} (95 % interval {low:.4f} to {high:.4f})"
        caption += f", highest floor {max(floors):.4f}." if floors else "."
        return finish(axes, "classes", "Accuracy per class", caption)


def reliability_chart(bins: Sequence[Bin]) -> Chart:
    """Share of right answers over confidence, and how many predictions have that confidence."""
    with canvas(400, ratios=(4, 1)) as (top, bottom):
        top.grid()
        top.plot([0, 1], [0, 1], color=INK, linestyle="--", linewidth=1, label="perfect calibration")
        top.plot([], [], "o-", color=FIRST, label="this model, 95 % interval")
        for item in bins:
            top.plot([item.confidence] * 2, item.proportion.interval, color=FIRST, linewidth=1.4)
            top.plot([item.confidence], [item.proportion.share], "o", color=FIRST, markersize=6)
        top.set(xlim=(0, 1.01), ylim=(0, 1.02), ylabel="share of right answers")
        top.yaxis.set_major_formatter(_PERCENT)
        bottom.grid(axis="y")
        middles = [(item.low + item.high) / 2 for item in bins]
        bottom.bar(middles, [item.proportion.total for item in bins], width=0.09, color=FIRST)
        bottom.set(xlabel="confidence", ylabel="examples", yscale="log")
        bottom.yaxis.set_major_locator(LogLocator(numticks=4))
        bottom.yaxis.set_minor_locator(NullLocator())
        bottom.yaxis.set_major_formatter(_COUNT)
        bottom.xaxis.set_major_formatter(_PERCENT)
        widest = max(bins, key=lambda item: abs(item.proportion.share - item.confidence) * item.proportion.total)
        caption = (
            f"Reliability diagram: {widest.proportion.total:,} answers have a confidence of {widest.low:.1f} to"
            f" {widest.high:.1f}, {widest.confidence:.3f} on average; {widest.proportion.share:.3f} of them are right."
        )
        lines = [
            (
                f"{b.low:.1f} to {b.high:.1f}",
                f"{b.proportion.total:,}",
                f"{b.confidence:.4f}",
                f"{b.proportion.share:.4f}",
            )
            for b in bins
        ]
        heads = ("confidence", "examples", "mean confidence", "right")
        return finish(top, "reliability", "Reliability diagram", caption, heads, lines)


def row_chart(accuracy: Sequence[float]) -> Chart:
    """The accuracy after each row of the sequence."""
    count, last = len(accuracy), accuracy[-1]
    numbers = range(1, count + 1)
    near = next(number for number, value in zip(numbers, accuracy, strict=True) if value >= last - 0.01)
    with canvas(250) as (axes,):
        _count_along(axes, numbers, "rows that were read", "accuracy")
        axes.axhline(last, color=INK, linestyle="--", linewidth=1)
        axes.plot(numbers, accuracy, "o-", color=FIRST, markersize=4)
        axes.set(ylim=(0, 1.02), xlim=(0, count + 0.5))
        axes.yaxis.set_major_formatter(_PERCENT)
        caption = (
            f"Accuracy after each of the {count} rows: {accuracy[(count - 1) // 2]:.4f} after {(count + 1) // 2},"
            f" {last:.4f} at the end. It is within 0.01 of that first after row {near}."
        )
        lines = [(str(number), f"{value:.4f}") for number, value in zip(numbers, accuracy, strict=True)]
        return finish(axes, "rows", "Accuracy after each row", caption, ("rows", "accuracy"), lines)


def balance_chart(balance: Balance) -> Chart | None:
    """Which share of each split belongs to each class; None with too many classes."""
    names = list(balance.counts)
    if not 0 < len(names) <= MANY_CLASSES:
        return None
    marks = {"train": (FIRST, "o", -0.25), "eval": (SECOND, "s", 0.0), "test": (THIRD, "^", 0.25)}
    with canvas(80 + 1.25 * _LINE * len(names)) as (axes,):
        _lines(axes, names, "share of the split")
        axes.grid(axis="x")
        for split, (colour, marker, shift) in marks.items():
            shares = [balance.share(name, split) for name in names]
            places = [line + shift for line in range(len(names))]
            axes.plot(shares, places, marker, color=colour, markersize=5, label=split)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(_PERCENT)
        found = {(name, split): balance.share(name, split) for name in names for split in balance.examples}
        (few, where), (many, there) = min(found, key=found.__getitem__), max(found, key=found.__getitem__)
        caption = (
            f"Class balance: from {found[few, where]:.1%} ({few}, {where}) to {found[many, there]:.1%}"
            f" ({many}, {there}) of a split."
        )
        return finish(axes, "balance", "Class balance of each split", caption)


def step_chart(steps: Sequence[Step]) -> Chart | None:
    """How long each step took; None if that is not known, or no step began."""
    seconds = [step.seconds for step in steps]
    if not steps or math.isnan(sum(seconds)):
        return None
    with canvas(50 + _LINE * len(steps)) as (axes,):
        _lines(axes, [step.id for step in steps], "seconds")
        axes.barh(range(len(steps)), seconds, height=0.65, color=FIRST)
        for line, step in enumerate(steps):
            text = STATES["CACHED"] if step.state == "CACHED" else f"{step.seconds:.1f} s"
            text += " (failed)" if step.state == "FAILED" else ""
            place = (step.seconds, line)
            axes.annotate(text, place, (5, 0), textcoords="offset points", va="center", fontsize=10.5)
        axes.set_xlim(0, max(*seconds, 0.1) * 1.28)
        longest = max(steps, key=lambda step: step.seconds)
        cached = sum(step.state == "CACHED" for step in steps)
        caption = (
            f"Time of the steps: {sum(seconds):.1f} s together, {longest.id} took the longest, {longest.seconds:.1f} s;"
            f" {cached or 'none'} of {len(steps)} steps came from the cache."
        )
        return finish(axes, "steps", "Time of each step", caption)


def _count_along(axes: Axes, numbers: Sequence[int], xlabel: str, ylabel: str) -> None:
    """Axes over whole numbers."""
    axes.grid(axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10, min_n_ticks=1))
    axes.set(xlim=(min(numbers) - 0.5, max(numbers) + 0.5), xlabel=xlabel, ylabel=ylabel)


def _lines(axes: Axes, names: Sequence[str], xlabel: str) -> None:
    """Axes with a line for each name, the first on top."""
    axes.set_yticks(range(len(names)), [_short(name) for name in names])
    axes.set(ylim=(len(names) - 0.5, -0.5), xlabel=xlabel)
    axes.tick_params(axis="y", length=0)


def _short(name: str, length: int = 18) -> str:
    """A class name that fits beside an axis."""
    return name if len(name) <= length else f"{name[: length - 1]}…"
