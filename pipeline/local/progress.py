"""The progress of a run on the screen: each step, and each epoch of the training."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.spinner import Spinner
from rich.text import Text


class ProgressReporter(logging.Handler):
    """Prints the steps on `console`: the runner reports them, and what they log arrives as in any handler.

    A finished step stays as a line. On a terminal, the running step is redrawn below it, with a bar while it trains.

    Attributes:
        step: the step that runs.
        failed_step: the step in which an exception ended the run.
    """

    def __init__(self, console: Console, live: bool) -> None:
        super().__init__(logging.DEBUG)
        self.step: str | None = None
        self.failed_step = ""
        self._console = console
        self._start = time.monotonic()
        self._check: Callable[[], None] = lambda: None
        self._spinner = Spinner("dots")
        self._bar = Progress(
            TextColumn("    epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(bar_width=30),
            TextColumn("loss {task.fields[loss]:.4f}  accuracy {task.fields[accuracy]:.4f}"),
            console=console,
        )
        self._task = self._bar.add_task("", total=None, visible=False, epoch=0, epochs=0, loss=0.0, accuracy=0.0)
        # The process's own output goes to the log file; Live does not have to capture it.
        options: dict[str, Any] = {"transient": True, "redirect_stdout": False, "redirect_stderr": False}
        self._live = Live(console=console, get_renderable=self._render, **options) if live else None

    @contextmanager
    def active(self, check: Callable[[], None]) -> Iterator[ProgressReporter]:
        """Attaches the handler to the root logger, and draws while inside.

        `check` is called at the end of each step and while it trains; what it raises ends the run.
        """
        self._check = check
        logging.getLogger().addHandler(self)
        try:
            with self._live or nullcontext():
                try:
                    yield self
                except BaseException:
                    self.failed_step = self.step or "start-up"
                    self.end("stopped")
                    raise
        finally:
            logging.getLogger().removeHandler(self)

    def begin(self, step: str) -> None:
        """Reports that `step` starts."""
        self.step, self._start = step, time.monotonic()

    def end(self, state: str) -> None:
        """Reports how the running step ended."""
        if self.step is None:
            return
        if state != "stopped":
            self._check()
        mark, style = {"done": ("✓", "green"), "cached": ("=", "cyan")}.get(state, ("✗", "red"))
        seconds = f" {time.monotonic() - self._start:6.1f} s"
        self._console.print(Text.assemble((mark, style), f" {self.step:<18} ", (f"{state:<8}", style), seconds))
        self.step = None
        self._bar.update(self._task, visible=False)

    def note(self, text: str) -> None:
        """Prints a line that belongs to the step before it or after it."""
        self._console.print(f"    {text}")

    def emit(self, record: logging.LogRecord) -> None:
        if progress := getattr(record, "progress", None):
            self._check()
            shown = {key: progress[key] for key in ("epoch", "epochs", "loss", "accuracy")}
            self._bar.update(self._task, visible=True, total=progress["steps"], completed=progress["step"], **shown)
        elif record.name.startswith("components.") and record.levelno >= logging.INFO:
            self.note(record.getMessage())

    def _render(self) -> Group:
        if self.step is None:
            return Group()
        self._spinner.update(text=f"{self.step:<18} running  {time.monotonic() - self._start:6.1f} s")
        return Group(self._spinner, self._bar)
