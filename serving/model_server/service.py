"""The gRPC services PredictionService and ModelService, as far as the client calls them."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import grpc
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.model_server.manager import Manager
from serving.model_server.servable import StatusError
from serving.request_log import RequestLog
from serving.request_log.interceptors import request_id
from serving.request_log.record import METHODS

# gRPC sends the message as a header of at most 8 KiB. There a character may become twelve bytes.
_MAX_DETAILS = 500


def _rpc(method: Callable[[Any, Any], Any]) -> Callable[[Any, Any, grpc.ServicerContext], Any]:
    """An RPC that ends with the response of `method`, or with the status of its StatusError."""

    @functools.wraps(method)
    def answer(self: Services, request: Any, context: grpc.ServicerContext) -> Any:
        with self._lock:
            self.running += 1
        try:
            response = method(self, request)
            self._add(context, method.__name__, request, response)
            return response
        except StatusError as status:
            return context.abort(status.code, str(status)[:_MAX_DETAILS])
        finally:
            with self._lock:
                self.running -= 1

    return answer


class Services(prediction_service_pb2_grpc.PredictionServiceServicer, model_service_pb2_grpc.ModelServiceServicer):
    """Answers the RPCs with the models of `manager`. gRPC answers all others with UNIMPLEMENTED.

    `running` is the number of requests under way. `request_log` gets the answers to Predict and Classify.
    """

    def __init__(self, manager: Manager, request_log: RequestLog | None) -> None:
        self._manager, self._log = manager, request_log
        self.running, self._lock = 0, threading.Lock()

    def _add(self, context: grpc.ServicerContext, method: str, request: Any, response: Any) -> None:
        if self._log is not None and method in METHODS.values():
            name = request_id(context.invocation_metadata())
            self._log.add(method, request.SerializeToString(), response.SerializeToString(), name)

    @_rpc
    def Predict(self, request: Any) -> Any:
        """Calls a signature."""
        version, servable = self._manager.find(request.model_spec)
        response = predict_pb2.PredictResponse()
        for name, tensor in servable.predict(request).items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(tensor))
        return _signed(response, request, version)

    @_rpc
    def Classify(self, request: Any) -> Any:
        """Calls a signature for examples; a label and a score for each class of each example."""
        version, servable = self._manager.find(request.model_spec)
        response = classification_pb2.ClassificationResponse()
        for labels, scores in zip(*(tensor.numpy() for tensor in servable.classify(request)), strict=True):
            classes = response.result.classifications.add().classes
            for label, score in zip(labels, scores, strict=True):
                classes.add(label=label.decode("utf-8", "replace"), score=score)
        return _signed(response, request, version)

    @_rpc
    def GetModelMetadata(self, request: Any) -> Any:
        """The signatures of a version."""
        version, servable = self._manager.find(request.model_spec)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=servable.definitions)
        response.metadata["signature_def"].Pack(signatures)
        return _signed(response, request, version)

    @_rpc
    def GetModelStatus(self, request: Any) -> Any:
        """The states of the versions."""
        response = get_model_status_pb2.GetModelStatusResponse()
        for number, version in self._manager.versions(request.model_spec):
            entry = response.model_version_status.add(version=number, state=version.state)
            if version.error:
                entry.status.error_code = grpc.StatusCode.UNKNOWN.value[0]
                entry.status.error_message = version.error
        return response

    @_rpc
    def HandleReloadConfigRequest(self, request: Any) -> Any:
        """Replaces the config; it returns when the models are served."""
        self._manager.apply(request.config)
        response = model_management_pb2.ReloadConfigResponse()
        response.status.SetInParent()
        return response


def _signed(response: Any, request: Any, version: int) -> Any:
    """The response with the model, the version and the signature that answered."""
    response.model_spec.name = request.model_spec.name
    response.model_spec.signature_name = request.model_spec.signature_name
    response.model_spec.version.value = version
    return response
