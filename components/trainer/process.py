"""A process of its own for the training: its log records and its errors arrive here, and it ends with this process."""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import signal
import sys
from collections.abc import Callable
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any, cast

from data.errors import UserError

_LAST_SECONDS = 60
"""How long the process may take to end after its last message."""


def run_in_process(function: Callable[..., None], *arguments: Any) -> None:
    """Calls `function` in a process of its own, relays its log records, and raises what it raises.

    A process can join a cluster only before its first use of TensorFlow, and the chief's data steps have used it.
    The new process also ignores signals while it waits for the other hosts; it ends with this one.

    Raises:
        UserError: the process was killed.
    """
    spawn = multiprocessing.get_context("spawn")
    receiver, sender = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_run_and_send, args=(sender, function, arguments), daemon=True)
    process.start()
    sender.close()
    try:
        while isinstance(message := receiver.recv(), logging.LogRecord):
            logger = logging.getLogger(message.name)
            if logger.isEnabledFor(message.levelno):
                logger.handle(message)
        process.join(_LAST_SECONDS)
    except EOFError:
        process.join(_LAST_SECONDS)
        raise UserError(f"The training process ended with code {process.exitcode} and without a message.") from None
    finally:
        process.kill()
    if message is not None:
        raise message


def _run_and_send(sender: Connection, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to both processes; the parent handles it
    end_with_parent()
    records = SimpleNamespace(put_nowait=sender.send)  # a QueueHandler reduces a record to what can be pickled
    logging.getLogger().handlers = [QueueHandler(cast(Any, records))]
    logging.getLogger().setLevel(logging.INFO)
    logging.getLogger("components").setLevel(logging.DEBUG)
    outcome: Exception | None = None
    try:
        function(*arguments)
    except Exception as error:
        # A traceback cannot be sent. The root logger's records go to the log file only.
        logging.getLogger().exception("The training process failed.")
        outcome = error if isinstance(error, UserError) else RuntimeError(f"{type(error).__name__}: {error}")
    logging.getLogger().handlers = []
    sender.send(outcome)


def end_with_parent() -> None:
    """Asks Linux to kill this process when its parent ends, and ends it if that has happened."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl:
        prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    parent = multiprocessing.parent_process()
    if parent and not parent.is_alive():
        sys.exit(1)
