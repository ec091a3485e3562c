"""Processes that start at once: a server imports TFX once, and each process is a fork of it."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import runpy
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
# This module comes first: TFX imports IPython, which puts a folder with another package `tests` on the path.
_CONTEXT.set_forkserver_preload([__name__, "tests.preload"])


def start(
    log: Path, function: Callable[..., Any], *arguments: Any, environment: Mapping[str, str] | None = None
) -> ForkServerProcess:
    """A process that calls the function, which may return an exit code. What it prints is added to `log`.

    Only TFX is imported already: the project's modules come from the path of the process.
    """
    with chdir(Path(__file__).parents[1]):  # the server finds `tests` in its own folder
        forkserver.ensure_running()
    process = _CONTEXT.Process(target=_call, args=(str(log), dict(environment or os.environ), function, arguments))
    process.start()
    return process


def run(function: Callable[..., Any], *arguments: Any, environment: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Calls the function in such a process: its exit code, -9 after SIGKILL, and what it printed."""
    with tempfile.NamedTemporaryFile() as log:
        process = start(Path(log.name), function, *arguments, environment=environment)
        process.join(600)
        assert process.exitcode is not None, log.read().decode()
        return process.exitcode, log.read().decode()


def python(arguments: Sequence[str], folder: str = "") -> None:
    """Does what `python arguments` does in that folder: -m MODULE, -c CODE or a script, and their arguments."""
    if folder:
        os.chdir(folder)
        sys.path.insert(0, folder)
    first, *rest = arguments
    if first == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif first == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(rest[0], {"__name__": "__main__"})
    else:
        sys.argv = [first, *rest]
        runpy.run_path(first, run_name="__main__")


def _call(log: str, environment: dict[str, str], function: Callable[..., Any], arguments: Sequence[Any]) -> None:
    gc.enable()
    os.environ.clear()
    os.environ.update(environment)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):
        os.dup2(file, number)
    logging.basicConfig(level=logging.WARNING, handlers=[], force=True)  # TFX's import gave the root logger a handler
    sys.exit(function(*arguments))
