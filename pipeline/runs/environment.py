"""Environment variables in settings."""

from __future__ import annotations

import os
import re

from data.errors import SettingsError


def fill_in(text: str, setting: str) -> str:
    """Replaces `$NAME` and `${NAME}` in the value of `setting` by variables of the environment.

    Raises:
        SettingsError: a variable that is not set.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name not in os.environ:
            raise SettingsError(f"{setting} names ${name}, which is not set in the environment.")
        return os.environ[name]

    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", value, text)
