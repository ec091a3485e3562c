"""The base of all settings, and the environment's variables in their values."""

from __future__ import annotations

import os
import re

from pydantic import BaseModel, ConfigDict

from data.errors import SettingsError


class Section(BaseModel):
    """A section of settings: frozen, without unknown keys, without silent conversions, without NaN and infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def fill_in(text: str, setting: str) -> str:
    """Replaces `$NAME` and `${NAME}` in the value of `setting` by variables of the environment.

    Raises:
        SettingsError: a variable that is not set.
    """
    for name in re.findall(r"\$(\w+|\{\w+\})", text):
        if name.strip("{}") not in os.environ:
            raise SettingsError(f"{setting} names ${name.strip('{}')}, which is not set in the environment.")
    return os.path.expandvars(text)
