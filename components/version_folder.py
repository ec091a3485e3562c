"""A version folder, and what it carries for its users in `assets.extra`.

That is: class names, identity, provenance, warm-up requests, and the held-out reference of `data.reference`.

A local folder is read without TensorFlow, one in an object store (`gs://`, `s3://`) through its file systems.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import distributions
from typing import TYPE_CHECKING, Any

from data.errors import UserError
from data.files import file_system

if TYPE_CHECKING:
    import numpy as np
    from tfx import types

LABELS, MODEL_ID, PROVENANCE = (f"assets.extra/{name}" for name in ("labels.txt", "model_id.txt", "provenance.json"))
WARM_START = "assets.extra/warm_start.json"
VERSION = "version"
"""The custom property of a Model that is a copy of a version: which one."""
ROLLED_BACK = "rolled_back"
"""The part of the provenance that says that a version is a copy: of which version, and instead of which one."""
MODELS = "models"
"""In ROLLED_BACK: the models that were rolled back, as `model_id` gives them."""
_OBJECTS = ("settings", "fingerprints", "data", "evaluation", "infra_check", "packages", ROLLED_BACK)
_GATE = {"name", "value", "side", "bound", "passed"}


def version_folders(base_path: str) -> list[str]:
    """The version folders that TensorFlow Serving would load from its base path, newest first; none without that path.

    In an object store a push is many copies, `saved_model.pb` last: a folder without it is an incomplete push.
    """
    files = file_system(base_path)
    if not files.isdir(base_path):
        return []
    # Object stores list a folder with a slash behind it.
    names = [name.rstrip("/") for name in files.listdir(base_path)]
    found = [name for name in names if name.isdecimal() and files.exists(f"{base_path}/{name}/saved_model.pb")]
    return [os.path.join(base_path, name) for name in sorted(found, key=int, reverse=True)]


def saved_model(model: types.Artifact) -> str:
    """The folder of the SavedModel in an artifact of the type Model."""
    from tfx.utils import path_utils

    return path_utils.serving_model_path(model.uri, path_utils.is_old_model_artifact(model))


def write_labels(folder: str, labels: Sequence[str]) -> None:
    """Writes the label map into the SavedModel in `folder`: one label in each line, by class id."""
    _write(folder, LABELS, "".join(f"{label}\n" for label in labels))


def read_labels(folder: str) -> tuple[str, ...]:
    """The labels of a SavedModel by class id; empty if it has no label map."""
    return tuple(_read(folder, LABELS).decode().splitlines())


def write_model_id(folder: str, arrays: Iterable[np.ndarray], graph: str) -> None:
    """Writes SHA-256 over all that the model answers from, as its id.

    A training that is repeated gives the same id. TensorFlow's fingerprint of a SavedModel differs then: it covers
    numbers in the names of functions, which count what the process had traced before.

    Args:
        folder: of the SavedModel.
        arrays: the weights, and rounded predictions, which cover the vocabularies of the preprocessing.
        graph: what the signatures compute.
    """
    digest = hashlib.sha256(graph.encode())
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())
    _write(folder, MODEL_ID, digest.hexdigest() + "\n")


def model_id(folder: str) -> str | None:
    """What identifies the model in `folder`: its id, or a hash of TensorFlow's fingerprint; None if it has neither."""
    if written := _read(folder, MODEL_ID):
        return written.decode().strip()
    fingerprint = _read(folder, "fingerprint.pb")
    return hashlib.sha256(fingerprint).hexdigest() if fingerprint else None


def same_model(one: str, other: str) -> bool:
    """Whether two folders hold copies of one model."""
    identifier = model_id(one)
    return identifier is not None and identifier == model_id(other)


def has_weights(folder: str) -> bool:
    """Whether the variables of the SavedModel in `folder` can be read."""
    import tensorflow as tf

    try:
        reader = tf.train.load_checkpoint(os.path.join(folder, "variables", "variables"))
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
    except (tf.errors.OpError, ValueError, RuntimeError, IndexError):
        return False
    return True


def write_warm_start(folder: str, content: dict[str, Any]) -> None:
    """Writes into the SavedModel in `folder` how its training started, as JSON."""
    _write(folder, WARM_START, json.dumps(content, ensure_ascii=False) + "\n")


def read_warm_start(folder: str) -> dict[str, Any]:
    """How the training of the model in `folder` started; empty where days play no role."""
    return json.loads(_read(folder, WARM_START) or b"{}")


def environment() -> dict[str, str]:
    """The version of Python, and of each installed distribution by its name."""
    found = {distribution.name: distribution.version for distribution in distributions()}
    return {"python": platform.python_version(), **dict(sorted(found.items(), key=lambda item: item[0].lower()))}


def write_provenance(folder: str, content: dict[str, Any]) -> None:
    """Writes where the model comes from into the version `folder`, as JSON."""
    _write(folder, PROVENANCE, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read_provenance(folder: str) -> dict[str, Any]:
    """Where the model in a version folder comes from; empty where that is not written.

    Raises:
        UserError: the file cannot be read, or it is damaged.
    """
    path = os.path.join(folder, PROVENANCE)
    try:
        found = json.loads(_read(folder, PROVENANCE) or b"{}")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise UserError(
            f"{path} is damaged: it is not JSON ({error}). Restore it from a copy of the version."
        ) from None
    gates = found.get("gates") or [] if isinstance(found, dict) else None
    if not (
        isinstance(gates, list)
        and all(isinstance(found.get(name) or {}, dict) for name in _OBJECTS)
        and all(isinstance(gate, dict) and gate.keys() >= _GATE for gate in gates)
    ):
        raise UserError(
            f"{path} is damaged: it has not the form of a provenance. Restore it from a copy of the version."
        )
    return found


def _write(folder: str, name: str, text: str) -> None:
    path, files = os.path.join(folder, name), file_system(folder)
    files.makedirs(os.path.dirname(path))
    with files.GFile(path, "wb") as file:
        file.write(text.encode())


def _read(folder: str, name: str) -> bytes:
    """The content of a file; empty if there is none."""
    path, files = os.path.join(folder, name), file_system(folder)
    if not files.exists(path):
        return b""
    with files.GFile(path, "rb") as file:
        return bytes(file.read())
