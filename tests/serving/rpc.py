"""A model server asked through tensorflow-serving-api's stubs, and a model of odd signatures to ask for."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)
from tensorflow_serving.config import model_server_config_pb2

from serving.launch import ModelServer, model_server

PREDICTION, MODEL = "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"
ALL = "model_version_policy { all {} }"


class Rpc:
    """One channel to a server. Close it before the server stops, which else waits for it."""

    def __init__(self, address: str, credentials: grpc.ChannelCredentials | None = None) -> None:
        options = [("grpc.max_receive_message_length", -1)]
        self.channel = (
            grpc.insecure_channel(address, options)
            if credentials is None
            else grpc.secure_channel(address, credentials, options)
        )
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.model = model_service_pb2_grpc.ModelServiceStub(self.channel)
        self._health = health_pb2_grpc.HealthStub(self.channel)

    def __enter__(self) -> Rpc:
        return self

    def __exit__(self, *error: object) -> None:
        self.channel.close()

    def predict(self, inputs: dict[str, Any], output_filter: Sequence[str] = (), **spec: Any) -> Any:
        return self.prediction.Predict(predict_request(inputs, output_filter, **spec), timeout=60)

    def half(self, x: float, **spec: Any) -> tuple[float, int]:
        """What half_plus_two makes of one x, and the version that did."""
        response = self.predict({"x": [x]}, **spec)
        (y,) = response.outputs["y"].float_val
        return y, response.model_spec.version.value

    def classify(self, examples: Sequence[tf.train.Example], **spec: Any) -> Any:
        request = classification_pb2.ClassificationRequest(model_spec=model_spec(**spec))
        request.input.example_list.examples.extend(examples)
        return self.prediction.Classify(request, timeout=60)

    def metadata(self, *fields: str, **spec: Any) -> Any:
        request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=model_spec(**spec), metadata_field=fields)
        return self.prediction.GetModelMetadata(request, timeout=60)

    def status(self, **spec: Any) -> dict[int, tuple[str, str]]:
        """The state and the error of each version."""
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=model_spec(**spec))
        states = get_model_status_pb2.ModelVersionStatus.State
        return {
            entry.version: (states.Name(entry.state), entry.status.error_message)
            for entry in self.model.GetModelStatus(request, timeout=60).model_version_status
        }

    def states(self, **spec: Any) -> dict[int, str]:
        return {version: state for version, (state, _) in self.status(**spec).items()}

    def reload(self, config: str, timeout: float = 60) -> Any:
        request = model_management_pb2.ReloadConfigRequest(
            config=text_format.Parse(config, model_server_config_pb2.ModelServerConfig())
        )
        return self.model.HandleReloadConfigRequest(request, timeout=timeout)

    def health(self, service: str = "") -> str:
        answer = self._health.Check(health_pb2.HealthCheckRequest(service=service), timeout=60)
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))

    def raw(self, content: bytes, method: str = f"/{PREDICTION}/Predict") -> bytes:
        return bytes(self.channel.unary_unary(method)(content, timeout=60))


def model_spec(name: str = "half_plus_two", **rest: Any) -> model_pb2.ModelSpec:
    """ModelSpec(name, signature_name=…, version_label=…), with `version` as a number."""
    version = rest.pop("version", None)
    spec = model_pb2.ModelSpec(name=name, **rest)
    if version is not None:
        spec.version.value = version
    return spec


def predict_request(inputs: dict[str, Any], output_filter: Sequence[str] = (), **spec: Any) -> Any:
    """A PredictRequest; lists become float tensors."""
    request = predict_pb2.PredictRequest(model_spec=model_spec(**spec), output_filter=output_filter)
    for name, value in inputs.items():
        tensor = tf.make_tensor_proto(value, tf.float32) if isinstance(value, list) else tf.make_tensor_proto(value)
        request.inputs[name].CopyFrom(tensor)
    return request


def refusal(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    """The code and the words of a call that fails."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), caught.value.details()


def until(holds: Callable[[], object], seconds: float = 40) -> None:
    """Waits until a condition holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)


def config_of(*models: str) -> str:
    return "model_config_list {" + "".join(f" config {{ {model} }}" for model in models) + " }"


def model_of(name: str, base: Path, rest: str = "") -> str:
    return f'name: "{name}" base_path: "{base}" model_platform: "tensorflow" {rest}'


def save_odd(folder: Path) -> None:
    """A SavedModel with signatures that tell more of a server than half_plus_two does."""
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec(None, tf.float32, "x")], autograph=False)
    def any_rank(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x / 2 + 2}

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, "x")], autograph=False)
    def types(x: tf.Tensor) -> dict[str, tf.Tensor]:
        kinds = (tf.float64, tf.int32, tf.int64, tf.uint8, tf.float16, tf.bool)
        return {kind.name: tf.cast(x, kind) for kind in kinds} | {"string": tf.strings.as_string(tf.cast(x, tf.int32))}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "words")], autograph=False)
    def join(words: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"joined": tf.strings.reduce_join(words), "lengths": tf.strings.length(words)}

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.float32, "a"), tf.TensorSpec([None], tf.float32, "b")],
        autograph=False,
    )
    def add(a: tf.Tensor, b: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"sum": a + b}

    @tf.function(input_signature=[tf.TensorSpec([], tf.int32, "rounds")], autograph=False)
    def work(rounds: tf.Tensor) -> dict[str, tf.Tensor]:
        start = tf.ones([200, 200])
        _, end = tf.while_loop(
            lambda count, _: count < rounds, lambda count, m: (count + 1, m @ m / 200), (tf.constant(0), start)
        )
        return {"ones": tf.reduce_mean(end)}

    functions = {"serving_default": any_rank, "types": types, "join": join, "add": add, "work": work}
    tf.saved_model.save(module, str(folder), signatures=functions)


def write_warmup(folder: Path, name: str, signature: str, rounds: int) -> None:
    """Makes the signature `work` of `save_odd` the version's warm-up request."""
    log = prediction_log_pb2.PredictionLog()
    inputs = {"rounds": np.int32(rounds)}
    log.predict_log.request.CopyFrom(predict_request(inputs, name=name, signature_name=signature))
    (folder / "assets.extra").mkdir()
    with tf.io.TFRecordWriter(str(folder / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        writer.write(log.SerializeToString())


def rss(server: ModelServer) -> float:
    """MiB of memory that a server's process holds."""
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    (kibibytes,) = re.findall(r"VmRSS:\s+(\d+) kB", status)
    return int(kibibytes) / 1024


@contextmanager
def watching(folder: Path) -> Iterator[tuple[ModelServer, Rpc]]:
    """A server of an empty folder that looks for versions ten times a second."""
    flags = ["--model_name=none", f"--model_base_path={folder}", "--file_system_poll_wait_seconds=0.1"]
    with model_server(flags, folder.parent / "log", real=False) as server, Rpc(server.address) as rpc:
        yield server, rpc


def available(rpc: Rpc, name: str = "half_plus_two") -> set[int]:
    return {version for version, state in rpc.states(name=name).items() if state == "AVAILABLE"}
