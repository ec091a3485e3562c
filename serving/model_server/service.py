"""The gRPC services PredictionService and ModelService, with the messages of TensorFlow Serving."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Any

import grpc
import numpy as np
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    predict_pb2,
)

from serving.model_server.manager import Manager
from serving.model_server.servable import Servable, Signature, decode_examples
from serving.model_server.status import StatusError, invalid, refuse
from serving.tensors import fill

PREDICTION_SERVICE, MODEL_SERVICE = "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"
_QUIET_SECONDS, _MAX_QUIET_SECONDS = 0.1, 1.0

log = logging.getLogger(__name__)


class Services:
    """Answers the RPCs. Every RPC ends with a status, whatever the request contains.

    Args:
        manager: the models.
        executor: the threads that run the models.
    """

    def __init__(self, manager: Manager, executor: Executor) -> None:
        self._manager, self._executor = manager, executor
        self._reloads: set[asyncio.Future[None]] = set()
        self._accepting, self._in_flight, self._last_arrival = True, 0, time.monotonic()

    def register(self, server: grpc.aio.Server) -> None:
        """Adds both services to `server`. gRPC answers all other methods with UNIMPLEMENTED."""
        for service, methods in (
            (
                PREDICTION_SERVICE,
                {
                    "Predict": (predict_pb2.PredictRequest, self._predict),
                    "Classify": (classification_pb2.ClassificationRequest, self._classify),
                    "GetModelMetadata": (get_model_metadata_pb2.GetModelMetadataRequest, self._model_metadata),
                },
            ),
            (
                MODEL_SERVICE,
                {
                    "GetModelStatus": (get_model_status_pb2.GetModelStatusRequest, self._model_status),
                    "HandleReloadConfigRequest": (model_management_pb2.ReloadConfigRequest, self._reload),
                },
            ),
        ):
            handlers = {
                # The handler parses the request, so that it can answer INVALID_ARGUMENT for bytes that do not parse.
                name: grpc.unary_unary_rpc_method_handler(
                    self._handler(name, message, method), response_serializer=lambda m: m.SerializeToString()
                )
                for name, (message, method) in methods.items()
            }
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))

    async def drain(self, seconds: float) -> None:
        """Refuses new requests with UNAVAILABLE and waits until the running ones are answered, at most `seconds`."""
        self._accepting = False
        end = time.monotonic() + seconds
        while self._in_flight and time.monotonic() < end:
            await asyncio.sleep(0.01)
        # gRPC cancels an RPC that arrives at the moment of the stop, so wait for a moment without one.
        end = time.monotonic() + _MAX_QUIET_SECONDS
        while time.monotonic() < min(end, self._last_arrival + _QUIET_SECONDS):
            await asyncio.sleep(0.01)

    def _handler(self, name: str, message: Any, method: Callable[[Any], Awaitable[Any]]) -> Callable[..., Any]:
        async def handle(content: bytes, context: grpc.aio.ServicerContext) -> Any:
            self._last_arrival = time.monotonic()
            self._in_flight += 1
            try:
                if not self._accepting:
                    raise StatusError(grpc.StatusCode.UNAVAILABLE, "The server is stopping")
                try:
                    request = message.FromString(content)
                except DecodeError:
                    raise invalid(f"The request is not a {message.DESCRIPTOR.full_name}") from None
                if message is not model_management_pb2.ReloadConfigRequest and not request.HasField("model_spec"):
                    raise invalid("Missing ModelSpec")
                return await method(request)
            except StatusError as status:
                code, details = status.code, str(status)
            except Exception:
                log.exception("%s failed.", name)
                code, details = grpc.StatusCode.INTERNAL, "The server failed; see its log."
            finally:
                self._in_flight -= 1
            refuse(context, code, details)
            return None

        return handle

    async def _run(self, signature: Signature, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return await asyncio.get_running_loop().run_in_executor(self._executor, signature.run, inputs)

    async def _predict(self, request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
        with self._manager.use(request.model_spec) as servable:
            signature = servable.predict_signature(request.model_spec.signature_name)
            names = signature.select_outputs(request.output_filter)
            outputs = await self._run(signature, signature.decode_inputs(request.inputs))
            response = predict_pb2.PredictResponse()
            _fill_model_spec(response.model_spec, servable, signature.name)
            for name in names:
                fill(response.outputs[name], outputs[name])
            return response

    async def _classify(
        self, request: classification_pb2.ClassificationRequest
    ) -> classification_pb2.ClassificationResponse:
        with self._manager.use(request.model_spec) as servable:
            signature = servable.classify_signature(request.model_spec.signature_name)
            inputs = decode_examples(request)
            outputs = await self._run(signature, inputs)
            response = classification_pb2.ClassificationResponse()
            _fill_model_spec(response.model_spec, servable, signature.name)
            count = len(inputs["inputs"])
            _fill_classifications(response.result, count, outputs.get("classes"), outputs.get("scores"))
            return response

    async def _model_metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for name in request.metadata_field:
            if name != "signature_def":
                raise invalid(f"Metadata field {name} is not supported")
        with self._manager.use(request.model_spec) as servable:
            signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=servable.definitions)
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            _fill_model_spec(response.model_spec, servable, "")
            response.metadata["signature_def"].Pack(signatures)
            return response

    async def _model_status(
        self, request: get_model_status_pb2.GetModelStatusRequest
    ) -> get_model_status_pb2.GetModelStatusResponse:
        response = get_model_status_pb2.GetModelStatusResponse()
        for number, version in sorted(self._manager.versions(request.model_spec).items(), reverse=True):
            entry = response.model_version_status.add(version=number, state=version.state)
            if version.error:
                entry.status.error_code = grpc.StatusCode.UNKNOWN.value[0]
                entry.status.error_message = version.error
        return response

    async def _reload(
        self, request: model_management_pb2.ReloadConfigRequest
    ) -> model_management_pb2.ReloadConfigResponse:
        # The reload goes on when the caller cancels the RPC.
        reload = asyncio.ensure_future(self._manager.apply(request.config))
        self._reloads.add(reload)
        reload.add_done_callback(self._reloads.discard)
        await asyncio.shield(reload)
        response = model_management_pb2.ReloadConfigResponse()
        response.status.SetInParent()
        return response


def _fill_model_spec(spec: Any, servable: Servable, signature: str) -> None:
    spec.name, spec.signature_name = servable.name, signature
    spec.version.value = servable.version


def _fill_classifications(result: Any, count: int, classes: np.ndarray | None, scores: np.ndarray | None) -> None:
    """Adds one Classifications for each of `count` examples; `classes` string and `scores` float32 are [N, classes].

    Raises:
        StatusError: INVALID_ARGUMENT for outputs of another dtype or shape.
    """
    found = [(name, array) for name, array in (("classes", classes), ("scores", scores)) if array is not None]
    for name, array in found:
        dtype = np.dtype(object if name == "classes" else np.float32)
        if array.dtype != dtype:
            kind = "DT_STRING" if name == "classes" else "DT_FLOAT"
            raise invalid(f"Expected {name} Tensor of {kind}. Was: {array.dtype}")
        if array.ndim != 2 or array.shape[0] != count:
            raise invalid(f"Expected {name} of shape: [batch_size num_classes] but got {list(array.shape)}")
    width = found[0][1].shape[1]
    if width != found[-1][1].shape[1]:
        raise invalid("Tensors class and score should match in num_classes")
    for row in range(count):
        entries = result.classifications.add().classes
        for column in range(width):
            entry = entries.add()
            if classes is not None:
                entry.label = classes[row, column].decode("utf-8", "replace")
            if scores is not None:
                entry.score = scores[row, column]
