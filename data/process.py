"""What a command does with its process: signals, output streams that may go away, libraries that write too much."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, TextIO, cast


class Interruption:
    """Whether SIGINT or SIGTERM has arrived. A library may catch or wrap the KeyboardInterrupt that it raises."""

    arrived = False

    def receive(self, number: int, frame: FrameType | None) -> None:
        """The signal handler. A second signal does not disturb the cleaning up after the first."""
        if not self.arrived:
            self.arrived = True
            raise KeyboardInterrupt

    def check(self) -> None:
        """Raises KeyboardInterrupt if a signal has arrived."""
        if self.arrived:
            raise KeyboardInterrupt


@contextlib.contextmanager
def interruptible() -> Iterator[Interruption]:
    """Lets SIGINT and SIGTERM raise KeyboardInterrupt, also where the caller ignores SIGINT, as `nohup … &` does.

    An exception that follows from a signal becomes a KeyboardInterrupt. After a signal the process ends, and ignores
    further ones until then.
    """
    interruption = Interruption()
    previous = {number: signal.signal(number, interruption.receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interruption
        interruption.check()
    except Exception as error:
        if interruption.arrived:
            raise KeyboardInterrupt from error
        raise
    finally:
        for number, handler in previous.items():
            signal.signal(number, signal.SIG_IGN if interruption.arrived else handler)


class Screen:
    """An output stream. The build goes on without it if it cannot be written any more, as in `… | head -1`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._or_nowhere():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._or_nowhere():
            self._stream.flush()

    @contextlib.contextmanager
    def _or_nowhere(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            lead_nowhere(self._stream)


def lead_nowhere(stream: TextIO) -> None:
    """Sends what is still written to the stream's file descriptor to nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


@contextlib.contextmanager
def screens() -> Iterator[None]:
    """Makes both output streams a `Screen`. A process may also be started without them."""
    out, err = (cast(TextIO, Screen(stream)) if stream else stream for stream in (sys.stdout, sys.stderr))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            yield
        finally:
            for stream in (out, err):
                if stream:
                    stream.flush()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing reaches the process's standard error, also nothing from C++.

    TensorFlow 2.21 writes some lines during its import whatever TF_CPP_MIN_LOG_LEVEL says.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """The garbage collector does not visit what the block imports: so loading TFX takes half the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def remove_older(folder: Path, pattern: str, seconds: float) -> None:
    """Removes what killed processes left in `folder`: what matches the glob `pattern` and is older than that.

    What cannot be removed stays: cleaning up never fails a step.
    """
    for entry in folder.glob(pattern):
        with contextlib.suppress(OSError):
            if time.time() - entry.stat().st_mtime > seconds:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
