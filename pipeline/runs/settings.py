"""Settings of runs as flat dictionaries, and what differs between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from pipeline.config import Config, load

Flat = dict[str, Any]
"""`section.key` to a value of JSON."""

NOT_RECORDED = {"metadata", "notify"}
"""Sections that change no result, and that may hold secrets."""


def dump(config: Config, *, given: bool = False) -> dict[str, Any]:
    """The tree of settings, as a run's record has it; only those that differ from the code's defaults, if `given`."""
    return config.model_dump(mode="json", exclude=NOT_RECORDED, exclude_defaults=given)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Flat:
    """A tree of settings as `section.key` to value."""
    flat: Flat = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


@cache
def defaults() -> Flat:
    """The settings of the profile default."""
    return flatten(dump(load("default")))


def changed(settings: Mapping[str, Any], others: Mapping[str, Any]) -> Flat:
    """The values of the flat `settings` that `others` lack or have otherwise."""
    return {key: value for key, value in settings.items() if key not in others or others[key] != value}


def differences(flats: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The keys whose values are not the same everywhere, sorted, each with its values in order; None where it lacks."""
    keys = sorted({key for flat in flats for key in flat})
    rows = {key: [flat.get(key) for flat in flats] for key in keys}
    return {key: values for key, values in rows.items() if any(value != values[0] for value in values)}
