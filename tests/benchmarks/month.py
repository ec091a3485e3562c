"""A month of days: python -m tests.benchmarks.month [--days 30] [--picture FILE]

MNIST has two populations of writers. By QMNIST's labels, the even rows of its training file up to row 58,099 are
high-school students, and the odd ones employees of the census. The committed digits are cut into days: first the
census, then a growing share of students. Each morning the model that is served reads the day's digits; each night the
pipeline runs. Three ways are compared: the first model stays, each model starts from the pushed one (warm start with
replay), and each model is trained from scratch on the same days. Warm should be within 0.3 points of from scratch, in
less than a third of its training time.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from components.version_folder import version_folders
from tests.benchmarks.__main__ import MNIST, run, step_seconds
from tests.conftest import Images, read_images, write_folder

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FIRST = date(2026, 11, 1)
WAYS = {"never": "the first model stays", "warm": "warm start with replay", "scratch": "from scratch every day"}
SETTINGS = ("gates.accuracy=0.9", "gates.class_accuracy=0.8", "gates.max_drop=0.02")
SETTINGS += ("training.replay=7", "training.from_scratch_every=0")
_CALM = 10  # days before the first student

Pipeline = Callable[[Path, Sequence[str]], None]
"""Runs the pipeline in a run root with these settings."""


class Night(NamedTuple):
    """One day of one way: the accuracy of the served model on the day's digits, of the model of the night on the golden
    ones, and the seconds of its training and of the run."""

    way: str
    day: int
    accuracy: float
    golden: float
    training: float
    run: float


def share_of_students(day: int, days: int) -> float:
    """0 to 1; `day` counts from 0."""
    calm = min(_CALM, days // 3)
    return max(0.0, (day - calm + 1) / (days - calm))


def cut(days: int, size: int) -> list[Images]:
    """The digits of each day, each used once."""
    train = read_images(MNIST, "train", count=2 * days * size)
    rows = np.random.default_rng(0).permutation(len(train))
    students, census = iter(rows[rows % 2 == 0]), iter(rows[rows % 2 == 1])
    found = []
    for day in range(days):
        count = round(size * share_of_students(day, days))
        chosen = [next(students) for _ in range(count)] + [next(census) for _ in range(size - count)]
        found.append(train.take(np.random.default_rng(day).permutation(chosen)))
    return found


def write_day(folder: Path, name: str, images: Images) -> None:
    """Adds a day by one rename: four fifths to train on, a fifteenth to validate, the rest to test."""
    train, held_out = len(images) * 4 // 5, len(images) // 15
    parts = {"train": slice(0, train), "eval": slice(train, train + held_out), "test": slice(train + held_out, None)}
    whole = write_folder(folder / ".day", {split: images.take(part) for split, part in parts.items()})
    whole.rename(folder / name)


def write_golden(folder: Path, days: int, count: int) -> tuple[Images, list[str]]:
    """Writes a golden set of `count` test digits beside the days, and returns it and the settings of the data."""
    folder.mkdir(parents=True)
    test = read_images(MNIST, "test")
    chosen = test.take(slice(None, None, len(test) // count))
    write_folder(folder / "golden", {"test": chosen})
    path = f"data.path={folder}/{{YYYY}}-{{MM}}-{{DD}}"
    return chosen, [path, f"data.window={days}", f"data.golden={folder}/golden"]


def accuracy(version: str, images: Images) -> float:
    """Of the pushed model in a version folder."""
    import tensorflow as tf

    predict = tf.saved_model.load(version).signatures["predict_images"]
    batches = (images.pixels[start : start + 500] for start in range(0, len(images), 500))
    answers = [predict(images=tf.constant(batch))["class_ids"].numpy() for batch in batches]
    return float(np.mean(np.concatenate(answers) == images.labels))


def month(
    folder: Path,
    days: int,
    first: int,
    size: int,
    golden: int,
    ways: Sequence[str],
    settings: Sequence[str],
    pipeline: Pipeline,
) -> Iterator[Night]:
    """Runs the pipeline for `ways` on each night after the `first` days, which lie there at the beginning.

    Args:
        size: how many digits a day has.
        golden: how many of the test digits are the golden set.
        settings: of each run.
    """
    live, digits = folder / "days", cut(days, size)
    chosen, where = write_golden(live, days, golden)
    common = [*where, *settings]
    served: dict[str, str] = {}
    for day in range(days):
        before = {way: accuracy(version, digits[day]) for way, version in served.items()}
        write_day(live, (FIRST + timedelta(day)).isoformat(), digits[day])
        if day < first - 1:
            continue
        took: dict[str, tuple[float, float]] = {}
        for way in (way for way in ways if way != "never"):
            began = time.monotonic()
            pipeline(folder / way, [*common, f"training.warm_start={str(way == 'warm').lower()}"])
            training = step_seconds(folder / way / "metadata.db", "digit-rows").get("Trainer", 0.0)
            took[way] = training, time.monotonic() - began
            served[way] = version_folders(str(folder / way / "serving_models" / "mnist"))[0]
        if "never" in ways:
            served.setdefault("never", next(iter(served.values())))
        for way in (way for way in served if before):
            yield Night(way, day, before[way], accuracy(served[way], chosen), *took.get(way, (0.0, 0.0)))


def run_local(root: Path, settings: Sequence[str]) -> None:
    run("-m", "pipeline.run_local", "--run-root", str(root), "--set", *settings)


def mean(nights: Sequence[Night], way: str, name: str) -> float:
    return float(np.mean([getattr(night, name) for night in nights if night.way == way]))


def shade(axes: Axes, shown: Iterable[int], days: int) -> None:
    """Draws the share of students behind the curves."""
    shares = {day + 1: share_of_students(day, days) for day in shown}
    other = axes.twinx()
    other.fill_between(list(shares), list(shares.values()), color="0.9", zorder=0)
    other.set_ylabel("share of students (grey)")
    axes.set_zorder(other.get_zorder() + 1)
    axes.patch.set_visible(False)


def arguments(prog: str, description: str) -> argparse.Namespace:
    """The arguments of a month."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--first", type=int, default=7, help="days that lie there with labels at the beginning")
    parser.add_argument("--size", type=int, default=1400, help="digits of a day")
    parser.add_argument("--golden", type=int, default=2000, help="digits of the golden set")
    parser.add_argument("--picture", type=Path, help="file for the picture, .svg or .png")
    return parser.parse_args()


def draw(nights: Sequence[Night], days: int, file: Path) -> None:
    """A picture of the accuracies and of the training times, day by day."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    above, below = figure.subplots(2, sharex=True, height_ratios=(2, 1))
    for way, label in WAYS.items():
        mine = [night for night in nights if night.way == way]
        numbers = [night.day + 1 for night in mine]
        (line,) = above.plot(numbers, [night.accuracy for night in mine], marker=".", label=label)
        if way != "never":
            below.plot(numbers, [night.training for night in mine], marker=".", color=line.get_color(), label=label)
    shade(above, range(days), days)
    above.set_ylabel("accuracy of the served model\non the day's digits")
    above.legend(loc="lower left")
    below.set_ylabel("training, seconds")
    below.set_xlabel("day")
    below.set_ylim(bottom=0)
    figure.savefig(file)


def main() -> None:
    args = arguments("python -m tests.benchmarks.month", __doc__.split("\n\n")[1])
    print("| day | students | " + " | ".join(f"{way}: day, golden" for way in WAYS) + " | training: warm, scratch |")
    print("| --- " * (len(WAYS) + 3) + "|")
    nights: list[Night] = []
    with tempfile.TemporaryDirectory() as folder:
        sizes = (args.days, args.first, args.size, args.golden)
        for night in month(Path(folder), *sizes, list(WAYS), SETTINGS, run_local):
            nights.append(night)
            found = {other.way: other for other in nights if other.day == night.day}
            if len(found) == len(WAYS):
                cells = [f"{found[way].accuracy:.4f}, {found[way].golden:.4f}" for way in WAYS]
                times = ", ".join(f"{found[way].training:.1f} s" for way in ("warm", "scratch"))
                share = share_of_students(night.day, args.days)
                print(f"| {night.day + 1} | {share:.2f} | {' | '.join(cells)} | {times} |", flush=True)
                if args.picture:
                    draw(nights, args.days, args.picture)
    print(
        "\n| way | on the day's digits | on the golden digits | training | whole run |\n| --- | --- | --- | --- | --- |"
    )
    for way, label in WAYS.items():
        figures = " | ".join(f"{mean(nights, way, name):.4f}" for name in ("accuracy", "golden"))
        times = " | ".join(f"{mean(nights, way, name):.1f} s" for name in ("training", "run"))
        print(f"| {label} | {figures} | {times if way != 'never' else '– | –'} |")
    warm, scratch = (mean(nights, way, "accuracy") for way in ("warm", "scratch"))
    ratio = mean(nights, "warm", "training") / mean(nights, "scratch", "training")
    print(f"\nWarm is {100 * (scratch - warm):+.2f} points below from scratch, in {ratio:.2f} of its training time.")


if __name__ == "__main__":
    main()
