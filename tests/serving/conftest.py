"""Models on disk, the stand-in as a process, and a fake server whose answers a test chooses."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataResponse, SignatureDefMap
from tensorflow_serving.apis.model_service_pb2_grpc import ModelServiceServicer, add_ModelServiceServicer_to_server
from tensorflow_serving.apis.predict_pb2 import PredictResponse
from tensorflow_serving.apis.prediction_service_pb2_grpc import (
    PredictionServiceServicer,
    add_PredictionServiceServicer_to_server,
)

from serving.client import Client
from serving.launch import ModelServer, model_server
from tests.conftest import MNIST, read_images
from tests.serving.clients import BlockingAsyncClient, Connect
from tests.serving.models import save_digits, save_half_plus_two, save_odd
from tests.serving.rpc import Rpc, config_of, fill, model_of

Writer = Callable[..., Path]


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """The first test digits, uint8 [1000, 28, 28]."""
    return np.asarray(read_images(MNIST, "test", count=1000).pixels)


@pytest.fixture(scope="session")
def digit() -> np.ndarray:
    """A seven, uint8 [28, 28]."""
    return np.asarray(Image.open(MNIST / "seven.png"))


@pytest.fixture(scope="session")
def half_plus_two(tmp_path_factory: pytest.TempPathFactory) -> Writer:
    """half_plus_two(base, version, add=2.0) writes a model that answers x / 2 + add to base/version."""
    saved: dict[float, Path] = {}

    def write(base: Path, version: int, add: float = 2.0) -> Path:
        if add not in saved:
            saved[add] = tmp_path_factory.mktemp("half_plus_two")
            save_half_plus_two(saved[add], add)
        return publish(saved[add], base / str(version))

    return write


@pytest.fixture(scope="session")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Writer:
    """odd(base, version) writes the model of `save_odd` to base/version."""
    saved = tmp_path_factory.mktemp("odd")
    save_odd(saved)
    return lambda base, version: publish(saved, base / str(version))


def publish(saved: Path, folder: Path) -> Path:
    """Copies a model so that a running server sees all of its files or none."""
    copied = shutil.copytree(saved, folder.parent / f".{folder.name}")
    return Path(copied).rename(folder)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory, half_plus_two: Writer, odd: Writer) -> Path:
    """A folder with the base paths `mnist` (versions 1 and 2), `half_plus_two` (7) and `odd` (1)."""
    base = tmp_path_factory.mktemp("models")
    for version in (1, 2):
        save_digits(base / "mnist" / str(version), seed=version)
    half_plus_two(base / "half_plus_two", 7)
    odd(base / "odd", 1)
    return base


@pytest.fixture(scope="session")
def config_text(models: Path) -> str:
    """A ModelServerConfig of these models, with all versions; version 1 of `mnist` is labelled stable, 2 canary."""
    labels = """model_version_policy { all {} }
      version_labels { key: "stable" value: 1 }
      version_labels { key: "canary" value: 2 }
    """
    return config_of(
        model_of("mnist", models / "mnist", labels),
        model_of("half_plus_two", models / "half_plus_two"),
        model_of("odd", models / "odd"),
    )


def check_log(log: Path) -> None:
    """Fails if an RPC of the stand-in has ended with an exception; gRPC also logs the methods that it does not have."""
    assert not re.search("Exception calling application: (?!Method not implemented)", log.read_text())


@pytest.fixture(scope="session")
def server(config_text: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    """The stand-in with `config_text`, for tests that change nothing."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "models.config").write_text(config_text)
    with model_server([f"--model_config_file={folder / 'models.config'}"], folder / "log", real=False) as server:
        yield server
    check_log(folder / "log")


@pytest.fixture(scope="session")
def changing_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    """The stand-in with an empty folder and a short poll, for tests that change what it serves."""
    folder = tmp_path_factory.mktemp("empty")
    flags = ["--model_name=none", f"--model_base_path={folder}", "--file_system_poll_wait_seconds=0.05"]
    log = tmp_path_factory.mktemp("changing") / "log"
    with model_server(flags, log, real=False) as server:
        yield server
    check_log(log)


@pytest.fixture(scope="session")
def changing_rpc(changing_server: ModelServer) -> Iterator[Rpc]:
    with Rpc(changing_server.address) as rpc:
        yield rpc


@pytest.fixture
def rpc(changing_rpc: Rpc) -> Rpc:
    """The stubs of `changing_server`. It serves nothing: each test reloads its own config."""
    changing_rpc.reload("model_config_list {}")
    return changing_rpc


@pytest.fixture
def fast_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients make their five attempts in less than a second."""
    monkeypatch.setattr("serving.client.channel.BACKOFF", [0.01, 0.02, 0.05, 0.05])


class Fake(PredictionServiceServicer, ModelServiceServicer):
    """A servicer of tensorflow-serving-api. Each Predict uses the next of `answers`, then always the last one."""

    def __init__(self, *answers: Callable[[Any, Any], Any]) -> None:
        self.answers, self.lock = list(answers), threading.Lock()
        self.requests: list[Any] = []
        self.remaining: list[float | None] = []

    def Predict(self, request: Any, context: grpc.ServicerContext) -> Any:
        with self.lock:
            self.requests.append(request)
            self.remaining.append(context.time_remaining())
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return answer(request, context)

    def GetModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.requests.append(request)
        response = GetModelMetadataResponse()
        response.metadata["signature_def"].Pack(SignatureDefMap())
        return response


def ids_of(request: Any, write: Callable[[Any, np.ndarray], None]) -> Any:
    """A response whose classes are the first pixels of the images."""
    images = tf.make_ndarray(request.inputs["images"])
    response = PredictResponse()
    response.model_spec.version.value = 5
    write(response.outputs["class_ids"], images[:, 0, 0].astype(np.int64))
    write(response.outputs["probabilities"], np.eye(256, dtype=np.float32)[images[:, 0, 0]])
    return response


def by_field(request: Any, context: Any) -> Any:
    """`ids_of` with the elements in the field of their type."""
    return ids_of(request, fill)


def by_content(request: Any, context: Any) -> Any:
    """`ids_of` with the elements in tensor_content."""

    def write(proto: Any, array: np.ndarray) -> None:
        proto.CopyFrom(tf.make_tensor_proto(array))
        if array.size > 1:
            assert proto.tensor_content

    return ids_of(request, write)


def refuse(code: grpc.StatusCode, details: str = "no") -> Callable[[Any, Any], Any]:
    """An answer that fails with a status."""
    return lambda request, context: context.abort(code, details)


@contextmanager
def listening(
    fake: Fake, port: int = 0, credentials: grpc.ServerCredentials | None = None, host: str = "localhost"
) -> Iterator[str]:
    """Runs a server with the servicer `fake` and yields its address, which is on localhost."""
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
    add_PredictionServiceServicer_to_server(fake, server)
    add_ModelServiceServicer_to_server(fake, server)
    address = f"{host}:{port}"
    bound = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    server.start()
    try:
        yield f"localhost:{bound}"
    finally:
        server.stop(0).wait()


@pytest.fixture(params=[Client, BlockingAsyncClient], ids=["blocking", "asyncio"])
def connect(request: pytest.FixtureRequest) -> Connect:
    """`Client`, and `AsyncClient` with the same blocking methods."""
    return request.param
