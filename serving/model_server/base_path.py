"""The base path of a model: the versions in it, and in words why there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_FILE = "saved_model.pb"


def complete_versions(base: Path) -> dict[int, Path]:
    """The folders whose names are numbers and that have a `saved_model.pb`, by number.

    Raises:
        OSError: the base path is no folder, or cannot be read.
    """
    folders = [folder for folder in base.iterdir() if folder.name.isdecimal()]
    return {int(folder.name): folder for folder in folders if (folder / _FILE).is_file()}


def no_version(model: Any) -> str:
    """Why the policy of a ModelConfig finds no version in its base path, and what to do."""
    base = Path(model.base_path)
    try:
        folders = sorted(folder for folder in base.iterdir() if folder.is_dir())
        models = [folder for folder in folders if (folder / _FILE).is_file()]
        above = [folder for folder in folders if any(folder.glob(f"[0-9]*/{_FILE}"))]
        complete = complete_versions(base)
    except FileNotFoundError:
        return f"there is no version in {base}, which does not exist"
    except OSError as error:
        return f"the base path {base} cannot be read: {error.strerror}"
    if complete:
        wanted = _names(sorted(model.model_version_policy.specific.versions))
        return f"its policy wants the versions {wanted}, and {base} has {_names(sorted(complete))}"
    if (base / _FILE).is_file():
        remedy = f"give {base.parent}" if base.name.isdecimal() else f"move its files to {base / '1'}"
        return f"the base path {base} is itself a version, and not the folder of the versions: {remedy}"
    if models:
        names = _names(folder.name for folder in models)
        return f"the name of a version is a number such as 1, and {base} has {names}: rename the folder"
    if above:
        return f"there is no version in {base}, but in {above[0]}: give that as the base path"
    if numbered := [folder.name for folder in folders if folder.name.isdecimal()]:
        return f"there is no {_FILE} in {_names(numbered)} of {base}"
    return f"there is no version in {base}"


def _names(found: Any) -> str:
    """The first names, and how many more there are."""
    names = [str(name) for name in found]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
