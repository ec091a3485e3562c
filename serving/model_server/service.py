"""The gRPC services: PredictionService and ModelService, with TensorFlow Serving's words."""

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

from serving.model_server.batching import Arrays, Parameters, Queue
from serving.model_server.manager import Manager
from serving.model_server.metrics import Metrics
from serving.model_server.servable import Servable, Signature, examples_of
from serving.model_server.status import StatusError, invalid
from serving.tensors import fill

PREDICTION_SERVICE, MODEL_SERVICE = "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"
# gRPC sends the message as a header of at most 8 KiB, in which a byte may take three.
_LONGEST_MESSAGE = 2_000

log = logging.getLogger(__name__)


class Runner:
    """Runs signatures off the event loop, each request by itself or, with `batching`, in batches."""

    def __init__(self, executor: Executor, batching: Parameters | None) -> None:
        self._executor, self._batching = executor, batching
        self._threads = asyncio.Semaphore(batching.num_batch_threads if batching else 1)
        self._queues: dict[tuple[Servable, str], Queue] = {}

    async def run(self, servable: Servable, signature: Signature, inputs: Arrays) -> Arrays:
        """The outputs of `signature` for `inputs`."""
        loop = asyncio.get_running_loop()
        if self._batching is None:
            return await loop.run_in_executor(self._executor, signature.run, inputs)
        queue = self._queues.get((servable, signature.name))
        if queue is None:
            queue = Queue(
                lambda arrays: loop.run_in_executor(self._executor, signature.run, arrays),
                self._batching,
                self._threads,
            )
            self._queues[servable, signature.name] = queue
        return await queue.submit(inputs)

    def forget(self, servable: Servable) -> None:
        """Drops the queues of a servable that is unloaded."""
        for key in [key for key in self._queues if key[0] is servable]:
            del self._queues[key]


class Services:
    """The answers. Every RPC gets a status; nothing a request holds can end the server."""

    def __init__(self, manager: Manager, runner: Runner, metrics: Metrics) -> None:
        self._manager, self._runner, self._metrics = manager, runner, metrics
        self._changes: set[asyncio.Future[None]] = set()

    def register(self, server: grpc.aio.Server) -> None:
        """Adds both services; what they do not answer, gRPC does with UNIMPLEMENTED."""
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
                # Requests arrive as bytes: what does not parse is the caller's mistake, not the server's.
                name: grpc.unary_unary_rpc_method_handler(
                    self._answering(name, message, answer), response_serializer=lambda m: m.SerializeToString()
                )
                for name, (message, answer) in methods.items()
            }
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))

    def _answering(self, name: str, message: Any, answer: Callable[[Any], Awaitable[Any]]) -> Callable[..., Any]:
        async def handle(content: bytes, context: grpc.aio.ServicerContext) -> Any:
            began, model, code = time.perf_counter(), "", grpc.StatusCode.OK
            try:
                try:
                    request = message.FromString(content)
                except DecodeError:
                    raise invalid(f"The request is no {message.DESCRIPTOR.full_name}") from None
                if message is not model_management_pb2.ReloadConfigRequest:
                    if not request.HasField("model_spec"):
                        raise invalid("Missing ModelSpec")
                    # Callers cannot make new time series by asking for models that are not there.
                    model = request.model_spec.name if self._manager.knows(request.model_spec.name) else ""
                return await answer(request)
            except StatusError as status:
                code, details = status.code, str(status)
            except asyncio.CancelledError:
                code = grpc.StatusCode.CANCELLED
                raise
            except Exception:
                log.exception("%s failed.", name)
                code, details = grpc.StatusCode.INTERNAL, "The server failed; its log has the cause."
            finally:
                self._metrics.observe(model, name, code, time.perf_counter() - began)
            cut = details.encode(errors="replace")[:_LONGEST_MESSAGE]
            return await context.abort(code, cut.decode(errors="ignore"))

        return handle

    async def _predict(self, request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
        with self._manager.hold(request.model_spec) as servable:
            signature = servable.signature(request.model_spec.signature_name)
            names = signature.outputs_of(request.output_filter)
            outputs = await self._runner.run(servable, signature, signature.inputs_of(request.inputs))
            response = predict_pb2.PredictResponse()
            _identify(response.model_spec, servable, signature.name)
            for name in names:
                fill(response.outputs[name], outputs[name])
            return response

    async def _classify(
        self, request: classification_pb2.ClassificationRequest
    ) -> classification_pb2.ClassificationResponse:
        with self._manager.hold(request.model_spec) as servable:
            signature = servable.classifier(request.model_spec.signature_name)
            count = len(request.input.example_list.examples)
            if not count:
                raise invalid("Input is empty.")
            outputs = await self._runner.run(servable, signature, examples_of(request))
            response = classification_pb2.ClassificationResponse()
            _identify(response.model_spec, servable, signature.name)
            _fill_classes(response.result, count, outputs.get("classes"), outputs.get("scores"))
            return response

    async def _model_metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for name in request.metadata_field:
            if name != "signature_def":
                raise invalid(f"Metadata field {name} is not supported")
        with self._manager.hold(request.model_spec) as servable:
            signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=servable.definitions)
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            _identify(response.model_spec, servable, "")
            response.metadata["signature_def"].Pack(signatures)
            return response

    async def _model_status(
        self, request: get_model_status_pb2.GetModelStatusRequest
    ) -> get_model_status_pb2.GetModelStatusResponse:
        response = get_model_status_pb2.GetModelStatusResponse()
        for number, version in sorted(self._manager.statuses(request.model_spec).items(), reverse=True):
            entry = response.model_version_status.add(version=number, state=version.state)
            if version.error:
                entry.status.error_code = grpc.StatusCode.UNKNOWN.value[0]
                entry.status.error_message = version.error
        return response

    async def _reload(
        self, request: model_management_pb2.ReloadConfigRequest
    ) -> model_management_pb2.ReloadConfigResponse:
        # A caller who hangs up does not stop it halfway.
        change = asyncio.ensure_future(self._manager.apply(request.config))
        self._changes.add(change)
        change.add_done_callback(self._changes.discard)
        await asyncio.shield(change)
        response = model_management_pb2.ReloadConfigResponse()
        response.status.SetInParent()
        return response


def _identify(spec: Any, servable: Servable, signature: str) -> None:
    spec.name, spec.signature_name = servable.name, signature
    spec.version.value = servable.version


def _fill_classes(result: Any, count: int, classes: np.ndarray | None, scores: np.ndarray | None) -> None:
    """One Classifications for each of `count` examples from `classes` string and `scores` float32, both [N, classes].

    Raises:
        StatusError: INVALID_ARGUMENT where the model's outputs have another shape.
    """
    for name, array in (("classes", classes), ("scores", scores)):
        if array is not None and (array.ndim != 2 or array.shape[0] != count):
            raise invalid(f"Expected {name} of shape: [batch_size num_classes] but got {list(array.shape)}")
    width = next(array.shape[1] for array in (classes, scores) if array is not None)
    for row in range(count):
        entries = result.classifications.add().classes
        for column in range(width):
            entry = entries.add()
            if classes is not None:
                entry.label = classes[row, column].decode("utf-8", "replace")
            if scores is not None:
                entry.score = scores[row, column]
