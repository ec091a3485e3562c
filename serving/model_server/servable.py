"""One version of a model: a SavedModel in memory and its signatures."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from serving.tensors import TensorError, decode, strings, type_name

_WARMUP_FILE = Path("assets.extra", "tf_serving_warmup_requests")
_FRAME = 16
"""The bytes of a TFRecord around its content: its length and two checksums."""

log = logging.getLogger(__name__)


class StatusError(Exception):
    """An RPC ends with `code` and this message."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def invalid(message: str) -> StatusError:
    """A StatusError with INVALID_ARGUMENT."""
    return StatusError(grpc.StatusCode.INVALID_ARGUMENT, message)


class Servable:
    """A loaded and warmed-up version. `definitions` has the SignatureDef of each signature by name.

    Raises:
        Exception: TensorFlow cannot load the SavedModel, or a warm-up request fails.
    """

    def __init__(self, folder: Path) -> None:
        self._model = tf.saved_model.load(str(folder), tags=[tf.saved_model.SERVING])
        saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
        graph = next(graph for graph in saved.meta_graphs if tf.saved_model.SERVING in graph.meta_info_def.tags)
        self.definitions: dict[str, meta_graph_pb2.SignatureDef] = dict(graph.signature_def)
        self._warm_up(folder / _WARMUP_FILE)

    def predict(self, request: Any) -> dict[str, tf.Tensor]:
        """The outputs of a PredictRequest by name: those of its output_filter, or all.

        Raises:
            StatusError: INVALID_ARGUMENT for an unknown signature, input or output, or for a tensor that does not fit;
                RESOURCE_EXHAUSTED if there is not enough memory.
        """
        name, definition = self._signature(request)
        if request.inputs.keys() != definition.inputs.keys():
            raise invalid(f"{name}: the inputs are {_names(definition.inputs)}, not {_names(request.inputs)}")
        if unknown := set(request.output_filter) - set(definition.outputs):
            raise invalid(f"{name}: the outputs are {_names(definition.outputs)}, and not {_names(unknown)}")
        arrays = {}
        for alias, info in definition.inputs.items():
            tensor = request.inputs[alias]
            if tensor.dtype != info.dtype:
                raise invalid(f"{name}: the input {alias} is {type_name(info.dtype)}, not {type_name(tensor.dtype)}")
            try:
                arrays[alias] = decode(tensor)
            except TensorError as error:
                raise invalid(f"{name}: the input {alias} is not a valid tensor: {error}") from None
        outputs = self._run(name, arrays)
        return {alias: outputs[alias] for alias in request.output_filter} or outputs

    def classify(self, request: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """The classes, string [N, classes], and the scores, float32 [N, classes].

        Raises:
            StatusError: INVALID_ARGUMENT for a signature that cannot classify, or for examples that do not fit;
                RESOURCE_EXHAUSTED if there is not enough memory.
        """
        name, definition = self._signature(request)
        if definition.inputs.keys() != {"inputs"} or definition.outputs.keys() != {"classes", "scores"}:
            raise invalid(f"{name}: Classify needs the input inputs, and the outputs classes and scores")
        examples = request.input.example_list.examples
        if not examples:
            raise invalid(f"{name}: there is no example in the request's example_list")
        outputs = self._run(name, {"inputs": strings(example.SerializeToString() for example in examples)})
        return outputs["classes"], outputs["scores"]

    def _signature(self, request: Any) -> tuple[str, meta_graph_pb2.SignatureDef]:
        name = request.model_spec.signature_name or tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY
        if name not in self._model.signatures:
            raise invalid(f"The signature {name} is not one of the model's: {_names(self._model.signatures)}")
        return name, self.definitions[name]

    def _run(self, name: str, inputs: Mapping[str, np.ndarray]) -> dict[str, tf.Tensor]:
        try:
            return self._model.signatures[name](**{alias: tf.constant(array) for alias, array in inputs.items()})
        except tf.errors.ResourceExhaustedError as error:
            raise StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, _summary(error)) from None
        except (tf.errors.OpError, TypeError, ValueError) as error:
            raise invalid(f"{name}: {_summary(error)}") from None

    def _warm_up(self, file: Path) -> None:
        if not file.exists():
            return
        try:
            records = list(tf.data.TFRecordDataset(str(file)).as_numpy_iterator())
            entries = [prediction_log_pb2.PredictionLog.FromString(record) for record in records]
        except (tf.errors.OpError, DecodeError) as error:
            raise ValueError(f"{file} is no TFRecord file of PredictionLogs: {_summary(error)}") from None
        if not entries:
            raise ValueError(f"{file} holds no warm-up request")
        if sum(len(record) + _FRAME for record in records) != file.stat().st_size:
            raise ValueError(f"{file} has bytes after its last warm-up request that are no record")
        for number, entry in enumerate(entries):
            calls = {"predict_log": self.predict, "classify_log": self.classify}
            kind = entry.WhichOneof("log_type") or "none"
            if kind not in calls:
                raise ValueError(f"{file}, record {number}: the log type is {kind}, not one of {', '.join(calls)}")
            try:
                calls[kind](getattr(entry, kind).request)
            except StatusError as error:
                raise ValueError(f"{file}, record {number}: the warm-up request fails: {error}") from None
        log.info("Warmed up %s with %d requests.", file.parents[1], len(entries))


def _summary(error: Exception) -> str:
    """The message of an error of a TensorFlow function on one line, without function names, nodes and stack traces."""
    # TensorFlow's message may quote bytes of the request.
    text = error.object.decode("utf-8", "replace") if isinstance(error, UnicodeDecodeError) else str(error)
    text = text.rpartition("<stack traces unavailable>\n")[2].partition("\n\t [[")[0].partition(" [Op:")[0]
    return " ".join(re.sub(r"\{\{function_node \S+\}\}", "", text).split())


def _names(names: Any) -> str:
    return ", ".join(sorted(names)) or "none"
