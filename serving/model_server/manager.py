"""The models and versions of a server: it looks into the base paths, and loads and unloads versions."""

from __future__ import annotations

import gc
import logging
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.config import model_server_config_pb2

from data.signature import PublicKey, verify
from serving.model_server.base_path import complete_versions, no_version
from serving.model_server.servable import Servable, StatusError, invalid

State = get_model_status_pb2.ModelVersionStatus.State

log = logging.getLogger(__name__)


@dataclass
class Version:
    """One version: its state, why it could not be loaded, and the files of its folder at that time."""

    state: int = State.START
    error: str = ""
    servable: Servable | None = None
    files: frozenset[tuple[str, int, int]] = frozenset()


class Manager:
    """All models of one server. Threads may share it; one of them loads and unloads at a time.

    Args:
        key: the key that must have signed a version; None takes versions as they are.
    """

    def __init__(self, key: PublicKey | None = None) -> None:
        self._key = key
        self._config = model_server_config_pb2.ModelServerConfig()
        self._models: dict[str, dict[int, Version]] = {}
        self._lock = threading.Lock()

    @property
    def ready(self) -> bool:
        """True when every configured model has an available version."""
        return all(self._available(model.name) for model in self._config.model_config_list.config)

    def apply(self, config: Any, *, start: bool = False) -> None:
        """Serves a ModelServerConfig instead of the current one. After an error the current one stays in force.

        Args:
            config: the models, version policies and labels.
            start: accept models without an available version, and labels of such versions.

        Raises:
            StatusError: the config is not valid, a model or the version of a label did not become available.
        """
        _check(config)
        with self._lock:
            self._load(config)
            try:
                if missing := self._missing(config):
                    if not start:
                        raise missing
                    log.warning("%s.", missing)
                self._config = config
            finally:
                self._unload()

    def poll(self) -> None:
        """Looks once for new and removed versions."""
        with self._lock:
            self._load(self._config)
            self._unload()

    def find(self, spec: Any) -> tuple[int, Servable]:
        """The version that a ModelSpec names, by default the newest available one, and its servable.

        A request keeps its servable in memory, also when the version is unloaded meanwhile.

        Raises:
            StatusError: NOT_FOUND for a model or version that is not available, INVALID_ARGUMENT for an unknown label.
        """
        number, available = self._number(spec), self._available(spec.name)
        number = max(available, default=0) if number is None else number
        if number not in available:
            raise StatusError(grpc.StatusCode.NOT_FOUND, f"{_title(spec)} is not available{self._why(spec)}")
        return number, available[number]

    def versions(self, spec: Any) -> list[tuple[int, Version]]:
        """The versions of a model, or the one whose number a ModelSpec has, with their numbers; a label selects none.

        Raises:
            StatusError: NOT_FOUND.
        """
        number = spec.version.value if spec.HasField("version") else None
        known = sorted(self._models.get(spec.name, {}).copy().items())
        found = [entry for entry in known if number in (None, entry[0])]
        if not found:
            raise StatusError(grpc.StatusCode.NOT_FOUND, f"{_title(spec)} is not known{self._why(spec)}")
        return found

    def _number(self, spec: Any) -> int | None:
        if spec.HasField("version_label"):
            labels = [dict(model.version_labels) for model in self._configured(spec.name)]
            if labels and spec.version_label in labels[0]:
                return int(labels[0][spec.version_label])
            known = ", ".join(f"{label} of version {number}" for found in labels for label, number in found.items())
            no_label = f"The model {spec.name} has no label {spec.version_label}"
            raise invalid(f"{no_label}; the labels of its versions: {known or 'none'}")
        return int(spec.version.value) if spec.HasField("version") else None

    def _configured(self, name: str) -> list[Any]:
        """The ModelConfig of this name, or none."""
        return [model for model in self._config.model_config_list.config if model.name == name]

    def _why(self, spec: Any) -> str:
        """Why a configured model has no version at all, if so."""
        models = [] if self._models.get(spec.name) else self._configured(spec.name)
        return "".join(f": {no_version(model)}" for model in models)

    def _available(self, name: str) -> dict[int, Servable]:
        known = self._models.get(name, {}).copy()  # another thread may add a version
        return {number: version.servable for number, version in known.items() if version.servable}

    def _missing(self, config: Any) -> StatusError | None:
        """What a config needs and is not available; None if there is nothing."""
        for model in config.model_config_list.config:
            available = self._available(model.name)
            if not available:
                errors = [version.error for _, version in sorted(self._models.get(model.name, {}).items())]
                reason = next(filter(None, reversed(errors)), "") or no_version(model)
                return StatusError(grpc.StatusCode.UNKNOWN, f"The model {model.name} is not available: {reason}")
            for label, number in model.version_labels.items():
                if number not in available:
                    return StatusError(
                        grpc.StatusCode.FAILED_PRECONDITION,
                        f"The label {label} names version {number} of the model {model.name}, which is not available",
                    )
        return None

    def _load(self, config: Any) -> None:
        for model in config.model_config_list.config:
            for number, folder in sorted(_wanted(model).items()):
                version = self._models.setdefault(model.name, {}).setdefault(number, Version())
                if version.servable is None:
                    _load_version(version, f"{model.name} version {number}", folder, self._key)

    def _unload(self) -> None:
        """Unloads what is not configured. A model's versions stay until one that is wanted is available."""
        configured = {model.name: _wanted(model) for model in self._config.model_config_list.config}
        unloaded = False
        for name, known in self._models.items():
            available = self._available(name)
            if name in configured and not configured[name].keys() & available.keys():
                continue
            for number in available.keys() - configured.get(name, {}).keys():
                known[number].state, known[number].servable = State.END, None
                log.info("Unloaded %s version %d.", name, number)
                unloaded = True
        if unloaded:
            gc.collect()  # a SavedModel in memory refers to itself


def _load_version(version: Version, title: str, folder: Path, key: PublicKey | None) -> None:
    try:
        stats = ((path, path.stat()) for path in folder.rglob("*"))
        files = frozenset((str(path), stat.st_size, stat.st_ctime_ns) for path, stat in stats)
        if version.error and version.files == files:
            return  # it is as broken as before
        version.state, version.error, version.files = State.LOADING, "", files
        log.info("Loading %s.", title)
        if key:
            verify(folder, key)
        version.servable = Servable(folder)
        version.state = State.AVAILABLE
        log.info("Loaded %s.", title)
    except Exception as error:  # TensorFlow raises errors of many kinds
        version.state = State.END
        version.error = f"Could not load {folder}: {' '.join(str(error).split()) or type(error).__name__}"
        log.error("%s: %s", title, version.error)


def _check(config: Any) -> None:
    names = Counter(model.name for model in config.model_config_list.config)
    for model in config.model_config_list.config:
        if not model.name or names[model.name] > 1:
            raise invalid(f"The config needs one name for each model, and has {model.name or 'an empty one'}")
        if model.model_platform not in ("", "tensorflow"):
            raise invalid(f"The model {model.name} has the platform {model.model_platform}, not tensorflow")
        if not Path(model.base_path).is_absolute():
            raise invalid(f"The model {model.name} needs an absolute base_path, not {model.base_path}")


def _wanted(model: Any) -> dict[int, Path]:
    """The folders of the versions that the policy of a ModelConfig selects, by number; none without the base path."""
    try:
        complete = complete_versions(Path(model.base_path))
    except OSError:
        return {}
    policy = model.model_version_policy
    selected = sorted(complete)[-(policy.latest.num_versions or 1) :]
    if policy.HasField("all"):
        return complete
    if policy.HasField("specific"):
        selected = [number for number in policy.specific.versions if number in complete]
    return {number: complete[number] for number in selected}


def _title(spec: Any) -> str:
    version = f"Version {spec.version.value} of the" if spec.HasField("version") else "The"
    return f"{version} model {spec.name}"
