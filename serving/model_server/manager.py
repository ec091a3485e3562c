"""Which versions of which models are served: watches the base paths, loads, swaps and unloads."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from tensorflow_serving.apis import get_model_status_pb2, model_pb2
from tensorflow_serving.config import model_server_config_pb2

from serving.model_server.servable import Servable
from serving.model_server.status import StatusError, invalid

State = get_model_status_pb2.ModelVersionStatus.State

log = logging.getLogger(__name__)


@dataclass
class Version:
    """What is known of one version; `seen` is how its folder looked when it was last tried."""

    state: int = State.START
    error: str = ""
    servable: Servable | None = None
    seen: frozenset[tuple[str, int, int]] = frozenset()

    @property
    def available(self) -> bool:
        return self.state == State.AVAILABLE


class Manager:
    """All models of one server. Its methods run in the event loop; `executor` loads, so that requests go on meanwhile.

    Args:
        executor: where SavedModels are loaded.
        labels_ahead: let a label name a version that is not available yet.
        unloaded: called with each servable that has been let go.

    Attributes:
        config: what is served.
    """

    def __init__(self, executor: Executor, *, labels_ahead: bool, unloaded: Callable[[Servable], None]) -> None:
        self._executor, self._labels_ahead, self._unloaded = executor, labels_ahead, unloaded
        self.config = model_server_config_pb2.ModelServerConfig()
        self._models: dict[str, dict[int, Version]] = {}
        self._labels: dict[str, dict[str, int]] = {}
        self._troubles: dict[str, str] = {}
        self._changing = asyncio.Lock()
        self._unloading: set[asyncio.Task[None]] = set()

    @property
    def ready(self) -> bool:
        """True when every configured model has an available version."""
        return all(self._available(model.name) for model in self.config.model_config_list.config)

    def knows(self, name: str) -> bool:
        """True for a configured model."""
        return any(model.name == name for model in self.config.model_config_list.config)

    async def apply(self, config: model_server_config_pb2.ModelServerConfig, *, start: bool = False) -> None:
        """Serves `config` from now on. Where that fails, what was served before stays; at the `start` it may be empty.

        Raises:
            StatusError: the config is not valid, a new model did not become available, or a label names a version that
                is not.
        """
        _check(config)
        async with self._changing:
            # As with TensorFlow Serving, one change loads a version, and the next may give it a label.
            labels = self._labelled(config)
            if self._unloading:
                await asyncio.wait(self._unloading)
            known = {model.name for model in self.config.model_config_list.config}
            try:
                await self._update(config, unload=False)
                wanted = [model.name for model in config.model_config_list.config if model.name not in known]
                missing = [name for name in wanted if not self._available(name)]
                if missing and not start:
                    reasons = "; ".join(f"{name}: {self._reason(name)}" for name in missing)
                    raise StatusError(grpc.StatusCode.UNKNOWN, f"Some models did not become available: {{{reasons}}}")
                self.config, self._labels = config, labels
            finally:
                await self._update(self.config, unload=True)

    async def poll(self) -> None:
        """Looks for new and vanished versions once."""
        async with self._changing:
            await self._update(self.config, unload=True)

    @contextmanager
    def hold(self, spec: model_pb2.ModelSpec) -> Iterator[Servable]:
        """The servable a request names, kept in memory until the request is done.

        Raises:
            StatusError: NOT_FOUND for a model or version that is not available, INVALID_ARGUMENT for an unknown label.
        """
        servable = self._find(spec)
        servable.in_flight += 1
        try:
            yield servable
        finally:
            servable.in_flight -= 1

    def statuses(self, spec: model_pb2.ModelSpec) -> dict[int, Version]:
        """The versions of a model and their states; one where the request names it.

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
            wanted = f"Latest({spec.name})" if number is None else f"Specific({spec.name}, {number})"
            raise StatusError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {wanted}")
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

    def _labelled(self, config: model_server_config_pb2.ModelServerConfig) -> dict[str, dict[str, int]]:
        for model in config.model_config_list.config:
            for label, number in model.version_labels.items():
                moved = self._labels.get(model.name, {}).get(label, number) != number
                if number not in self._available(model.name) and (moved or not self._labels_ahead):
                    raise StatusError(
                        grpc.StatusCode.FAILED_PRECONDITION,
                        f"Request to assign label to version {number} of model {model.name},"
                        " which is not currently available for inference",
                    )
        return {model.name: dict(model.version_labels) for model in config.model_config_list.config}

    async def _update(self, config: model_server_config_pb2.ModelServerConfig, *, unload: bool) -> None:
        aspired: dict[str, dict[int, Path] | None] = {}
        for model in config.model_config_list.config:
            aspired[model.name] = found = self._aspired(model)
            for number, folder in sorted((found or {}).items()):
                await self._load(model.name, number, folder)
        if not unload:
            return
        for name, versions in self._models.items():
            found = aspired.get(name, {})
            if found is None or (found and not any(number in found for number in self._available(name))):
                # The base path is gone for a moment, or nothing new is available yet: what serves, stays.
                continue
            for number in [number for number in self._available(name) if number not in found]:
                version = versions[number]
                version.state = State.UNLOADING
                task = asyncio.create_task(self._unload(version))
                self._unloading.add(task)
                task.add_done_callback(self._unloading.discard)

    def _aspired(self, model: Any) -> dict[int, Path] | None:
        """The complete versions the policy asks for, by number; None when the base path cannot be listed."""
        base = Path(model.base_path)
        complete: dict[int, Path] | None = None
        trouble = ""
        try:
            folders = {int(entry.name): entry for entry in base.iterdir() if _is_version(entry.name)}
            complete = {number: folder for number, folder in folders.items() if (folder / "saved_model.pb").is_file()}
        except OSError as error:
            trouble = f"cannot be read: {error.strerror}"
        if complete == {}:
            trouble = "holds no complete version yet"
        if trouble and trouble != self._troubles.get(model.name):
            log.warning("The base path %s of model %s %s.", base, model.name, trouble)
        self._troubles[model.name] = trouble  # told once, not at every look
        return None if complete is None else _chosen(complete, model.model_version_policy)

    async def _load(self, name: str, number: int, folder: Path) -> None:
        version = self._models.setdefault(name, {}).setdefault(number, Version())
        if version.state in (State.AVAILABLE, State.LOADING, State.UNLOADING):
            return
        seen = _look(folder)
        if seen == version.seen and version.error:
            return  # it was broken, and nothing has changed
        version.state, version.error, version.seen = State.LOADING, "", seen
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
        if _look(folder) != seen:
            # It was still being copied; what was read may be half of it.
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
        self._unloaded(servable)
        await asyncio.get_running_loop().run_in_executor(self._executor, servable.close)
        version.state, version.seen = State.END, frozenset()
        log.info("Unloaded servable version {name: %s version: %d}", servable.name, servable.version)


def _check(config: model_server_config_pb2.ModelServerConfig) -> None:
    if config.WhichOneof("config") != "model_config_list":
        raise invalid(
            "ServerModelConfig type not supported by HandleReloadConfigRequest."
            " Only ModelConfigList is currently supported"
        )
    names = Counter(model.name for model in config.model_config_list.config)
    for model in config.model_config_list.config:
        if not model.name or names[model.name] > 1:
            raise invalid(
                f"Illegal to list model {model.name} multiple times in config"
                if model.name
                else "Every model in the config needs a name"
            )
        if model.model_platform not in ("", "tensorflow"):
            raise invalid(f"Model {model.name} has the platform {model.model_platform}; only tensorflow is served")
        if not Path(model.base_path).is_absolute() or "\0" in model.base_path:
            raise invalid(
                f"Expected model {model.name} to have an absolute path or URI; got base_path()={model.base_path}"
            )


def _chosen(complete: dict[int, Path], policy: Any) -> dict[int, Path]:
    """The versions a ServableVersionPolicy asks for."""
    if policy.HasField("all"):
        chosen = list(complete)
    elif policy.HasField("specific"):
        chosen = [number for number in policy.specific.versions if number in complete]
    else:
        chosen = sorted(complete)[-(policy.latest.num_versions or 1) :]
    return {number: complete[number] for number in chosen}


def _is_version(name: str) -> bool:
    return name.isdecimal() and int(name) < 2**63


def _look(folder: Path) -> frozenset[tuple[str, int, int]]:
    """How a folder looks: path, size and time of each file."""
    seen = set()
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            try:
                facts = path.stat()
            except OSError:
                continue
            seen.add((str(path), facts.st_size, facts.st_mtime_ns))
    return frozenset(seen)
