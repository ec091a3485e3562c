"""Runs a compiled spec here, step by step, as open-source Kubeflow's driver and launcher run it in a cluster.

It follows their source (kubeflow/pipelines, backend/src/v2) in these points. The driver and the launcher of 2.17.0 and
2.3.0 themselves ran the steps once, by hand, and were compared with it.

- It builds the ExecutorInput in the same way; input artifacts have a type with an empty schema.
- It copies artifacts to /minio, /s3 and /gcs, and uploads only files.
- It changes the metadata of an artifact as the metadata store does.
- It puts the id of the run in the place of its name, and keeps only the log of a failed step.
- It has the same cache key, retries, and secrets as environment variables.

There are no containers. Changed paths replace the mounts; this Python and this checkout replace the image. The exit
code of a failed container is always 1 there; here it is the step's.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests import processes

ROOT = Path(__file__).parents[2]
SECRET = "pa55word-of-the-object-store"
LOG = "executor-logs"
FOLDERS = {"gs": "gcs", "s3": "s3", "minio": "minio"}


@dataclass
class Step:
    """The result of one task, and what all its attempts printed."""

    state: str
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    printed: str = ""
    code: int = 0
    attempts: int = 0


Execute = Callable[[list[str], Mapping[str, str], Path], tuple[int, str]]


def in_new_process(command: list[str], environment: Mapping[str, str], folder: Path) -> tuple[int, str]:
    """Runs a container's command; returns the exit code, and what it printed."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    return done.returncode, done.stdout


def in_fork(command: list[str], environment: Mapping[str, str], folder: Path) -> tuple[int, str]:
    """The same in a fourth of the time: TFX is imported already. The command must be this Python's."""
    python, *arguments = command
    assert (python, folder) == (sys.executable, ROOT)
    return processes.run(processes.python, arguments, environment=environment)


class Launcher:
    """A backend of a release with its own object store, cache and volume in `work`.

    `secrets` is by name and key of the Secret. Release 2.3 has no log artifact, no retries, and other paths.
    """

    def __init__(
        self,
        work: Path,
        python: str = sys.executable,
        app: Path = ROOT,
        path: Path | None = ROOT,
        release: tuple[int, int] = (2, 17),
        execute: Execute = in_new_process,
    ) -> None:
        self.work, self.python, self.app, self.path = work, python, app, path
        self.release, self.execute = release, execute
        self.volume = work / "volume"
        self.volume.mkdir(parents=True)
        self._ids = 0
        self.secrets: dict[str, dict[str, str]] = {}
        self._cache: dict[str, dict[str, dict[str, Any]]] = {}

    def run(
        self,
        package: Path,
        parameters: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
        only: Container[str] | None = None,
        done: Mapping[str, Step] | None = None,
    ) -> dict[str, Step]:
        """Runs all tasks, or those of `only`, but not those that are `done`.

        A task is SKIPPED if a task before it did not succeed.
        """
        spec, *rest = yaml.safe_load_all(package.read_text())
        platform = rest[0]["platforms"]["kubernetes"]["deploymentSpec"]["executors"] if rest else {}
        self._ids += 1
        run_id = f"run-{self._ids}"
        steps: dict[str, Step] = {}
        for name, task in _in_order(spec["root"]["dag"]["tasks"]):
            upstream = _upstream(task)
            if done and name in done:
                steps[name] = done[name]
                continue
            if (only is not None and name not in only) or any(
                steps[other].state not in ("SUCCEEDED", "CACHED") for other in upstream
            ):
                steps[name] = Step("SKIPPED")
                continue
            component = spec["components"][task["componentRef"]["name"]]
            label = component["executorLabel"]
            container = spec["deploymentSpec"]["executors"][label]["container"]
            given = {**_defaults(spec), **(parameters or {})}
            root = f"{spec['defaultPipelineRoot']}/{spec['pipelineInfo']['name']}/{run_id}"
            invocation = self._executor_input(task, component, given, steps, f"{root}/{name}")
            values = invocation["inputs"].get("parameterValues", {})
            values |= {key: run_id for key, value in values.items() if value == "{{$.pipeline_job_uuid}}"}
            key = _cache_key(invocation, container, platform.get(label, {}))
            if task.get("cachingOptions", {}).get("enableCache") and key in self._cache:
                steps[name] = Step("CACHED", self._cache[key])
                continue
            steps[name] = step = self._launch(name, task, container, platform.get(label, {}), invocation, environment)
            if step.state == "SUCCEEDED":
                self._cache[key] = step.outputs
        return steps

    def _launch(
        self,
        name: str,
        task: Mapping[str, Any],
        container: Mapping[str, Any],
        platform: Mapping[str, Any],
        original: dict[str, Any],
        environment: Mapping[str, str] | None,
    ) -> Step:
        """Runs one task. Each attempt has its own disk and its own log."""
        policy = task.get("retryPolicy", {}) if self.release >= (2, 5) else {}
        printed, code, attempts = "", 0, 1 + int(policy.get("maxRetryCount", 0))
        # Argo counts from the start of the first attempt. Here each attempt counts as if it had used its whole time.
        limit = float(policy.get("backoffMaxDuration", "0s").removesuffix("s"))
        fit = int(limit // float(platform.get("activeDeadlineSeconds", 1)))
        attempts = max(1, min(attempts, fit))
        for attempt in range(1, attempts + 1):
            disk = self.work / "disks" / f"{name}-{self._next_id()}"
            (disk / "tmp").mkdir(parents=True)
            for uri in _uris(original["inputs"].get("artifacts", {})):
                source = self._object(uri)
                if source.is_dir():
                    shutil.copytree(source, _copy(disk, uri))
                elif source.exists():
                    _copy(disk, uri).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(source, _copy(disk, uri))
            invocation = copy.deepcopy(original)
            if LOG in invocation["outputs"]["artifacts"]:
                invocation["outputs"]["artifacts"][LOG]["artifacts"][0]["uri"] += f"-{attempt - 1}"
            for uri in _uris(invocation["outputs"]["artifacts"]):
                _copy(disk, uri).parent.mkdir(parents=True, exist_ok=True)
            secrets = {
                pair["envVar"]: self.secrets[item["secretName"]][pair["secretKey"]]
                for item in platform.get("secretAsEnv", [])
                for pair in item["keyToEnv"]
            }
            command = self._mounted(name, [*container["command"], *container["args"]], invocation, disk, platform)
            code, output = self.execute(command, self._environment(disk, {**(environment or {}), **secrets}), self.app)
            printed += output
            for uri in _uris({LOG: invocation["outputs"]["artifacts"].get(LOG, {"artifacts": []})}):
                _copy(disk, uri).write_text(output)
            if not code:
                return Step("SUCCEEDED", self._publish(disk, invocation), printed, code, attempt)
            if LOG in invocation["outputs"]["artifacts"]:
                kept = {LOG: invocation["outputs"]["artifacts"][LOG]}
                self._publish(disk, {"outputs": {**invocation["outputs"], "artifacts": kept}})
            else:
                shutil.rmtree(disk)
        return Step("FAILED", {}, printed, code, attempts)

    def _executor_input(
        self,
        task: Mapping[str, Any],
        component: Mapping[str, Any],
        given: Mapping[str, Any],
        steps: Mapping[str, Step],
        folder: str,
    ) -> dict[str, Any]:
        if self.release >= (2, 5):
            folder += f"/{uuid.uuid4()}"
        inputs = task.get("inputs", {})
        parameters = {
            name: given[item["componentInputParameter"]] if "componentInputParameter" in item else _constant(item)
            for name, item in inputs.get("parameters", {}).items()
        }
        sources = {name: item["taskOutputArtifact"] for name, item in inputs.get("artifacts", {}).items()}
        artifacts = {
            name: {"artifacts": [steps[source["producerTask"]].outputs[source["outputArtifactKey"]]]}
            for name, source in sources.items()
        }
        types = {
            name: item["artifactType"]
            for name, item in component.get("outputDefinitions", {}).get("artifacts", {}).items()
        }
        if self.release >= (2, 5):
            types[LOG] = {"schemaTitle": "system.Artifact"}
        named = self.release >= (2, 15)
        outputs = {
            name: {"artifacts": [{"uri": f"{folder}/{name}", "type": kind, **({"name": name} if named else {})}]}
            for name, kind in types.items()
        }
        file = str(_copy(Path("/"), folder)) if named else "/tmp/kfp_outputs"
        return {
            "inputs": {
                key: value for key, value in (("parameterValues", parameters), ("artifacts", artifacts)) if value
            },
            "outputs": {"artifacts": outputs, "outputFile": f"{file}/output_metadata.json"},
        }

    def _mounted(
        self, name: str, command: list[str], invocation: dict[str, Any], disk: Path, platform: Mapping[str, Any]
    ) -> list[str]:
        """The command with the ExecutorInput; paths on this machine replace the container's mounts."""
        text = json.dumps(invocation)
        mounts = {mount["mountPath"]: self.volume for mount in platform.get("pvcMount", [])}
        copies = {f"/{folder}": disk / folder for folder in FOLDERS.values()}
        for inside, outside in {**mounts, **copies, "/app": self.app, "/tmp/kfp_outputs": disk / "tmp"}.items():
            text = text.replace(f'"{inside}/', f'"{outside}/').replace(f'\\"{inside}/', f'\\"{outside}/')
        assert "{{$}}" in command, name
        replaced = {"{{$}}": text, "/": f"{disk}/", "python": self.python}
        return [replaced.get(word, word) for word in command]

    def _environment(self, disk: Path, extra: Mapping[str, str] | None) -> dict[str, str]:
        clean = {"PATH": os.pathsep.join([str(Path(self.python).parent), os.defpath]), "HOME": str(disk / "tmp")}
        path = {"PYTHONPATH": str(self.path)} if self.path else {}
        return {**clean, **path, "TF_CPP_MIN_LOG_LEVEL": "2", **(extra or {})}

    def _publish(self, disk: Path, invocation: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Uploads the output files; returns the artifacts in the form that the next driver reads."""
        path = invocation["outputs"]["outputFile"]
        written = disk / path.removeprefix("/") if self.release >= (2, 15) else disk / "tmp" / Path(path).name
        output = json.loads(written.read_text()) if written.exists() else {}
        published = {}
        for name, listed in invocation["outputs"]["artifacts"].items():
            (declared,) = listed["artifacts"]
            (returned,) = output.get("artifacts", {}).get(name, {}).get("artifacts", [{}])
            uri = returned.get("uri") or declared["uri"]
            # The launcher refuses other places; it opens a link to a folder as a file.
            assert Path(declared["uri"]).parent in Path(uri).parents, uri
            local = _copy(disk, uri)
            assert not any(path.is_symlink() for path in local.rglob("*"))
            files = [local] if local.is_file() else [path for path in local.rglob("*") if path.is_file()]
            for file in files:
                target = self._object(uri) / file.relative_to(local) if file != local else self._object(uri)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, target)
            metadata = {key: _recorded(value) for key, value in returned.get("metadata", {}).items()}
            session = {"display_name": name, "store_session_info": "{}"}
            published[name] = {
                "name": str(self._next_id()),
                "uri": uri,
                "type": {"instanceSchema": ""},
                "metadata": {**session, **metadata},
            }
        shutil.rmtree(disk)
        return published

    def object(self, step: Step, output: str) -> Path:
        """The path of a step's output in the object store."""
        return self._object(step.outputs[output]["uri"])

    def _object(self, uri: str) -> Path:
        return self.work / "store" / uri.replace("://", "/")

    def _next_id(self) -> int:
        self._ids += 1
        return self._ids


def _in_order(tasks: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    todo, done = dict(sorted(tasks.items())), set()
    while todo:
        name = next(name for name, task in todo.items() if _upstream(task) <= done)
        yield name, todo.pop(name)
        done.add(name)


def _upstream(task: Mapping[str, Any]) -> set[str]:
    artifacts = task.get("inputs", {}).get("artifacts", {}).values()
    return {*task.get("dependentTasks", []), *(item["taskOutputArtifact"]["producerTask"] for item in artifacts)}


def _defaults(spec: Mapping[str, Any]) -> dict[str, Any]:
    declared = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    return {name: item["defaultValue"] for name, item in declared.items() if "defaultValue" in item}


def _constant(item: Mapping[str, Any]) -> Any:
    return item["runtimeValue"]["constant"]


def _cache_key(invocation: Mapping[str, Any], container: Mapping[str, Any], platform: Mapping[str, Any]) -> str:
    inputs, outputs = invocation["inputs"], invocation["outputs"]["artifacts"]
    names = {key: [item["name"] for item in found["artifacts"]] for key, found in inputs.get("artifacts", {}).items()}
    types = {key: listed["artifacts"][0]["type"] for key, listed in outputs.items()}
    claims = [mount["constant"] for mount in platform.get("pvcMount", [])]
    program = [container["command"], container["args"], container["image"]]
    what = [inputs.get("parameterValues"), names, types, claims, program]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _recorded(value: Any) -> Any:
    """The value as MLMD returns it. MLMD has no null."""
    assert isinstance(value, (str, int, float, list, dict)), value
    if isinstance(value, list):
        return {"list": value}
    if isinstance(value, dict):
        return {"struct": value}
    return float(value) if isinstance(value, (int, float)) else value


def _uris(artifacts: Mapping[str, Any]) -> list[str]:
    return [item["uri"] for listed in artifacts.values() for item in listed["artifacts"]]


def _copy(disk: Path, uri: str) -> Path:
    scheme, path = uri.split("://")
    return disk / FOLDERS[scheme] / path
