"""The stubs of tensorflow-serving-api, and helpers for requests, configs and errors."""

from __future__ import annotations

import os
import re
import select
import time
from collections.abc import Callable, Sequence
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
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest
from tensorflow_serving.config import model_server_config_pb2

from serving.launch import ModelServer

PREDICTION = "tensorflow.serving.PredictionService"
ALL = "model_version_policy { all {} }"
FIELDS = {
    "f": "float_val", "d": "double_val", "l": "int64_val", "?": "bool_val", "O": "string_val", "e": "half_val",
    "I": "uint32_val", "L": "uint64_val",
}  # fmt: skip
"""The field of a TensorProto for the elements of a dtype, by its character; int_val for all others."""


class Rpc:
    """One channel to a server. A stopping server waits until it is closed."""

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
        """The answer of half_plus_two to one x, and the version."""
        response = self.predict({"x": [x]}, **spec)
        (y,) = tf.make_ndarray(response.outputs["y"])
        return float(y), response.model_spec.version.value

    def classify(self, examples: Sequence[tf.train.Example], **spec: Any) -> Any:
        request = classification_pb2.ClassificationRequest(model_spec=model_spec(**spec))
        request.input.example_list.examples.extend(examples)
        return self.prediction.Classify(request, timeout=60)

    def metadata(self, **spec: Any) -> Any:
        request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=model_spec(**spec))
        return self.prediction.GetModelMetadata(request, timeout=60)

    def status(self, **spec: Any) -> dict[int, tuple[str, str]]:
        """State and error of each version."""
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=model_spec(**spec))
        states = get_model_status_pb2.ModelVersionStatus.State
        return {
            entry.version: (states.Name(entry.state), entry.status.error_message)
            for entry in self.model.GetModelStatus(request, timeout=60).model_version_status
        }

    def states(self, **spec: Any) -> dict[int, str]:
        """State of each version."""
        return {version: state for version, (state, _) in self.status(**spec).items()}

    def reload(self, config: str) -> Any:
        return self.model.HandleReloadConfigRequest(ReloadConfigRequest(config=parsed(config)), timeout=60)

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


def parsed(config: str) -> Any:
    """The ModelServerConfig of a text."""
    return text_format.Parse(config, model_server_config_pb2.ModelServerConfig())


def fill(proto: Any, array: np.ndarray) -> None:
    """Writes an array as TensorFlow Serving does: each element into the field of its type."""
    proto.dtype = tf.as_dtype(array.dtype).as_datatype_enum
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    elements = array.view(np.uint16) if array.dtype == np.float16 else array
    getattr(proto, FIELDS.get(array.dtype.char, "int_val")).extend(elements.ravel().tolist())


def refusal(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    """The status code and the details of a call that fails."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), caught.value.details()


def until(holds: Callable[[], object], seconds: float = 40) -> None:
    """Waits until a condition is true."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "the condition did not become true"
        time.sleep(0.02)


def config_of(*models: str) -> str:
    """A ModelServerConfig in text format."""
    return "model_config_list {" + "".join(f" config {{ {model} }}" for model in models) + " }"


def model_of(name: str, base: Path, rest: str = "") -> str:
    """A ModelConfig in text format."""
    return f'name: "{name}" base_path: "{base}" model_platform: "tensorflow" {rest}'


class Held:
    """A Predict of the model of `save_odd` that the server has begun to answer. It ends after `release`."""

    def __init__(self, rpc: Rpc, folder: Path, name: str = "odd") -> None:
        paths = [folder / "begin", folder / "end"]
        for path in paths:
            os.mkfifo(path)
        request = predict_request({"paths": np.array([*map(bytes, paths)], object)}, name=name, signature_name="wait")
        self.future = rpc.prediction.Predict.future(request, timeout=60)
        self._end = paths[1]
        _read(paths[0])

    def release(self) -> Any:
        """Ends the request and returns the response."""
        assert not self.future.done()
        _read(self._end)
        return self.future.result()


def _read(fifo: Path) -> None:
    """Waits until a FIFO has been written."""
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    written, _, _ = select.select([reader], [], [], 40)
    os.close(reader)
    assert written, "nobody has written"


def rss(server: ModelServer) -> float:
    """The memory of a server process in MiB."""
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    (kibibytes,) = re.findall(r"VmRSS:\s+(\d+) kB", status)
    return int(kibibytes) / 1024


def available(rpc: Rpc, name: str = "half_plus_two") -> set[int]:
    """The available versions."""
    return {version for version, state in rpc.states(name=name).items() if state == "AVAILABLE"}
