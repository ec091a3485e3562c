"""Builds the image of the Dockerfile as a folder, without a container engine and without root.

This machine's Python replaces the base image. A script that runs the stand-in replaces TensorFlow Serving's program.
Each stage is a folder that replaces `/`: every absolute path of the Dockerfile is a path in this folder. COPY copies.
RUN runs in a shell with the variables of the stage. pip uses the cache of this machine.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import string
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from docker.utils.build import exclude_paths
from dockerfile_parse import DockerfileParser

from tests.conftest import ROOT

# Commands of RUN that do nothing here, each with the reason.
LEFT_OUT = {
    "useradd": "needs root, and would change this machine's users",
    "chown": "needs root; who owns a file is the container's matter",
}


@dataclass
class Stage:
    """A stage as a folder, after the instructions that have run so far."""

    root: Path
    environment: dict[str, str]
    arguments: dict[str, str] = field(default_factory=dict)
    directory: Path = Path("/")
    user: str = ""
    command: list[str] = field(default_factory=list)

    def path(self, name: str) -> Path:
        """The path on this machine for a path of the image, absolute or relative to WORKDIR."""
        return self.root / str(Path("/") / self.directory / name).lstrip("/")

    def mapped(self, text: str) -> str:
        """`text`, with each absolute path changed to a path in the folder of this stage."""
        return re.sub(r"(?<![\w.*$}/-])/(?=\w)", f"{self.root}/", text)

    def filled(self, text: str) -> str:
        """`text`, with the values of the stage's variables."""
        return string.Template(text).safe_substitute({**self.arguments, **self.environment})

    def run(self, *command: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Runs a command as a container does: in WORKDIR, with only the variables of the image."""
        return subprocess.run(
            [self.mapped(part) for part in command],
            cwd=self.path("."),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )


def pins(lock: str = "requirements-cpu.lock") -> dict[str, str]:
    """The versions in a lock file, by package name."""
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / lock).read_text(), re.MULTILINE))


def structure() -> list[dict[str, str]]:
    """The instructions of the Dockerfile: `instruction` in capitals, `value` on one line."""
    steps = DockerfileParser(path=str(ROOT)).structure
    return [step for step in steps if step["instruction"] != "COMMENT"]


def context() -> list[str]:
    """The files that .dockerignore does not exclude, without Dockerfile and .dockerignore."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    patterns = [line for line in map(str.strip, lines) if line and not line.startswith("#")]
    return sorted(
        name
        for name in exclude_paths(str(ROOT), patterns)
        if (ROOT / name).is_file() and name not in ("Dockerfile", ".dockerignore")
    )


def build(folder: Path, target: str = "run", **arguments: str) -> Stage:
    """Runs the instructions of `target` and of the stages it needs, in `folder`; returns the stage of `target`.

    `arguments` are the build arguments. A stage is deleted after `COPY --from` has copied from it. So no later
    stage can use its files by accident.
    """
    return _Builder(folder, arguments).made(target)


class _Builder:
    def __init__(self, folder: Path, arguments: dict[str, str]) -> None:
        self._folder, self._arguments = folder, arguments
        self._steps: dict[str, list[dict[str, str]]] = {}
        self._bases: dict[str, str] = {}
        for step in structure():
            if step["instruction"] == "FROM":
                base, name = re.fullmatch(r"(\S+) AS (\S+)", step["value"]).groups()  # type: ignore[union-attr]
                self._bases[name], self._steps[name] = base, []
            elif self._bases:
                self._steps[name].append(step)
        (folder / "context").mkdir(parents=True)
        for file in context():
            (folder / "context" / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, folder / "context" / file)
        self._tools = folder / "tools"
        self._tools.mkdir()
        for name in LEFT_OUT:
            _script(self._tools / name, "exit 0")
        for name in ("python", "python3"):
            _script(self._tools / name, f'exec {shlex.quote(os.path.realpath(sys.executable))} "$@"')

    def made(self, name: str) -> Stage:
        base = self._bases[name]
        if base in self._bases:
            stage = self.made(base)
            stage.arguments = {}
        else:
            root = self._folder / name
            stage = Stage(root, {"PATH": f"{self._tools}:{root}/usr/local/bin:/usr/local/bin:/usr/bin:/bin"})
            root.mkdir()
            if base.startswith("tensorflow/serving:"):
                _script(stage.path("/usr/bin/tensorflow_model_server"), 'exec python -m serving.model_server "$@"')
        for step in self._steps[name]:
            getattr(self, f"_{step['instruction'].lower()}")(stage, step["value"])
        return stage

    def _arg(self, stage: Stage, value: str) -> None:
        name, _, default = value.partition("=")
        stage.arguments[name] = self._arguments.get(name, stage.filled(stage.mapped(default)))

    def _env(self, stage: Stage, value: str) -> None:
        pairs = [pair.split("=", 1) for pair in shlex.split(value)]
        stage.environment.update({name: stage.filled(stage.mapped(text)) for name, text in pairs})

    def _workdir(self, stage: Stage, value: str) -> None:
        stage.directory /= value
        stage.path(".").mkdir(parents=True, exist_ok=True)

    def _user(self, stage: Stage, value: str) -> None:
        stage.user = stage.filled(value)

    def _cmd(self, stage: Stage, value: str) -> None:
        stage.command = json.loads(value)

    def _copy(self, stage: Stage, value: str) -> None:
        words = stage.filled(value).split()
        if not words[0].startswith("--from="):
            _copy([self._folder / "context" / name for name in words[:-1]], stage, words[-1])
            return
        other = self.made(words[0].removeprefix("--from="))
        _copy([other.path(name) for name in words[1:-1]], stage, words[-1])
        shutil.rmtree(other.root)

    def _run(self, stage: Stage, value: str) -> None:
        kept = ("PIP_", "SSL_", "HTTP", "http", "NO_PROXY", "no_proxy", "HOME")  # this machine's settings for pip
        host = {name: text for name, text in os.environ.items() if name.startswith(kept)}
        line = stage.mapped(re.sub(r"--mount=\S+", "", value))
        done = subprocess.run(
            ["sh", "-e", "-c", line],
            cwd=stage.path("."),
            env={**host, **stage.arguments, **stage.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"RUN {value} failed:\n{done.stdout}"


def _script(path: Path, line: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


def _copy(sources: list[Path], stage: Stage, target: str) -> None:
    """COPY, with hard links: the contents of a folder; or a file, into a folder or to the name of the target."""
    path = stage.path(target)
    for source in sources:
        if source.is_dir():
            shutil.copytree(source, path, symlinks=True, copy_function=os.link, dirs_exist_ok=True)
        else:
            into = target.endswith("/") or path.is_dir()
            file = path / source.name if into else path
            file.parent.mkdir(parents=True, exist_ok=True)
            os.link(source, file)
