"""The closed loop: make month, or python -m tests.benchmarks.loop [--picture FILE]

The month of tests.benchmarks.month, with callers. A stand-in serves the pushed model behind the proxy of
serving.request_log. Each day 1,400 digits are sent, one in a request. Each night serving.monitor reads the day's log.
Labels come late: once a week, and when the monitor asks for a training (exit code 5). Then the labelled days are there,
and the pipeline follows the pushed model with a warm start. Nothing knows the shift in advance.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from components.version_folder import version_folders
from serving.client import Client
from serving.launch import ModelServer, model_server, wait_until_available
from tests.benchmarks.__main__ import ROOT
from tests.benchmarks.month import (
    FIRST,
    SETTINGS,
    arguments,
    cut,
    run_local,
    shade,
    share_of_students,
    write_day,
    write_golden,
)
from tests.conftest import Images
from tests.serving.request_logs import proxy

WEEK = 7


class Day(NamedTuple):
    """What was known in the night, the accuracy by the labels that came later, and why there was a training."""

    day: int
    version: str
    estimate: float
    interval: tuple[float, float]
    true: float
    verdict: str
    training: str


def call(server: ModelServer, log: Path, images: Images, name: str) -> None:
    """Sends the digits of a day through the proxy, one in a request, each with an id."""
    with proxy(server.address, log) as running:
        with Client(running.address) as client:
            for number in range(len(images)):
                client.predict(images.pixels[number : number + 1], metadata=[("x-request-id", f"{name}-{number}")])
        running.stop()


def watch(log: Path, base: Path, labels: Path) -> tuple[int, dict]:
    """The exit code of the monitor, and what it found about the version that answered."""
    command = [sys.executable, "-m", "serving.monitor", str(log), "--model", str(base), "--labels", str(labels)]
    done = subprocess.run([*command, "--json"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 5):
        raise SystemExit(f"The monitor ended with {done.returncode}.")
    return done.returncode, json.loads(done.stdout)["versions"][-1]


def loop(folder: Path, days: int, first: int, size: int, golden: int, settings: Sequence[str]) -> Iterator[Day]:
    """The days after the `first` ones, which lie there with their labels at the beginning."""
    live, root, digits = folder / "days", folder / "root", cut(days, size)
    _, where = write_golden(live, days, golden)
    common = [*where, *settings, "training.warm_start=true"]
    names = [(FIRST + timedelta(day)).isoformat() for day in range(days)]
    for day in range(first):
        write_day(live, names[day], digits[day])
    run_local(root, common)
    base = root / "serving_models" / "mnist"
    (folder / "logs").mkdir()
    flags = ["--model_name=mnist", f"--model_base_path={base}"]
    with model_server(flags, folder / "server.log", real=False) as server:
        unlabelled: list[int] = []
        for day in range(first, days):
            version = Path(version_folders(str(base))[0]).name
            wait_until_available(server, "mnist", int(version))
            log, labels = folder / "logs" / names[day], folder / "labels.csv"
            call(server, log, digits[day], names[day])
            lines = (f"{names[day]}-{number},{label}\n" for number, label in enumerate(digits[day].labels))
            labels.write_text("id,label\n" + "".join(lines))
            code, found = watch(log, base, labels)
            unlabelled.append(day)
            why = "alarm" if code == 5 else "week" if len(unlabelled) == WEEK else ""
            if why:
                for labelled in unlabelled:
                    write_day(live, names[labelled], digits[labelled])
                unlabelled = []
                run_local(root, common)
            estimated, low, high = found["estimated_accuracy"], *found["interval"]
            true = found["true_accuracy"]["accuracy"]
            yield Day(day, version, estimated, (low, high), true, found["verdict"], why)


def draw(days: Sequence[Day], count: int, file: Path) -> None:
    """A picture of what was estimated, what was true, and when a model was trained."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    numbers = [day.day + 1 for day in days]
    low, high = zip(*(day.interval for day in days), strict=True)
    axes.fill_between(numbers, low, high, alpha=0.3, label="95 % interval of the estimate")
    axes.plot(numbers, [day.estimate for day in days], label="estimated that night, without labels")
    axes.plot(numbers, [day.true for day in days], "k.", label="true, by the labels that came later")
    for why, style in (("alarm", "-"), ("week", ":")):
        nights = [day.day + 1.5 for day in days if day.training == why]
        for index, night in enumerate(nights):
            axes.axvline(night, linestyle=style, color="0.5", label=f"training: {why}" if index == 0 else None)
    shade(axes, [day.day for day in days], count)
    axes.set_xlabel("day")
    axes.set_ylabel("accuracy")
    axes.legend(loc="lower left")
    figure.savefig(file)


def main() -> None:
    args = arguments("python -m tests.benchmarks.loop", __doc__.split("\n\n")[1])
    print("| day | students | version | estimated | true | monitor | training |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    days: list[Day] = []
    with tempfile.TemporaryDirectory() as folder:
        for day in loop(Path(folder), args.days, args.first, args.size, args.golden, SETTINGS):
            days.append(day)
            low, high = day.interval
            share = share_of_students(day.day, args.days)
            print(
                f"| {day.day + 1} | {share:.2f} | {day.version} | {day.estimate:.4f} ({low:.4f} to {high:.4f})"
                f" | {day.true:.4f} | {day.verdict} | {day.training} |",
                flush=True,
            )
            if args.picture:
                draw(days, args.days, args.picture)
    inside = sum(day.interval[0] <= day.true <= day.interval[1] for day in days)
    print(f"\nOn {inside} of {len(days)} days the true accuracy lies in the interval of the estimate.")


if __name__ == "__main__":
    main()
