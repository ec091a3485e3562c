"""Protobuf text format, the format of TensorFlow Serving's configuration files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import text_format

from serving.errors import ConfigError


def parse(source: str | Path, message: Any, hint: str = "") -> Any:
    """Parses a text, or the file at a Path, into `message` and returns it.

    Raises:
        ConfigError: the file cannot be read, or the text is not such a message; then the error ends with `hint`.
    """
    name = str(source) if isinstance(source, Path) else "the text"
    try:
        return text_format.Parse(source.read_text() if isinstance(source, Path) else source, message)
    except OSError as error:
        raise ConfigError(f"{name} cannot be read: {error.strerror}.") from None
    except (text_format.ParseError, UnicodeDecodeError) as error:
        reason = str(error).rstrip(".")
        kind = message.DESCRIPTOR.full_name
        raise ConfigError(f"{name}: Error parsing text-format {kind}: {reason}.{hint}") from None
