"""The models and versions of a server: it watches the base paths and loads and unloads versions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from tensorflow_serving.apis import get_model_status_pb2, model_pb2
from tensorflow_serving.config import model_server_config_pb2

from serving.model_server.servable import Servable
from serving.model_server.source import aspired_versions, check_config, snapshot
from serving.model_server.status import StatusError, invalid

State = get_model_status_pb2.ModelVersionStatus.State

log = logging.getLogger(__name__)


@dataclass
class Version:
    """One version; `snapshot` has the files of its folder at the time of the last load."""

    state: int = State.START
    error: str = ""
    servable: Servable | None = None
    snapshot: frozenset[tuple[str, int, int]] = frozenset()

    @property
    def available(self) -> bool:
        return self.state == State.AVAILABLE


class Manager:
    """All models of one server. Its methods run in the event loop.

    Args:
        executor: the thread that loads SavedModels, so that requests go on during a load.
        allow_unavailable: a label may name a version that is not available.

    Attributes:
        config: the ModelServerConfig in force.
    """

    def __init__(self, executor: Executor, *, allow_unavailable: bool) -> None:
        self._executor, self._allow_unavailable = executor, allow_unavailable
        self.config = model_server_config_pb2.ModelServerConfig()
        self._models: dict[str, dict[int, Version]] = {}
        self._labels: dict[str, dict[str, int]] = {}
        self._warnings: dict[str, str] = {}
        self._lock = asyncio.Lock()
        self._unloading: set[asyncio.Task[None]] = set()

    @property
    def ready(self) -> bool:
        """True when every configured model has an available version."""
        return all(self._available(model.name) for model in self.config.model_config_list.config)

    async def apply(self, config: model_server_config_pb2.ModelServerConfig, *, start: bool = False) -> None:
        """Serves `config` instead of the current config. After an error the current config stays in force.

        Args:
            config: the models, version policies and labels.
            start: accept models without an available version.

        Raises:
            StatusError: the config is not valid, a new model did not become available, or a label names a version that
                is not available.
        """
        check_config(config)
        async with self._lock:
            # As in TensorFlow Serving, a config gives labels only to versions that an earlier config has loaded.
            labels = self._check_labels(config)
            if self._unloading:
                await asyncio.wait(self._unloading)
            served = {model.name for model in self.config.model_config_list.config}
            try:
                await self._update(config, unload=False)
                new = [model.name for model in config.model_config_list.config if model.name not in served]
                missing = [name for name in new if not self._available(name)]
                if missing and not start:
                    reasons = "; ".join(f"{name}: {self._reason(name)}" for name in missing)
                    raise StatusError(grpc.StatusCode.UNKNOWN, f"Some models did not become available: {{{reasons}}}")
                self.config, self._labels = config, labels
            finally:
                await self._update(self.config, unload=True)

    async def poll(self) -> None:
        """Looks once for new and removed versions."""
        async with self._lock:
            await self._update(self.config, unload=True)

    @contextmanager
    def use(self, spec: model_pb2.ModelSpec) -> Iterator[Servable]:
        """The servable of a request. It stays in memory while the block runs.

        Raises:
            StatusError: NOT_FOUND for a model or version that is not available, INVALID_ARGUMENT for an unknown label.
        """
        servable = self._find(spec)
        servable.in_flight += 1
        try:
            yield servable
        finally:
            servable.in_flight -= 1

    def versions(self, spec: model_pb2.ModelSpec) -> dict[int, Version]:
        """The versions of a model by number, or the one version of the request.

        Raises:
            StatusError: NOT_FOUND.
        """
        versions = self._models.get(spec.name, {})
        if not versions:
            raise StatusError(grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {spec.name}")
        number = self._number(spec)
        if number is None:
            return versions
        if number not in versions:
            raise StatusError(grpc.StatusCode.NOT_FOUND, f"Could not find version {number} of model {spec.name}")
        return {number: versions[number]}

    def _find(self, spec: model_pb2.ModelSpec) -> Servable:
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        number = self._number(spec)
        available = self._available(spec.name)
        chosen = max(available, default=None) if number is None else number
        servable = self._models[spec.name][chosen].servable if chosen in available else None
        if servable is None:
            request = f"Latest({spec.name})" if number is None else f"Specific({spec.name}, {number})"
            raise StatusError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {request}")
        return servable

    def _number(self, spec: model_pb2.ModelSpec) -> int | None:
        if spec.HasField("version"):
            return spec.version.value
        if spec.HasField("version_label"):
            try:
                return self._labels[spec.name][spec.version_label]
            except KeyError:
                raise invalid(f"Unrecognized servable version label: {spec.version_label}") from None
        return None

    def _available(self, name: str) -> list[int]:
        return [number for number, version in self._models.get(name, {}).items() if version.available]

    def _reason(self, name: str) -> str:
        errors = [version.error for _, version in sorted(self._models.get(name, {}).items()) if version.error]
        return errors[-1] if errors else "no version was found under its base path"

    def _check_labels(self, config: model_server_config_pb2.ModelServerConfig) -> dict[str, dict[str, int]]:
        for model in config.model_config_list.config:
            for label, number in model.version_labels.items():
                moved = self._labels.get(model.name, {}).get(label, number) != number
                if number not in self._available(model.name) and (moved or not self._allow_unavailable):
                    raise StatusError(
                        grpc.StatusCode.FAILED_PRECONDITION,
                        f"Request to assign label to version {number} of model {model.name},"
                        " which is not currently available for inference",
                    )
        return {model.name: dict(model.version_labels) for model in config.model_config_list.config}

    async def _update(self, config: model_server_config_pb2.ModelServerConfig, *, unload: bool) -> None:
        aspired: dict[str, dict[int, Path] | None] = {}
        for model in config.model_config_list.config:
            aspired[model.name] = versions = self._aspired(model)
            for number, folder in sorted((versions or {}).items()):
                await self._load(model.name, number, folder)
        if not unload:
            return
        for name, known in self._models.items():
            wanted = aspired.get(name, {})
            if wanted is None or (wanted and not any(number in wanted for number in self._available(name))):
                # The base path cannot be read, or no wanted version is available: the loaded versions stay.
                continue
            for number in [number for number in self._available(name) if number not in wanted]:
                version = known[number]
                version.state = State.UNLOADING
                task = asyncio.create_task(self._unload(version))
                self._unloading.add(task)
                task.add_done_callback(self._unloading.discard)

    def _aspired(self, model: Any) -> dict[int, Path] | None:
        """The folders of the versions to serve; None if the base path cannot be read."""
        warning, versions = "", None
        try:
            versions = aspired_versions(Path(model.base_path), model.model_version_policy)
        except OSError as error:
            warning = f"cannot be read: {error.strerror}"
        if versions == {}:
            warning = "has none of the versions to serve"
        if warning and warning != self._warnings.get(model.name):
            log.warning("The base path %s of model %s %s.", model.base_path, model.name, warning)
        self._warnings[model.name] = warning  # logged once, not at every poll
        return versions

    async def _load(self, name: str, number: int, folder: Path) -> None:
        version = self._models.setdefault(name, {}).setdefault(number, Version())
        if version.state in (State.AVAILABLE, State.LOADING, State.UNLOADING):
            return
        files = snapshot(folder)
        if files == version.snapshot and version.error:
            return  # the version is broken and has not changed
        version.state, version.error, version.snapshot = State.LOADING, "", files
        log.info("Loading servable: {name: %s version: %d}", name, number)
        try:
            servable = await asyncio.get_running_loop().run_in_executor(
                self._executor, Servable, name, number, str(folder)
            )
        except Exception as error:
            version.state = State.END
            version.error = f"Could not load {folder}: {str(error).strip() or type(error).__name__}"
            log.error("Loading servable: {name: %s version: %d} failed: %s", name, number, version.error)
            return
        if snapshot(folder) != files:
            # The folder has changed during the load, so the loaded version may be incomplete.
            version.state = State.START
            servable.close()
            return
        version.state, version.servable = State.AVAILABLE, servable
        log.info("Successfully loaded servable version {name: %s version: %d}", name, number)

    async def _unload(self, version: Version) -> None:
        servable, version.servable = version.servable, None
        assert servable is not None
        while servable.in_flight:
            await asyncio.sleep(0.01)
        await asyncio.get_running_loop().run_in_executor(self._executor, servable.close)
        version.state, version.snapshot = State.END, frozenset()
        log.info("Unloaded servable version {name: %s version: %d}", servable.name, servable.version)
