"""The start of a server: how long it may take, and what is told when it fails."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import grpc
import pytest
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusResponse, ModelVersionStatus

from serving import errors, launch
from serving.launch import ModelServer, model_server, wait_until_available
from tests.serving.conftest import Fake, by_field, listening

FLAGS = ["--model_name=m", "--model_base_path=/models/m"]


@pytest.fixture
def binary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `tensorflow_model_server` on PATH that does what a test writes into it."""
    path = tmp_path / launch.BINARY
    path.touch(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return path


def test_a_server_that_lives_has_half_an_hour(binary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert launch.SECONDS >= 1800
    binary.write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(launch, "SECONDS", 1.0)
    with (
        pytest.raises(errors.UnavailableError, match=r"did not start within 1 s; see .*log"),
        model_server(FLAGS, tmp_path / "log"),
    ):
        pass


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        ("Failed to start server. Error: Unknown: 1 servable(s) did not become available: {}", errors.ServerError),
        ("Failed to start server. Error: UNKNOWN: 1 model(s) did not become available: {}", errors.ServerError),
        ("Failed to start server. Error: Failed to BuildAndStart gRPC server", errors.UnavailableError),
    ],
)
def test_a_model_that_the_real_server_cannot_load_is_not_a_server_that_is_not_there(
    last: str, kind: type[Exception], binary: Path, tmp_path: Path
) -> None:
    binary.write_text(f"#!/bin/sh\necho '{last}'\nexit 255\n")
    with pytest.raises(errors.ServingError) as raised, model_server(FLAGS, tmp_path / "log"):
        pass
    assert type(raised.value) is kind and last in str(raised.value) and "exit code 255" in str(raised.value)


class Loading(Fake):
    """Is too busy for the first status, then loads, then serves."""

    def __init__(self) -> None:
        super().__init__(by_field)
        self.asked = 0

    def GetModelStatus(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.asked += 1
        if self.asked <= 5:
            context.abort(grpc.StatusCode.UNAVAILABLE, "loading")
        if self.asked == 6:
            context.abort(grpc.StatusCode.NOT_FOUND, "no version yet")
        state = ModelVersionStatus.LOADING if self.asked < 9 else ModelVersionStatus.AVAILABLE
        response = GetModelStatusResponse()
        response.model_version_status.add(version=3, state=state)
        return response


def test_it_waits_for_a_server_that_is_busy_with_loading_while_its_process_lives(
    tmp_path: Path, fast_retries: None
) -> None:
    (tmp_path / "log").write_text("Loading.\n")
    loading = Loading()
    with listening(loading) as address, subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1) as process:
        server = ModelServer(address, process, tmp_path / "log")
        wait_until_available(server, "m")
        assert loading.asked == 9
        loading.asked = -1000
        threading.Timer(0.3, process.kill).start()
        with pytest.raises(errors.ServerError, match="m could not be served: it ended by signal SIGKILL"):
            wait_until_available(server, "m")


def test_a_server_elsewhere_that_does_not_see_the_version_is_not_waited_for(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "_SEEN_SECONDS", 0.2)
    elsewhere = ModelServer(server.address)
    wait_until_available(elsewhere, "mnist", 1)
    with pytest.raises(errors.UnavailableError, match=r"Version 9 .*Does the server see the folder of the model\?"):
        wait_until_available(elsewhere, "mnist", 9)
