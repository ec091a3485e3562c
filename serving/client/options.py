"""The options of a call: its timeout, its metadata, and how many images and requests at a time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from serving.errors import ConfigError

CallMetadata = Sequence[tuple[str, str | bytes]]
"""Keys and values of gRPC: a text of printable ASCII, or bytes for a key that ends with -bin."""

_MAX_TIMEOUT = 86_400.0  # gRPC takes a very large timeout for one that is over


def check_timeout(timeout: Any) -> float:
    """Returns `timeout` if it is a number of seconds that can be a deadline.

    Raises:
        ConfigError: it is not a number, not above 0, or above one day. No call is without a deadline.
    """
    number = isinstance(timeout, (int, float, np.integer, np.floating)) and not isinstance(timeout, bool)
    if not number or not 0 < timeout <= _MAX_TIMEOUT:
        raise ConfigError(f"timeout = {timeout!r} must be a number of seconds above 0, at most {_MAX_TIMEOUT:.0f}.")
    return float(timeout)


def check_metadata(metadata: CallMetadata) -> tuple[tuple[str, str | bytes], ...]:
    """Returns the pairs of `metadata` if gRPC can send them.

    Raises:
        ConfigError: they are not pairs, or a key or a value is not valid.
    """
    try:
        pairs = tuple((key, value) for key, value in metadata)
    except (TypeError, ValueError):
        raise ConfigError(
            "metadata must be pairs of a key and a value, such as [('authorization', 'Bearer …')]."
        ) from None
    for key, value in pairs:
        if not isinstance(key, str) or not re.fullmatch(r"[0-9a-z_.-]+", key):
            raise ConfigError(f"The metadata key {key!r} must have only the characters 0-9, a-z, _, . and -.")
        # The value may be a secret, so no error shows it.
        if key.endswith("-bin"):
            if not isinstance(value, bytes):
                raise ConfigError(f"The value of the metadata key {key} must be bytes.")
        elif not isinstance(value, str) or not re.fullmatch(r"[ -~]*", value):
            raise ConfigError(f"The value of the metadata key {key} must be printable ASCII, or end the key with -bin.")
    return pairs


def check_count(name: str, count: Any) -> int:
    """Returns `count` if it is a whole number of at least 1.

    Raises:
        ConfigError: it is not.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ConfigError(f"{name} = {count!r} must be at least 1, a whole number.")
    return count
