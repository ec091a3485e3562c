"""What the search varies: the values of `--set-range`."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from data.errors import SettingsError
from pipeline.config import Config, load
from pipeline.definition import STEP_OF_SECTION

if TYPE_CHECKING:
    import optuna

SECTIONS = tuple(section for section, step in STEP_OF_SECTION.items() if step == "Trainer")


@dataclass(frozen=True)
class Range:
    """One setting: every value from `low` to `high`, or one of `choices`.

    Two whole numbers give whole numbers. A range over a factor of 10 or more is searched by its logarithm.
    """

    key: str
    low: float = 0
    high: float = 0
    choices: tuple[Any, ...] = ()

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values that must be valid settings, so that all are."""
        return self.choices or (self.low, self.high)

    @property
    def log(self) -> bool:
        return self.low > 0 and self.high >= 10 * self.low

    def suggest(self, trial: optuna.Trial) -> Any:
        """The value of this setting in `trial`."""
        if self.choices:
            return trial.suggest_categorical(self.key, self.choices)
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(self.key, self.low, self.high, log=self.log)
        return trial.suggest_float(self.key, self.low, self.high, log=self.log)

    def holds(self, value: Any) -> bool:
        return value in self.choices if self.choices else self.low <= value <= self.high


def parse_range(text: str) -> Range:
    """`section.key=LOW..HIGH`, or `section.key=one,another`.

    Raises:
        SettingsError: text of another form, or a section that is not the Trainer's.
    """
    key, _, values = text.partition("=")
    key = key.strip()
    if key.split(".")[0] not in SECTIONS:
        raise SettingsError(f"--set-range {text}: the search varies settings of {', '.join(SECTIONS)} only.")
    low, dots, high = values.partition("..")
    found = [_value(part) for part in ((low, high) if dots else values.split(","))]
    if not dots and len(set(found)) > 1:
        return Range(key, choices=tuple(found))
    if dots and all(isinstance(value, int | float) for value in found) and found[0] < found[1]:
        return Range(key, *found)
    raise SettingsError(
        f"--set-range {text}: it must be section.key=LOW..HIGH, such as training.learning_rate=1e-3..3e-2,"
        " or section.key=one,another, such as model.cell=lstm,gru."
    )


def check_ranges(ranges: Sequence[Range], profile: str, overrides: Sequence[str]) -> Config:
    """The profile's own settings, if the ends of each range are valid in it.

    Raises:
        SettingsError: a setting that does not exist, a value out of its bounds, or a setting that is varied twice.
    """
    keys = [found.key for found in ranges]
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise SettingsError(f"--set-range varies {twice[0]} twice: give it one range.")
    for found in ranges:
        for end in found.ends:
            load(profile, [*overrides, override(found.key, end)])
    return load(profile, overrides)


def override(key: str, value: Any) -> str:
    """As `pipeline.config.load` takes it."""
    return f"{key}={str(value).lower() if isinstance(value, bool) else value!r}"


def value_of(config: Config, key: str) -> Any:
    """The setting `key` of `config`."""
    found: Any = config
    for name in key.split("."):
        found = getattr(found, name)
    return found


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()
