"""The versions on the file system: which ones a model's config selects, and whether their files have changed."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

from tensorflow_serving.config import model_server_config_pb2

from serving.model_server.status import invalid


def check_config(config: model_server_config_pb2.ModelServerConfig) -> None:
    """Checks the names, platforms and base paths of a config.

    Raises:
        StatusError: INVALID_ARGUMENT.
    """
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
            raise invalid(f"Model {model.name} has the platform {model.model_platform}; only tensorflow is supported")
        if not Path(model.base_path).is_absolute() or "\0" in model.base_path:
            raise invalid(
                f"Expected model {model.name} to have an absolute path or URI; got base_path()={model.base_path}"
            )


def aspired_versions(base_path: Path, policy: Any) -> dict[int, Path]:
    """The folders of the complete versions that a ServableVersionPolicy selects, by number.

    Raises:
        OSError: the base path cannot be read.
    """
    folders = {int(entry.name): entry for entry in base_path.iterdir() if _is_version(entry.name)}
    complete = {number: folder for number, folder in folders.items() if (folder / "saved_model.pb").is_file()}
    if policy.HasField("all"):
        selected = list(complete)
    elif policy.HasField("specific"):
        selected = [number for number in policy.specific.versions if number in complete]
    else:
        selected = sorted(complete)[-(policy.latest.num_versions or 1) :]
    return {number: complete[number] for number in selected}


def _is_version(name: str) -> bool:
    return name.isdecimal() and int(name) < 2**63


def snapshot(folder: Path) -> frozenset[tuple[str, int, int]]:
    """Path, size and modification time of each file in a folder."""
    files = set()
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            try:
                stat = path.stat()
            except OSError:
                continue
            files.add((str(path), stat.st_size, stat.st_mtime_ns))
    return frozenset(files)
