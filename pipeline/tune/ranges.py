"""What the search varies: the values of `--set-range`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from data.errors import SettingsError
from pipeline.config import Config, parse_value, with_overrides
from pipeline.definition import STEP_OF_SECTION

if TYPE_CHECKING:
    import optuna

SECTIONS = tuple(section for section, step in STEP_OF_SECTION.items() if step == "Trainer")
FIXED = {
    "training.seed": "a seed is luck: use python -m pipeline.seeds for the profile that was found",
    "training.replicas": "TensorFlow takes the number of devices once, when it starts: use --set",
    "training.validation_split": "trials must be judged on the same examples: use --set",
}
"""Settings of the Trainer that no search can vary, and why."""


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
    if key in FIXED:
        raise SettingsError(f"--set-range {text}: {FIXED[key]}.")
    low, dots, high = values.partition("..")
    found = [parse_value(part) for part in ((low, high) if dots else values.split(","))]
    plain = all(isinstance(value, str | bool | int | float) for value in found)
    if not dots and plain and len(set(found)) > 1:
        return Range(key, choices=tuple(dict.fromkeys(found)))
    if dots and all(type(value) in (int, float) for value in found) and found[0] < found[1]:
        return Range(key, *found)
    raise SettingsError(
        f"--set-range {text}: it must be section.key=LOW..HIGH, such as training.learning_rate=1e-3..3e-2,"
        " or section.key=one,another, such as model.cell=lstm,gru."
    )


def check_ranges(ranges: Sequence[Range], config: Config) -> tuple[Range, ...]:
    """The ranges, whole numbers only where the setting is one, if both ends of each are valid in `config`.

    Raises:
        SettingsError: a setting that does not exist, a value out of its bounds, or a setting that is varied twice.
    """
    keys = [found.key for found in ranges]
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise SettingsError(f"--set-range varies {twice[0]} twice: give it one range.")
    for found in ranges:
        for end in found.ends:
            try:
                with_overrides(config, [override(found.key, end)])
            except SettingsError as error:
                raise SettingsError(str(error).replace("--set ", "--set-range ")) from None
    return tuple(
        replace(found, low=float(found.low), high=float(found.high))
        if isinstance(value_of(config, found.key), float)
        else found
        for found in ranges
    )


def override(key: str, value: Any) -> str:
    """As `pipeline.config.with_overrides` takes it."""
    return f"{key}={json.dumps(value)}"


def value_of(config: Config, key: str) -> Any:
    """The setting `key` of `config`."""
    found: Any = config
    for name in key.split("."):
        found = getattr(found, name)
    return found
