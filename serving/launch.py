"""Starts a model server process: TensorFlow Serving if it is on PATH, else the stand-in."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from serving.client.client import Client
from serving.errors import DeadlineError, NotFoundError, ServerError, UnavailableError

BINARY = "tensorflow_model_server"
SECONDS = 1800.0
"""How long a server may take to start, and then to load a model, as long as its process runs."""
_SEEN_SECONDS = 60.0
_NOT_LOADED = "did not become available"  # TensorFlow Serving's last words when it cannot load a model at its start
# Asks Linux for a SIGTERM when the parent ends, also if that is killed (PR_SET_PDEATHSIG), and becomes the server.
_END_WITH_PARENT = """
import ctypes, os, sys
prctl = getattr(ctypes.CDLL(None), "prctl", None)
if prctl:
    prctl(1, 15)
os.execvp(sys.argv[1], sys.argv[1:])
"""


class ModelServer:
    """A running server at `address`. `process` and `log` are None if this process did not start it."""

    def __init__(self, address: str, process: subprocess.Popen[bytes] | None = None, log: Path | None = None) -> None:
        self.address, self.process, self.log = address, process, log

    def ended(self, wait: float = 0) -> str | None:
        """A sentence about how the process ended, with the last line of its log; None if it has not ended.

        Args:
            wait: seconds in which it may end: a caller sees the end of a connection before that of the process.
        """
        end = time.monotonic() + wait
        while (code := self.process.poll() if self.process else None) is None and time.monotonic() < end:
            time.sleep(0.05)
        if code is None or self.log is None:
            return None
        reason = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return f"it ended {reason}; the last line of its log: {lines[-1] if lines else 'none'}"

    def stop(self) -> int:
        """Sends SIGTERM, waits until the running requests have finished, and returns the exit code."""
        assert self.process is not None
        self.process.terminate()
        try:
            return self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def server_kind() -> str:
    """The server that `model_server` starts: the path of TensorFlow Serving, or the stand-in."""
    return shutil.which(BINARY) or "serving.model_server, the stand-in"


@contextmanager
def model_server(flags: Sequence[str], log: Path, *, real: bool = True) -> Iterator[ModelServer]:
    """Runs a model server on a free port of this machine, without GPUs, while the block runs.

    Args:
        flags: the flags of tensorflow_model_server, without the port.
        log: the file for the output of the server.
        real: use TensorFlow Serving if it is on PATH.

    Raises:
        ServerError: TensorFlow Serving ended because a model cannot be loaded.
        UnavailableError: the server ended, or did not listen in time. TensorFlow Serving loads its models before.
    """
    binary = shutil.which(BINARY) if real else None
    # By default TensorFlow Serving loads a broken version six times, one minute apart, before it reports the error.
    command = [binary, "--max_num_load_retries=0"] if binary else [sys.executable, "-m", "serving.model_server"]
    port = free_port()
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "-1",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]),
    }
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", _END_WITH_PARENT, *command, f"--port={port}", *flags],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
        )
    server = ModelServer(f"localhost:{port}", process, log)
    try:
        try:
            _wait(server, "The model server did not start", lambda: _listens(port))
        except ServerError as error:
            if _NOT_LOADED in str(error):
                raise
            raise UnavailableError(str(error)) from None
        yield server
    finally:
        server.stop()


def wait_until_available(server: ModelServer, model: str, version: int | None = None) -> None:
    """Waits until `version` of `model` is available, or its newest one.

    Raises:
        ServerError: the version cannot be loaded, or the server ended.
        UnavailableError: `SECONDS` are over; or a server that this process did not start cannot be reached, or has not
            found the version in `_SEEN_SECONDS`.
    """
    seen = time.monotonic() + _SEEN_SECONDS

    def available() -> bool:
        try:
            newest = client.status()[-1]
        except NotFoundError as error:
            if server.process is None and time.monotonic() > seen:
                raise UnavailableError(f"{error} Does the server see the folder of the model?") from None
            return False
        except (UnavailableError, DeadlineError):
            if server.process is None:
                raise
            return False  # it is busy with loading, or `_wait` will see that it has ended
        if newest.state == "END":
            raise ServerError(f"{model} could not be served: {newest.error or 'its version has ended'}")
        return newest.state == "AVAILABLE"

    with Client(server.address, model=model, version=version) as client:
        _wait(server, f"{model} could not be served", available)


def _wait(server: ModelServer, failure: str, ready: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if ended := server.ended():
            raise ServerError(f"{failure}: {ended}")
        if ready():
            return
        time.sleep(0.05)
    raise UnavailableError(f"{failure} within {SECONDS:.0f} s; see {server.log or 'its log'}.")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("localhost", port)) == 0


def free_port() -> int:
    """A free TCP port of this machine."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])
