"""Real models on disk, the stand-in as a process of its own, and a server in this one whose answers a test chooses."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataResponse
from tensorflow_serving.apis.model_service_pb2_grpc import ModelServiceServicer, add_ModelServiceServicer_to_server
from tensorflow_serving.apis.predict_pb2 import PredictResponse
from tensorflow_serving.apis.prediction_service_pb2_grpc import (
    PredictionServiceServicer,
    add_PredictionServiceServicer_to_server,
)

from components.settings import Image, Model
from components.transform import preprocessing_fn
from data.features import IMAGE, LABEL
from serving.client import Client
from serving.launch import ModelServer, model_server
from serving.tensors import fill
from tests.serving.clients import Awaited, Connect
from tests.serving.rpc import Rpc, watching

Writer = Callable[..., Path]
Serve = Callable[..., ModelServer]

CLASSIFY = "classify_x_to_y"


@pytest.fixture(scope="session")
def half_plus_two(tmp_path_factory: pytest.TempPathFactory) -> Writer:
    """TF Serving's toy model: half_plus_two(base, version, add=2.0) writes base/version, which answers x / 2 + add.

    `serving_default` takes `x` float32 [N] to `y`; `classify_x_to_y` is a Classify signature over tf.Examples with `x`.
    """
    made: dict[float, Path] = {}

    def write(base: Path, version: int, add: float = 2.0) -> Path:
        if add not in made:
            made[add] = tmp_path_factory.mktemp("half_plus_two")
            _save_half_plus_two(made[add], add)
        return _publish(made[add], base / str(version))

    return write


def _save_half_plus_two(folder: Path, add: float) -> None:
    module = tf.Module()
    module.half, module.add = tf.Variable(0.5), tf.Variable(add)
    spec = {"x": tf.io.FixedLenFeature([1], tf.float32)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")], autograph=False)
    def predict(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x * module.half + module.add}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")], autograph=False)
    def classify(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"scores": tf.io.parse_example(inputs, spec)["x"] * module.half + module.add}

    tf.saved_model.save(module, str(folder), signatures={"serving_default": predict, CLASSIFY: classify})
    updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(str(folder))
    updater.replace_method_name(CLASSIFY, tf.compat.v1.saved_model.CLASSIFY_METHOD_NAME, tags="serve")
    updater.save()


@pytest.fixture(scope="session")
def digit_model(tmp_path_factory: pytest.TempPathFactory) -> Writer:
    """This project's SavedModel of random weights: digit_model(base, version, seed=0) writes base/version.

    It answers any of the ten classes; other seeds answer otherwise.
    """
    folder = tmp_path_factory.mktemp("digit_models")
    _analyze(folder / "transform")
    transform = tft.TFTransformOutput(str(folder / "transform"))

    def write(base: Path, version: int, seed: int = 0) -> Path:
        from components.trainer.export import export
        from components.trainer.model import build_network

        made = folder / str(seed)
        if not made.exists():
            generator = np.random.default_rng(seed)
            shapes = [array.shape for array in build_network(Model(units=16), Image()).get_weights()]
            weights = [generator.normal(0, 0.7, shape).astype(np.float32) for shape in shapes]
            export(weights, transform, Model(units=16), Image(), str(made))
        return _publish(made, base / str(version))

    return write


def _analyze(folder: Path) -> None:
    """Writes what the step Transform writes; `preprocessing_fn` needs no pass over the data."""
    from tensorflow_transform import impl_helper
    from tensorflow_transform.tf_metadata import metadata_io
    from tensorflow_transform.tf_metadata.dataset_metadata import DatasetMetadata

    image = Image()
    raw = {IMAGE: tf.io.FixedLenFeature([1], tf.string), LABEL: tf.io.FixedLenFeature([1], tf.int64)}
    impl_helper.analyze_in_place(
        lambda inputs: preprocessing_fn(inputs, {"rows": image.rows, "columns": image.columns}),
        False,
        raw,
        {name: tf.TensorSpec([None, 1], feature.dtype) for name, feature in raw.items()},
        str(folder),
    )
    metadata_io.write_metadata(
        DatasetMetadata.from_feature_spec(raw), str(folder / tft.TFTransformOutput.RAW_METADATA_DIR)
    )


def _publish(made: Path, folder: Path) -> Path:
    """Copies a model so that a running server sees all of it or nothing."""
    copied = shutil.copytree(made, folder.parent / f".{folder.name}")
    return Path(copied).rename(folder)


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Starts the stand-in on a free port: serve(*flags) gives a running ModelServer; all end with the session."""
    with ExitStack() as stack:

        def serve(*flags: str) -> ModelServer:
            log = tmp_path_factory.mktemp("server") / "log.txt"
            return stack.enter_context(model_server(flags, log, real=False))

        yield serve


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory, digit_model: Writer, half_plus_two: Writer) -> Path:
    """A folder with the base paths `mnist` (versions 1 and 2) and `half_plus_two` (version 7)."""
    base = tmp_path_factory.mktemp("models")
    digit_model(base / "mnist", 1, seed=1)
    digit_model(base / "mnist", 2, seed=2)
    half_plus_two(base / "half_plus_two", 7)
    return base


@pytest.fixture(scope="session")
def config_text(models: Path) -> str:
    """A ModelServerConfig of both, with all versions of `mnist`; 1 is labelled stable, 2 canary."""
    return f"""model_config_list {{
      config {{
        name: "mnist" base_path: "{models / "mnist"}" model_platform: "tensorflow"
        model_version_policy {{ all {{}} }}
        version_labels {{ key: "stable" value: 1 }}
        version_labels {{ key: "canary" value: 2 }}
      }}
      config {{ name: "half_plus_two" base_path: "{models / "half_plus_two"}" model_platform: "tensorflow" }}
    }}"""


@pytest.fixture(scope="session")
def server(serve: Serve, config_text: str, tmp_path_factory: pytest.TempPathFactory) -> ModelServer:
    """The stand-in with `config_text`, for tests that change nothing."""
    config = tmp_path_factory.mktemp("config") / "models.config"
    config.write_text(config_text)
    return serve(
        f"--model_config_file={config}",
        "--file_system_poll_wait_seconds=0",
        "--allow_version_labels_for_unavailable_models",
    )


class Fake(PredictionServiceServicer, ModelServiceServicer):
    """A servicer of tensorflow-serving-api: Predict answers by `answers`, the last for good; keeps what arrived."""

    def __init__(self, *answers: Callable[[Any, Any], Any]) -> None:
        self.answers, self.lock = list(answers), threading.Lock()
        self.requests: list[Any] = []
        self.remaining: list[float | None] = []
        self.attempts: list[str] = []

    def Predict(self, request: Any, context: grpc.ServicerContext) -> Any:
        with self.lock:
            self.requests.append(request)
            self.remaining.append(context.time_remaining())
            self.attempts.append(dict(context.invocation_metadata()).get("grpc-previous-rpc-attempts", "0"))
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return answer(request, context)

    def GetModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.requests.append(request)
        return GetModelMetadataResponse()


def ids_of(request: Any, write: Callable[[Any, np.ndarray], None]) -> Any:
    """An answer whose classes are the first pixels of the images that were sent."""
    images = tf.make_ndarray(request.inputs["images"])
    response = PredictResponse()
    response.model_spec.version.value = 5
    write(response.outputs["class_ids"], images[:, 0, 0].astype(np.int64))
    write(response.outputs["probabilities"], np.eye(10, dtype=np.float32)[images[:, 0, 0] % 10])
    return response


def by_field(request: Any, context: Any) -> Any:
    return ids_of(request, fill)


def by_content(request: Any, context: Any) -> Any:
    def write(proto: Any, array: np.ndarray) -> None:
        proto.CopyFrom(tf.make_tensor_proto(array))
        if array.size > 1:
            assert proto.tensor_content

    return ids_of(request, write)


def refuse(code: grpc.StatusCode, details: str = "no") -> Callable[[Any, Any], Any]:
    return lambda request, context: context.abort(code, details)


@contextmanager
def listening(fake: Fake, port: int = 0, credentials: grpc.ServerCredentials | None = None) -> Iterator[str]:
    """The address of a server that `fake` answers for."""
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
    add_PredictionServiceServicer_to_server(fake, server)
    add_ModelServiceServicer_to_server(fake, server)
    address = f"localhost:{port}"
    bound = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    server.start()
    try:
        yield f"localhost:{bound}"
    finally:
        server.stop(0).wait()


@pytest.fixture(params=[Client, Awaited], ids=["blocking", "asyncio"])
def connect(request: pytest.FixtureRequest) -> Connect:
    """`Client`, and `AsyncClient` behind the same methods."""
    return request.param


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ModelServer, Rpc]]:
    with watching(tmp_path_factory.mktemp("empty")) as running:
        yield running


@pytest.fixture
def rpc(running: tuple[ModelServer, Rpc]) -> Rpc:
    """Nothing is served yet: every test reloads a config of its own."""
    running[1].reload("model_config_list {}")
    return running[1]
