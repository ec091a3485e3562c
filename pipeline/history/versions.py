"""The version folders under a run root, without TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.provenance import FILE, read_provenance
from data.errors import UserError
from pipeline.history.records import Json
from pipeline.local.run_root import RunRoot

_OBJECTS = ("settings", "fingerprints", "data", "evaluation", "infra_check", "packages", "rolled_back")
_GATE = {"name", "value", "bound", "passed"}


def model_folders(root: RunRoot) -> list[Path]:
    """The base path of each model."""
    return sorted(folder for folder in root.serving_dir.parent.glob("*") if folder.is_dir())


def version_folders(model: Path) -> list[Path]:
    """The versions that TensorFlow Serving would find, newest first."""
    found = (file.parent for file in model.glob("*/saved_model.pb"))
    return sorted((f for f in found if f.name.isdecimal()), key=lambda folder: int(folder.name), reverse=True)


def served_folders(root: RunRoot) -> set[str]:
    """The newest version of each model, which TensorFlow Serving serves."""
    return {str(found[0]) for model in model_folders(root) if (found := version_folders(model))}


def same_model(one: Path, other: Path) -> bool:
    """Whether two versions hold one model, by the files that components.assets_extra.model_id reads with TensorFlow."""
    for name in ("assets.extra/model_id.txt", "fingerprint.pb"):
        contents = [(folder / name).read_bytes() if (folder / name).is_file() else None for folder in (one, other)]
        if any(content is not None for content in contents):
            return contents[0] == contents[1]
    return False


def provenance_of(folder: Path) -> Json | None:
    """The provenance in a version folder; None where there is none.

    Raises:
        UserError: it cannot be read, or it is no JSON object.
    """
    path = folder / FILE
    try:
        found = read_provenance(folder)
    except NotADirectoryError:
        return None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise UserError(
            f"{path} is damaged: it is not JSON ({error}). Restore it from a copy of the version."
        ) from None
    if found is not None and not _is_provenance(found):
        raise UserError(
            f"{path} is damaged: it has not the form of a provenance. Restore it from a copy of the version."
        )
    return found


def _is_provenance(found: Any) -> bool:
    """Whether the parts that `found` has are of their types."""
    if not isinstance(found, dict):
        return False
    gates = found.get("gates") or []
    return all(isinstance(found.get(name) or {}, dict) for name in _OBJECTS) and (
        isinstance(gates, list) and all(isinstance(gate, dict) and gate.keys() >= _GATE for gate in gates)
    )
