"""Ctrl-C and SIGTERM."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


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


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Lets SIGINT and SIGTERM raise KeyboardInterrupt, also where the caller ignores SIGINT, as `nohup … &` does.

    An exception that follows from a signal becomes a KeyboardInterrupt.
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
            signal.signal(number, handler)
