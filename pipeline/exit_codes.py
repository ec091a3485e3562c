"""The exit codes; `python -m pipeline.run_local --help` lists them."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from components.data_validation import DataGateError
from data.errors import SettingsError, causes

PUSHED, FAILED, WRONG_USE, MODEL_REFUSED, DATA_REFUSED, INTERRUPTED = 0, 1, 2, 3, 4, 130


def leave(code: int, at_once: bool = False) -> NoReturn:
    """Ends the process; `at_once` also after an interruption, without threads: one of Beam's may wait without end."""
    if code == INTERRUPTED or at_once:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def exit_code(error: BaseException) -> int:
    """The exit code of a run that ended with `error`."""
    for cause in causes(error):
        if isinstance(cause, DataGateError):
            return DATA_REFUSED
        if isinstance(cause, SettingsError):
            return WRONG_USE
    return FAILED
