"""Protobuf text format, as TensorFlow Serving's configuration files are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import text_format

from serving.errors import ConfigError


def parse(source: str | Path, message: Any, hint: str = "") -> Any:
    """Reads `message` from a file, where `source` is a Path, or from the text itself, and returns it.

    Raises:
        ConfigError: a file that cannot be read, or no such message; `hint` is added to the latter.
    """
    name = str(source) if isinstance(source, Path) else "the text"
    try:
        return text_format.Parse(source.read_text() if isinstance(source, Path) else source, message)
    except OSError as error:
        raise ConfigError(f"{name} cannot be read: {error.strerror}.") from None
    except (text_format.ParseError, UnicodeDecodeError) as error:
        reason = str(error).rstrip(".")
        raise ConfigError(f"{name} is no {message.DESCRIPTOR.name} in text format: {reason}.{hint}") from None
