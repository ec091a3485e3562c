"""What a person sees: the steps as they run, the training as it learns, and a table at the end."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.spinner import Spinner
from rich.text import Text

if TYPE_CHECKING:
    from pipeline.history import Evaluation, InfraCheck, Run

# What LocalDagRunner logs as it goes; there is no other hook.
STARTED = re.compile(r"Component (\S+) is running\.")
FINISHED = re.compile(r"Component (\S+) is finished\.")
CACHED = re.compile(r"A cached execution \d+ is used\.")


class Account(logging.Handler):
    """A log handler that turns what TFX and the Trainer log into a live account on `console`.

    What has ended stays, line by line; on a terminal the running step is redrawn below, with a bar while it trains.
    `step` is the one that runs, `broken` the one in which an exception ended the run.
    """

    def __init__(self, console: Console, live: bool) -> None:
        super().__init__(logging.DEBUG)
        self.step: str | None = None
        self.broken = ""
        self._console = console
        self._began = time.monotonic()
        self._cached = False
        self._spinner = Spinner("dots")
        self._bar = Progress(
            TextColumn("    epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(bar_width=30),
            TextColumn("loss {task.fields[loss]:.4f}  accuracy {task.fields[accuracy]:.4f}"),
            console=console,
        )
        self._task = self._bar.add_task("", total=None, visible=False, epoch=0, epochs=0, loss=0.0, accuracy=0.0)
        # The process's own output is a log file by now; Live need not catch it.
        options: dict[str, Any] = {"transient": True, "redirect_stdout": False, "redirect_stderr": False}
        self._live = Live(console=console, get_renderable=self._render, **options) if live else None

    @contextmanager
    def shown(self) -> Iterator[Account]:
        """Attaches the handler to the root logger, and draws while inside."""
        logging.getLogger().addHandler(self)
        try:
            with self._live or nullcontext():
                try:
                    yield self
                except BaseException:
                    self.broken = self.step or "start-up"
                    self.end("stopped")
                    raise
        finally:
            logging.getLogger().removeHandler(self)

    def begin(self, step: str) -> None:
        """Notes that `step` runs now."""
        self.step, self._began, self._cached = step, time.monotonic(), False

    def end(self, state: str) -> None:
        """Notes how the running step ended."""
        if self.step is None:
            return
        self._console.print(_line(self.step, state, time.monotonic() - self._began))
        self.step = None
        self._bar.update(self._task, visible=False)

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if hasattr(record, "progress"):
            self._train(record.progress)
        elif record.name.startswith("components.") and record.levelno >= logging.INFO:
            self._console.print(f"    {message}")
        elif CACHED.match(message):
            self._cached = True
        elif started := STARTED.match(message):
            self.begin(started[1])
        elif FINISHED.match(message):
            self.end("cached" if self._cached else "done")

    def _train(self, progress: dict[str, Any]) -> None:
        self._bar.update(
            self._task,
            visible=True,
            total=progress["steps"],
            completed=progress["step"],
            **{key: progress[key] for key in ("epoch", "epochs", "loss", "accuracy")},
        )

    def _render(self) -> Group:
        if self.step is None:
            return Group()
        self._spinner.update(text=f"{self.step:<18} running  {time.monotonic() - self._began:6.1f} s")
        return Group(self._spinner, self._bar)


def _line(step: str, state: str, seconds: float) -> Text:
    mark, style = {"done": ("✓", "green"), "cached": ("=", "cyan")}.get(state, ("✗", "red"))
    return Text.assemble((mark, style), f" {step:<18} ", (f"{state:<8}", style), f" {seconds:6.1f} s")


def summary(console: Console, run: Run, log: Path, before: set[int], now: set[int]) -> None:
    """Prints the final table of a run; `before` and `now` are the versions under TF Serving's base path."""
    rows: list[tuple[str, Text | str]] = []
    if run.evaluation is not None:
        rows += _evaluation(run.evaluation)
    if run.infra is not None and (run.infra.blessed or (run.evaluation and run.evaluation.blessed)):
        rows += [("Infra check", _infra(run.infra)), ("", run.infra.report)]
    if run.pushed_to:
        rows.append(("Pushed", _pushed(run.pushed_to, before, now)))
    elif run.evaluation is not None:
        rows.append(("Pushed", Text("nothing", "bold red")))
    if run.tensorboard:
        rows.append(("TensorBoard", f"tensorboard --logdir {run.tensorboard}"))
    rows.append(("Log", str(log)))
    console.print()
    if run.fully_cached:
        console.print("Nothing has changed: every step came from the cache.\n")
    for name, value in rows:
        console.print(Text.assemble((f"{name:<18}", "bold"), " ", value))


def _pushed(destination: str, before: set[int], now: set[int]) -> str:
    version = int(Path(destination).name)
    if version not in now:
        return f"version {version} by an earlier run, but {destination} is gone; start with a new --run-root"
    text = f"version {version}{' by an earlier run' if version in before else ''} to {destination}"
    return text if version == max(now) else f"{text}; version {max(now)} is newer"


def _infra(infra: InfraCheck) -> Text:
    if infra.blessed:
        return Text("passed: served and asked over gRPC", "green")
    return Text(f"refused: {infra.reason}", "bold red")


def _evaluation(evaluation: Evaluation) -> Iterator[tuple[str, Text | str]]:
    label, worst = evaluation.worst_class
    yield "Test accuracy", f"{evaluation.accuracy:.4f} of {evaluation.examples:,} examples"
    yield "Worst digit", f"{label}, {worst:.4f}"
    yield "Cross-entropy", f"{evaluation.cross_entropy:.4f}"
    yield "Calibration error", f"{evaluation.calibration_error:.4f}"
    if evaluation.baseline_accuracy is None:
        yield "Baseline", "none: no other model has been blessed yet"
    else:
        which = f"version {evaluation.baseline_version}" if evaluation.baseline_version else "a blessed model"
        difference = evaluation.accuracy - evaluation.baseline_accuracy
        yield "Baseline", f"{which}: {evaluation.baseline_accuracy:.4f}, this model {difference:+.4f}"
    blessed = evaluation.blessed
    yield "Gates", Text("passed: blessed", "green") if blessed else Text("refused: not blessed", "bold red")
    for gate in evaluation.gates:
        mark = ("✓", "green") if gate.passed else ("✗", "bold red")
        yield "", Text.assemble(mark, f" {gate.name}: {gate.value:.4f}, at least {gate.bar:.4f}")
