"""The charts of the model: training, confusion, classes, calibration, rows. Each also has its numbers as text."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from pipeline.report.epochs import Epoch
from pipeline.report.evaluated import Bin, ClassResult
from pipeline.report.svg import BAD, FIRST, INK, SECOND, WIDTH, Chart, figure, style, to_svg

MANY_CLASSES = 30
"""With more classes, a chart of all would not be readable."""
LINE = 19.0
"""The height of a line of a horizontal chart."""


PERCENT = FuncFormatter(lambda value, _: f"{100 * value:.4g} %")
COUNT = FuncFormatter(lambda value, _: f"{value:,.0f}")


def short(name: str, length: int = 18) -> str:
    """A class name that fits beside an axis."""
    return name if len(name) <= length else f"{name[: length - 1]}…"


def loss_chart(epochs: Sequence[Epoch], kept: Epoch | None) -> Chart:
    """The cross-entropy per epoch, in training and in validation."""
    pairs = [(epoch.loss, epoch.val_loss) for epoch in epochs]
    return _curves("loss", "Cross-entropy per epoch", "cross-entropy, nats", epochs, pairs, kept, share=False)


def accuracy_chart(epochs: Sequence[Epoch], kept: Epoch | None) -> Chart:
    """The accuracy per epoch, in training and in validation."""
    pairs = [(epoch.accuracy, epoch.val_accuracy) for epoch in epochs]
    return _curves("accuracy", "Accuracy per epoch", "accuracy", epochs, pairs, kept, share=True)


def _curves(
    name: str,
    title: str,
    label: str,
    epochs: Sequence[Epoch],
    pairs: Sequence[tuple[float, float]],
    kept: Epoch | None,
    share: bool,
) -> Chart:
    numbers = [epoch.number for epoch in epochs]
    with style():
        drawn = figure(250)
        axes = drawn.add_subplot()
        axes.grid(axis="y")
        axes.plot(numbers, [pair[0] for pair in pairs], "o-", color=FIRST, markersize=4, label="training")
        axes.plot(numbers, [pair[1] for pair in pairs], "s--", color=SECOND, markersize=4, label="validation")
        if kept:
            axes.axvline(kept.number, color=INK, linewidth=1, linestyle=":", label=f"kept: epoch {kept.number}")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10, min_n_ticks=1))
        axes.set_xlim(min(numbers) - 0.5, max(numbers) + 0.5)
        if share:
            axes.yaxis.set_major_formatter(PERCENT)
        else:
            axes.set_ylim(bottom=0)
        axes.set(xlabel="epoch", ylabel=label)
        drawn.legend(loc="outside upper left", ncols=3, handlelength=2.2, columnspacing=1.2)
        last = pairs[-1]
        caption = f"{title}: in epoch {numbers[-1]} {last[0]:.4f} in training, {last[1]:.4f} in validation."
        svg = to_svg(drawn, f"curve-{name}", title, caption)
    lines = tuple((str(number), f"{one:.4f}", f"{two:.4f}") for number, (one, two) in zip(numbers, pairs, strict=True))
    return Chart(svg, caption, ("epoch", "training", "validation"), lines)


def confusion_chart(confusion: dict[tuple[int, int], int], labels: Sequence[str]) -> Chart:
    """The confusion matrix: a line for each true class, the shade is the share of its examples."""
    count = len(labels)
    totals = [sum(confusion.get((true, other), 0) for other in range(count)) for true in range(count)]
    numbers = count <= 15
    with style():
        drawn = figure(WIDTH)
        axes = drawn.add_subplot()
        for (true, predicted), examples in sorted(confusion.items()):
            if not examples:
                continue
            share = examples / totals[true]
            colour = FIRST if true == predicted else BAD
            strength = 0.42 * share if true == predicted else min(0.45, 0.1 + 3 * share)
            axes.add_patch(
                Rectangle((predicted - 0.5, true - 0.5), 1, 1, facecolor=colour, alpha=strength, linewidth=0)
            )
            if numbers:
                axes.text(predicted, true, f"{examples:,}", ha="center", va="center", fontsize=9.5 if count > 7 else 11)
        axes.set(xlim=(-0.5, count - 0.5), ylim=(count - 0.5, -0.5), aspect="equal")
        axes.set_xticks(range(count), [short(name, 12) for name in labels], rotation=_rotation(labels))
        axes.set_yticks(range(count), [short(name, 12) for name in labels])
        axes.set_xticks([position - 0.5 for position in range(count + 1)], minor=True)
        axes.set_yticks([position - 0.5 for position in range(count + 1)], minor=True)
        axes.grid(which="minor", linewidth=0.5)
        axes.tick_params(which="both", length=0)
        axes.set(xlabel="predicted class", ylabel="true class")
        right = sum(confusion.get((label, label), 0) for label in range(count))
        caption = (
            f"Confusion matrix: {right:,} of {sum(totals):,} examples lie on the diagonal, where the answer is right."
        )
        svg = to_svg(drawn, "confusion", "Confusion matrix", caption)
    lines = tuple(
        (labels[true], *(f"{confusion.get((true, other), 0):,}" for other in range(count))) for true in range(count)
    )
    return Chart(svg, caption, ("true \\ predicted", *labels), lines)


def _rotation(labels: Sequence[str]) -> float:
    longest = max(map(len, labels))
    return 0 if longest * len(labels) <= 40 else 90


def class_chart(results: Sequence[ClassResult]) -> Chart:
    """The accuracy of each class with its Wilson interval, and the floor of the gate."""
    drawn_results = list(results)
    if many := len(results) > MANY_CLASSES:
        drawn_results = sorted(results, key=lambda result: result.proportion.share)[:MANY_CLASSES]
    worst = min(results, key=lambda result: result.proportion.share)
    with style():
        drawn = figure(90 + LINE * len(drawn_results))
        axes = drawn.add_subplot()
        axes.grid(axis="x")
        for line, result in enumerate(drawn_results):
            share, (low, high) = result.proportion.share, result.proportion.interval
            below = result.floor is not None and share < result.floor
            colour, marker, size = (BAD, "X", 9) if below else (FIRST, "o", 6)
            axes.plot([low, high], [line, line], color=colour, linewidth=1.6, solid_capstyle="butt")
            axes.plot([share], [line], marker, color=colour, markersize=size)
            if result.floor is not None:
                axes.plot([result.floor] * 2, [line - 0.5, line + 0.5], color=SECOND, linestyle="--", zorder=1)
        axes.set_yticks(range(len(drawn_results)), [short(result.name) for result in drawn_results])
        axes.set_ylim(len(drawn_results) - 0.5, -0.5)
        floors = [result.floor for result in drawn_results if result.floor is not None]
        least = min([*floors, *(result.proportion.interval[0] for result in drawn_results)])
        axes.set_xlim(max(0.0, least - 0.03), 1.005)
        axes.xaxis.set_major_formatter(PERCENT)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("accuracy")
        marks = [Line2D([], [], color=FIRST, marker="o", label="accuracy, 95 % interval")]
        marks += [Line2D([], [], color=SECOND, linestyle="--", label="floor of the gate")] if floors else []
        drawn.legend(handles=marks, loc="outside upper left", ncols=2, handlelength=2.2)
        low, high = worst.proportion.interval
        caption = (
            f"{f'The {MANY_CLASSES} classes with the lowest accuracy' if many else 'Accuracy of each class'}: "
            f"lowest for {worst.name}, {worst.proportion.share:.4f} (95 % interval {low:.4f} to {high:.4f})"
            f"{f', highest floor {max(floors):.4f}' if floors else ''}."
        )
        svg = to_svg(drawn, "classes", "Accuracy per class", caption)
    return Chart(svg, caption)


def reliability_chart(bins: Sequence[Bin]) -> Chart:
    """Share of right answers over confidence, and how many predictions have that confidence."""
    with style():
        drawn = figure(400)
        top, bottom = drawn.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        top.grid()
        top.plot([0, 1], [0, 1], color=INK, linestyle="--", linewidth=1, label="perfect calibration")
        for number, item in enumerate(bins):
            low, high = item.proportion.interval
            top.plot([item.confidence] * 2, [low, high], color=FIRST, linewidth=1.4)
            label = "this model, 95 % interval" if number == 0 else None
            top.plot([item.confidence], [item.proportion.share], "o", color=FIRST, markersize=6, label=label)
        top.set(xlim=(0, 1.01), ylim=(0, 1.02), ylabel="share of right answers")
        drawn.legend(loc="outside upper left", ncols=2, handlelength=2.2)
        bottom.grid(axis="y")
        bottom.bar(
            [(item.low + item.high) / 2 for item in bins],
            [item.proportion.total for item in bins],
            width=0.09,
            color=FIRST,
        )
        bottom.set(xlabel="confidence", ylabel="examples")
        bottom.set_yscale("log")
        bottom.yaxis.set_major_locator(LogLocator(numticks=4))
        bottom.yaxis.set_minor_locator(NullLocator())
        bottom.yaxis.set_major_formatter(COUNT)
        bottom.xaxis.set_major_formatter(PERCENT)
        top.yaxis.set_major_formatter(PERCENT)
        widest = max(bins, key=lambda item: abs(item.proportion.share - item.confidence) * item.proportion.total)
        caption = (
            f"Reliability diagram: {widest.proportion.total:,} answers have a confidence of {widest.low:.1f} to"
            f" {widest.high:.1f}, {widest.confidence:.3f} on average; {widest.proportion.share:.3f} of them are right."
        )
        svg = to_svg(drawn, "reliability", "Reliability diagram", caption)
    lines = tuple(
        (
            f"{item.low:.1f} to {item.high:.1f}",
            f"{item.proportion.total:,}",
            f"{item.confidence:.4f}",
            f"{item.proportion.share:.4f}",
        )
        for item in bins
    )
    return Chart(svg, caption, ("confidence", "examples", "mean confidence", "right"), lines)


def row_chart(accuracy: Sequence[float]) -> Chart:
    """The accuracy after each row of the sequence."""
    count, last = len(accuracy), accuracy[-1]
    numbers = range(1, count + 1)
    near = next(number for number, value in zip(numbers, accuracy, strict=True) if value >= last - 0.01)
    with style():
        drawn = figure(250)
        axes = drawn.add_subplot()
        axes.grid(axis="y")
        axes.axhline(last, color=INK, linestyle="--", linewidth=1)
        axes.plot(numbers, accuracy, "o-", color=FIRST, markersize=4)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10, min_n_ticks=1))
        axes.set(xlabel="rows that were read", ylabel="accuracy", ylim=(0, 1.02), xlim=(0, count + 0.5))
        axes.yaxis.set_major_formatter(PERCENT)
        caption = (
            f"Accuracy after each of the {count} rows: {accuracy[(count - 1) // 2]:.4f} after {(count + 1) // 2},"
            f" {last:.4f} at the end. It is within 0.01 of that first after row {near}."
        )
        svg = to_svg(drawn, "rows", "Accuracy after each row", caption)
    return Chart(
        svg,
        caption,
        ("rows", "accuracy"),
        tuple((str(number), f"{value:.4f}") for number, value in zip(numbers, accuracy, strict=True)),
    )
