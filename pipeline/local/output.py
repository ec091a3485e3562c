"""Where the output goes: everything into the run's log, and the screen for what the user reads."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO, cast

from data.process import Screen, lead_nowhere


@contextmanager
def redirect_output(log: Path, and_screen: bool) -> Iterator[TextIO]:
    """Sends everything that this process and its libraries write, C++ included, to `log`; yields the screen.

    With `and_screen` it goes to both.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    target, tee = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), None
    if and_screen:
        # -i: Ctrl-C does not end it. -p: it writes the log also after the screen's reader has gone.
        tee = subprocess.Popen(["tee", "-a", "-i", "-p", str(log)], stdin=subprocess.PIPE, stdout=kept[1])
        os.close(target)
        assert tee.stdin is not None
        target = os.dup(tee.stdin.fileno())
        tee.stdin.close()
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)
    try:
        with open(os.dup(kept[0]), "w", encoding="utf-8", errors="replace") as screen:
            # The run goes on without it if its reader goes away, as in `… | head`: the log has everything.
            yield cast(TextIO, Screen(screen))
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:  # the disk of the log is full
                lead_nowhere(stream)
                stream.flush()
        for number, original in enumerate(kept, start=1):
            os.dup2(original, number)
            os.close(original)
        if tee is not None:
            tee.wait()


@contextmanager
def log_to_output() -> Iterator[None]:
    """Sends every library's log records to the process's error output, which `redirect_output` sends to the log."""
    import absl.logging

    root, absl_logger = logging.getLogger(), absl.logging.get_absl_logger()
    kept = root.handlers[:], root.level, absl_logger.handlers[:], absl_logger.propagate
    with open(2, "w", closefd=False, encoding="utf-8", errors="replace") as stream:
        handler = logging.StreamHandler(stream)
        handler.setLevel(logging.INFO)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname).1s %(name)s: %(message)s"))
        # The libraries' own handlers would write each record twice; the progress reporter stays.
        root.handlers = [handler, *(h for h in root.handlers if type(h).__module__.startswith("pipeline."))]
        root.setLevel(logging.INFO)
        logging.getLogger("components").setLevel(logging.DEBUG)
        absl_logger.handlers, absl_logger.propagate = [], True
        absl.logging.set_verbosity(absl.logging.INFO)
        try:
            yield
        finally:
            # The restored list still has the progress reporter; `active` removes it.
            root.handlers, _, absl_logger.handlers, absl_logger.propagate = kept
            root.setLevel(kept[1])
