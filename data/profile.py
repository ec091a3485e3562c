"""The profile that data.build writes beside the shards."""

from __future__ import annotations

import json
import os
import re
import shlex
import tomllib
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data.errors import DataError
from data.pictures import Reading

if TYPE_CHECKING:
    from data.example import ExampleSpec

_LONGEST = 63  # letters of a name, as Kubernetes has it
_CONTROLS = "[\\x00-\\x1f\\x7f]"  # no TOML comment may hold them


def class_names(known: Sequence[str], classes: int) -> list[str]:
    """The name of each class: its own, and "class 12" for one without a name. Empty if labels name them all."""
    if list(known) == [str(label) for label in range(len(known))]:
        return []
    return [*known, *(f"class {label}" for label in range(len(known), classes))]


def check_example(source: Path, size: tuple[int, int], classes: int, names: Sequence[str]) -> None:
    """Stops if the pipeline would refuse images of `size` (rows, columns) or these classes.

    Raises:
        DataError: with the reason that the pipeline's settings give.
    """
    from pydantic import ValidationError

    from data.example import ExampleSpec

    def refusal(classes: int, names: Sequence[str]) -> str:
        try:
            ExampleSpec(rows=size[0], columns=size[1], classes=classes, class_names=tuple(names))
        except ValidationError as error:
            return error.errors()[0]["msg"].removeprefix("Value error, ")
        return ""

    for name in names:
        if reason := refusal(2, (name, f"not {name}")):
            raise DataError(f"{name!r} in {source} cannot name a class: {reason}. Rename the class or its folder.")
    if reason := refusal(classes, names):
        raise DataError(f"The pipeline cannot take the images of {source}: {reason}. Correct them, or their classes.")


def known_days(file: Path) -> tuple[str, ExampleSpec] | None:
    """The path of the days, and what an example of them is, from the profile `file`; None if there is no such file.

    Raises:
        DataError: the file is no profile.
    """
    from pydantic import ValidationError

    from data.example import ExampleSpec

    if not file.is_file():
        return None
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))["data"]
        spec = ExampleSpec(**{name: data[name] for name in ExampleSpec.model_fields if name in data})
        return str(data["path"]), spec
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise DataError(f"{file} is not the profile of these days ({error}): correct it, or move it away.") from None


def profile(out: Path, reading: Reading, classes: int, names: Sequence[str], path: str) -> str:
    """A profile, TOML, for images that were read as `reading` says.

    Args:
        out: the folder of the profile; it names the pipeline and the model.
        names: of the classes, by label; empty if the labels name them.
        path: the data folder, or the path that names days.

    Raises:
        DataError: a name that is not UTF-8, which TOML cannot hold.
    """
    plain = unicodedata.normalize("NFKD", out.name).encode("ascii", "ignore").decode()
    name = re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")[:_LONGEST].rstrip("-")
    model = re.sub(r"[^A-Za-z0-9_.-]+", "-", plain).strip("-.")[:_LONGEST].rstrip("-.")
    levels = f"levels = [{reading.levels[0]!r}, {reading.levels[1]!r}]\n" if reading.levels != (0, 255) else ""
    class_names = f"class_names = [{', '.join(map(_quoted, names))}]\n" if names else ""
    return f"""\
# {re.sub(_CONTROLS, "?", command(out))}
name = {_quoted(name or "my-images")}

[data]
path = {_quoted(path)}
rows = {reading.size[0]}
columns = {reading.size[1]}
classes = {classes}
{class_names}fit = {_quoted(reading.fit)}
{levels}background = {_quoted(reading.background)}

[serving]
model_name = {_quoted(model or "my-images")}

# What a model must reach before it is pushed. The default bars are MNIST's. Set your own:
# [gates]
# accuracy = 0.98        # of all test examples
# class_accuracy = 0.95  # of each class alone
"""


def command(out: Path) -> str:
    """The shell command that runs the pipeline on the data folder `out`."""
    return f"python -m pipeline.run_local --profile {shlex.quote(str(out / 'profile.toml'))}"


def _quoted(text: str) -> str:
    """A TOML string. JSON's escapes are TOML's, but JSON leaves the control character 127 as it is."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError(f"The name {os.fsencode(text)!r} is not UTF-8, as a profile must be: rename it.") from None
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
