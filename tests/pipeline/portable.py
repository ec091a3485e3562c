"""Beam job servers and worker pools for the tests, each in a process of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from serving.launch import free_port

PRISM = shutil.which("prism", path=str(Path(sys.executable).parent)) or ""
"""Prism, Beam's runner in Go, which `make prism` builds beside the Python of .venv."""
BEAM_SERVER = [sys.executable, "-m", "apache_beam.runners.portability.local_job_service_main"]
needs_prism = pytest.mark.skipif(not PRISM, reason="Prism is not built: make prism, which needs Go")

# Beam's boot program sets WORKER_ID. A pool without it does not, and Prism wants it from workers of Beam 2.60.
_BOOT = f"""#!/bin/sh
WORKER_ID=$(expr "$*" : '.*worker_id="\\([^"]*\\)"') exec {sys.executable} "$@"
"""

_POOL = """
import threading
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer
started = BeamFnExternalWorkerPoolServicer.start(use_process={processes}, port={port})
threading.Event().wait()
"""


@dataclass
class Engine:
    """A job server and a pool of workers which have only the installed package."""

    job_server: str
    worker_pool: str
    server: subprocess.Popen[bytes]
    pool: subprocess.Popen[bytes]

    @property
    def settings(self) -> dict[str, str]:
        """The section [beam] for this engine."""
        return {
            "engine": "flink",
            "job_server": self.job_server,
            "environment": "external",
            "worker_pool": self.worker_pool,
        }

    @property
    def overrides(self) -> list[str]:
        return [f"beam.{name}={value}" for name, value in self.settings.items()]

    def workers(self) -> list[int]:
        """The processes of the pool that run Python code for a job."""
        found = subprocess.run(["pgrep", "--parent", str(self.pool.pid)], capture_output=True, text=True, check=False)
        return [int(line) for line in found.stdout.split()]


def _start(command: Sequence[str], folder: Path, **environment: str) -> subprocess.Popen[bytes]:
    """Starts a process, and the leader of its group, without access to the checkout."""
    folder.mkdir(parents=True)
    with open(folder / "log", "wb") as log:
        return subprocess.Popen(
            command,
            cwd=folder,
            env={"PATH": os.environ["PATH"], "HOME": str(folder), **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("localhost", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail(log.read_text())


@contextmanager
def engine(folder: Path, site: Path, *, prism: bool, processes: bool = False) -> Iterator[Engine]:
    """Prism or Beam's own job server, and a pool whose workers import the project from `site`.

    Each job's worker is a process, as Prism wants, or a thread of the pool, which then imports TFX once for all jobs.
    """
    job_port, pool_port = free_port(), free_port()
    boot = folder / "boot" / "python"
    boot.parent.mkdir(parents=True)
    boot.write_text(_BOOT)
    boot.chmod(0o755)
    command = (
        [PRISM, "-job_port", str(job_port), "-serve_http=false"] if prism else [*BEAM_SERVER, f"--job_port={job_port}"]
    )
    server = _start(command, folder / "server")
    pool = _start(
        # A pool starts `python`: the first one on PATH.
        [sys.executable, "-c", _POOL.format(port=pool_port, processes=prism or processes)],
        folder / "pool",
        PATH=f"{boot.parent}:{os.environ['PATH']}",
        PYTHONPATH=str(site),
        TF_USE_LEGACY_KERAS="1",
    )
    try:
        _wait(server, job_port, folder / "server" / "log")
        _wait(pool, pool_port, folder / "pool" / "log")
        yield Engine(f"localhost:{job_port}", f"localhost:{pool_port}", server, pool)
    finally:
        for process in (server, pool):
            # This also ends the workers of the pool.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
