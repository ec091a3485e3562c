"""Settings of runs as flat dictionaries, and what differs between them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from pipeline.config import load

Flat = dict[str, Any]
"""`section.key` to a value of JSON."""


_LEFT_OUT = {"metadata", "notify"}
"""Sections that change no result, and that may hold secrets."""


def flatten(settings: Mapping[str, Any]) -> Flat:
    """A tree of settings as `section.key` to value, without the sections that change no result."""
    return _flat({key: value for key, value in settings.items() if key not in _LEFT_OUT}, "")


def _flat(tree: Mapping[str, Any], prefix: str) -> Flat:
    flat: Flat = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


@cache
def defaults() -> Flat:
    """The settings of the profile default."""
    return flatten(json.loads(load("default").model_dump_json()))


def not_default(settings: Mapping[str, Any]) -> Flat:
    """The settings of a run that differ from the profile default."""
    return {key: value for key, value in flatten(settings).items() if key not in defaults() or defaults()[key] != value}


def differences(flats: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The keys whose values are not the same everywhere, sorted, each with its values in order; None where it lacks."""
    keys = sorted({key for flat in flats for key in flat})
    rows = {key: [flat.get(key) for flat in flats] for key in keys}
    return {key: values for key, values in rows.items() if any(value != values[0] for value in values)}
