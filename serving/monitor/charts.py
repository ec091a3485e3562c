"""The charts of the page, with the days (UTC) along them. Each also has its numbers as a table."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter

from data.pages.svg import BAD, FIRST, INK, SECOND, THIRD, Chart, canvas, finish
from data.reference import Reference
from serving.monitor.verdict import Period
from serving.monitor.words import estimated

MANY_CLASSES = 30
"""Of more classes, those are drawn whose share has changed most."""
_TICKS = 6
_PERCENT = FuncFormatter(lambda value, _: f"{100 * value:.4g} %")
Days = Mapping[date, Period]


def accuracy_chart(name: str, days: Days, reference: Reference, drop: float) -> Chart:
    """The estimated accuracy of each day with its interval, and the true one where labels are known."""
    with canvas(260) as (axes,):
        _along(axes, days)
        axes.axhline(reference.accuracy, color=INK, linewidth=1, linestyle="--", label="held out")
        axes.axhline(reference.accuracy - drop, color=BAD, linewidth=1, linestyle=":", label=f"{drop:g} below")
        places = [day.toordinal() for day in days]
        for place, period in zip(places, days.values(), strict=True):
            axes.plot([place] * 2, period.estimate.interval, color=FIRST, linewidth=1.4)
        axes.plot(
            places, [p.estimate.accuracy for p in days.values()], "o-", color=FIRST, markersize=5, label="estimated"
        )
        true = [(day.toordinal(), period.true) for day, period in days.items() if period.true]
        if true:
            axes.plot([place for place, _ in true], [share.share for _, share in true], "^", color=THIRD, label="true")
        axes.yaxis.set_major_formatter(_PERCENT)
        axes.set(ylabel="accuracy", ylim=(None, min(1.0, axes.get_ylim()[1])))
        worst_day, worst = min(days.items(), key=lambda item: item[1].estimate.accuracy)
        caption = f"Accuracy of each day: the lowest estimate is {estimated(worst.estimate)}, on {worst_day}."
        lines = [
            (
                str(day),
                f"{p.answers:,}",
                estimated(p.estimate),
                f"{p.true.share:.4f} of {p.true.total:,}" if p.true else "",
            )
            for day, p in days.items()
        ]
        heads = ("day", "answers", "estimated (95 % interval)", "true")
        return finish(axes, name, "Accuracy of each day", caption, heads, lines)


def confidence_chart(name: str, days: Days, reference: Reference) -> Chart:
    """The mean confidence of each day."""
    with canvas(200) as (axes,):
        _along(axes, days)
        axes.axhline(reference.confidence, color=INK, linewidth=1, linestyle="--", label="held out")
        axes.plot([day.toordinal() for day in days], [p.confidence for p in days.values()], "o-", color=SECOND,
                  markersize=5, label="served")  # fmt: skip
        axes.yaxis.set_major_formatter(_PERCENT)
        axes.set(ylabel="mean confidence")
        day, least = min(days.items(), key=lambda item: item[1].confidence)
        caption = (
            f"Mean confidence of each day: {reference.confidence:.4f} for the held-out examples,"
            f" at least {least.confidence:.4f} (on {day})."
        )
        lines = [(str(day), f"{period.confidence:.4f}") for day, period in days.items()]
        return finish(axes, name, "Mean confidence of each day", caption, ("day", "mean confidence"), lines)


def class_chart(name: str, days: Days, reference: Reference) -> Chart:
    """How far each class's share of a day's answers lies from its share of the held-out answers."""
    labels, expected = reference.spec.labels, reference.counts / reference.examples
    gaps = {day: period.counts / period.answers - expected for day, period in days.items()}
    largest = sorted(range(len(labels)), key=lambda label: -max(abs(gap[label]) for gap in gaps.values()))
    shown = sorted(largest[:MANY_CLASSES])
    with canvas(90 + 19 * len(shown)) as (axes,):
        _along(axes, days)
        axes.grid(visible=False)
        for day, gap in gaps.items():
            for line, label in enumerate(shown):
                colour = FIRST if gap[label] > 0 else BAD
                strength = min(0.85, 12 * abs(float(gap[label])))
                corner = (day.toordinal() - 0.5, line - 0.5)
                axes.add_patch(Rectangle(corner, 1, 1, facecolor=colour, alpha=strength, linewidth=0))
        axes.set_yticks(range(len(shown)), [labels[label][:18] for label in shown])
        axes.set(ylim=(len(shown) - 0.5, -0.5), ylabel="class")
        axes.tick_params(axis="y", length=0)
        day, gap = max(gaps.items(), key=lambda item: abs(item[1]).max())
        label = int(abs(gap).argmax())
        caption = (
            "Share of each class in a day's answers against the held-out answers, blue above and red below. Farthest:"
            f" {labels[label]} on {day}, {gap[label] + expected[label]:.1%} instead of {expected[label]:.1%}."
        )
        heads = ("day", *(labels[label] for label in shown))
        lines = [("held out", *(f"{expected[label]:.1%}" for label in shown))]
        lines += [(str(day), *(f"{gap[label] + expected[label]:.1%}" for label in shown)) for day, gap in gaps.items()]
        return finish(axes, name, "Classes of each day", caption, heads, lines)


def _along(axes: Axes, days: Days) -> None:
    """Axes over days, from the first to the last."""
    axes.grid(axis="y")
    first, last = min(days), max(days)
    step = (last - first).days // _TICKS + 1
    ticks = [first + timedelta(days=number) for number in range(0, (last - first).days + 1, step)]
    axes.set_xticks([day.toordinal() for day in ticks], [f"{day:%m-%d}" for day in ticks])
    axes.set_xlim(first.toordinal() - 0.5, last.toordinal() + 0.5)
