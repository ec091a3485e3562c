"""Processes that start at once: a server imports TFX once, and each process is a fork of it."""

from __future__ import annotations

import logging
import multiprocessing
import os
import runpy
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
# This module comes first: TFX imports IPython, which puts a folder with another package `tests` on the path.
_CONTEXT.set_forkserver_preload([__name__, "tensorflow_model_analysis", "tfx.v1"])


def start(
    log: Path, function: Callable[..., Any], *arguments: Any, environment: Mapping[str, str] | None = None
) -> ForkServerProcess:
    """A process that calls the function, which may return an exit code. What it prints is added to `log`."""
    process = _CONTEXT.Process(target=_call, args=(str(log), dict(environment or os.environ), function, arguments))
    process.start()
    return process


def python(module: str, arguments: Sequence[str]) -> None:
    """Does what `python -m module arguments` does."""
    sys.argv = ["", *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _call(log: str, environment: dict[str, str], function: Callable[..., Any], arguments: Sequence[Any]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):
        os.dup2(file, number)
    logging.basicConfig(level=logging.WARNING, handlers=[], force=True)  # TFX's import gave the root logger a handler
    sys.exit(function(*arguments))
