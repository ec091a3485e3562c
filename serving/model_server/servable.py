"""One version of a model: a SavedModel in memory and its signatures."""

from __future__ import annotations

import gc
import logging
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2
from tensorflow_serving.apis import classification_pb2, prediction_log_pb2

from serving.model_server.status import StatusError, invalid
from serving.tensors import TensorError, decode, strings

WARMUP_FILE = os.path.join("assets.extra", "tf_serving_warmup_requests")

log = logging.getLogger(__name__)


class Signature:
    """A function of a SavedModel, its name and its SignatureDef."""

    def __init__(self, name: str, definition: meta_graph_pb2.SignatureDef, function: Any) -> None:
        self.name, self.definition, self._function = name, definition, function

    def decode_inputs(self, tensors: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The arrays of a request's TensorProtos, by input name.

        Raises:
            StatusError: INVALID_ARGUMENT for other input names, or for a tensor that is not valid.
        """
        expected = self.definition.inputs.keys()
        if tensors.keys() != expected:
            extra, missing = sorted(tensors.keys() - expected), sorted(expected - tensors.keys())
            raise invalid(
                f"input size does not match signature: {len(tensors)}!={len(expected)}"
                f" len({_set(sorted(tensors))}) != len({_set(sorted(expected))})."
                f" Sent extra: {_set(extra)}. Missing but required: {_set(missing)}."
                if len(tensors) != len(expected)
                else f"input tensor alias not found in signature: {extra[0]}."
                f" Inputs expected to be in the set {_set(sorted(expected))}."
            )
        arrays = {}
        for name in expected:
            try:
                arrays[name] = decode(tensors[name])
            except TensorError as error:
                raise invalid(f"tensor parsing error: {name}: {error}") from None
        return arrays

    def select_outputs(self, names: Sequence[str]) -> list[str]:
        """The outputs of a request's output_filter; all outputs if the filter is empty.

        Raises:
            StatusError: INVALID_ARGUMENT for an unknown or repeated name.
        """
        outputs = sorted(self.definition.outputs)
        for index, name in enumerate(names):
            if name not in outputs:
                raise invalid(
                    f"output tensor alias not found in signature: {name}"
                    f" Outputs expected to be in the set {_set(outputs)}."
                )
            if name in names[:index]:
                raise invalid(f"duplicate output tensor alias: {name}")
        return list(names) or outputs

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Calls the function. TensorFlow checks the dtypes and shapes.

        Raises:
            StatusError: RESOURCE_EXHAUSTED if there is not enough memory; INVALID_ARGUMENT for every other error.
        """
        try:
            outputs = self._function(**{name: tf.constant(array) for name, array in inputs.items()})
        except tf.errors.ResourceExhaustedError as error:
            raise StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, _summary(error)) from None
        except (tf.errors.OpError, TypeError, ValueError) as error:
            message = _summary(error)
            for index, name in enumerate(sorted(inputs)):  # TensorFlow counts the inputs in this order
                message = message.replace(f"input #{index}(zero-based)", f"input {name}")
            raise invalid(f"{self.name}: {message}") from None
        # NumPy would give a scalar string a dtype of fixed width.
        return {
            name: np.asarray(tensor.numpy(), object if tensor.dtype == tf.string else None)
            for name, tensor in outputs.items()
        }


class Servable:
    """A loaded version. `in_flight` is the number of requests that use it.

    Raises:
        Exception: TensorFlow cannot load the SavedModel, or a warm-up request fails.
    """

    def __init__(self, name: str, version: int, folder: str) -> None:
        self.name, self.version = name, version
        self.in_flight = 0
        with tf.io.gfile.GFile(os.path.join(folder, "saved_model.pb"), "rb") as file:
            saved = saved_model_pb2.SavedModel.FromString(file.read())
        graphs = [graph for graph in saved.meta_graphs if tf.saved_model.SERVING in graph.meta_info_def.tags]
        if not graphs:
            raise ValueError(f'no graph in it has the tag "{tf.saved_model.SERVING}"')
        self.definitions = dict(graphs[0].signature_def)
        self._model = tf.saved_model.load(folder, tags=[tf.saved_model.SERVING])
        functions = self._model.signatures
        self._signatures = {
            name: Signature(name, definition, functions[name])
            for name, definition in self.definitions.items()
            if name in functions
        }
        self._warm_up(os.path.join(folder, WARMUP_FILE))

    def predict_signature(self, name: str) -> Signature:
        """The signature of a Predict request; the default is `serving_default`.

        Raises:
            StatusError: INVALID_ARGUMENT for an unknown signature.
        """
        name = name or tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY
        try:
            return self._signatures[name]
        except KeyError:
            raise invalid(
                f'Serving signature key "{name}" not found. Signatures: {_set(sorted(self._signatures))}.'
            ) from None

    def classify_signature(self, name: str) -> Signature:
        """The signature of a Classify request; the default is `serving_default`.

        Raises:
            StatusError: INVALID_ARGUMENT for an unknown signature, or one with other inputs or outputs.
        """
        name = name or tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY
        if name not in self._signatures:
            raise invalid(f"No signature was found with the name: {name}")
        # As TensorFlow Serving does by default, this takes every method name.
        definition = self._signatures[name].definition
        if len(definition.inputs) != 1:
            raise invalid("Expected one input Tensor.")
        if len(definition.outputs) not in (1, 2):
            raise invalid(f"Expected one or two output Tensors, found {len(definition.outputs)}")
        if "inputs" not in definition.inputs:
            raise invalid(f"No classification inputs found in SignatureDef: {name}")
        if not {"classes", "scores"} & set(definition.outputs):
            raise invalid(
                'Expected classification signature outputs to contain at least one of "classes" or "scores".'
                f" Signature was: {name}"
            )
        return self._signatures[name]

    def close(self) -> None:
        """Frees the model's memory."""
        del self._model, self._signatures
        gc.collect()

    def _warm_up(self, file: str) -> None:
        if not tf.io.gfile.exists(file):
            return
        count = 0
        for record in tf.data.TFRecordDataset(file).as_numpy_iterator():
            entry = prediction_log_pb2.PredictionLog.FromString(record)
            if entry.HasField("predict_log"):
                request = entry.predict_log.request
                signature = self.predict_signature(request.model_spec.signature_name)
                signature.run(signature.decode_inputs(request.inputs))
            elif entry.HasField("classify_log"):
                request = entry.classify_log.request
                self.classify_signature(request.model_spec.signature_name).run(decode_examples(request))
            else:
                log.warning("Skipped a warm-up request of a kind that the stand-in does not support.")
                continue
            count += 1
        log.info("Warmed up %s version %d with %d requests.", self.name, self.version, count)


def decode_examples(request: classification_pb2.ClassificationRequest) -> dict[str, np.ndarray]:
    """The input of a Classify signature: `inputs`, N serialized tf.train.Examples, dtype object [N].

    The features of a context are added to each example. A feature of the example itself counts more.

    Raises:
        StatusError: INVALID_ARGUMENT if there is no example.
    """
    context, examples = b"", request.input.example_list.examples
    if request.input.HasField("example_list_with_context"):
        context = request.input.example_list_with_context.context.SerializeToString()
        examples = request.input.example_list_with_context.examples
    if not examples:
        raise invalid("Input is empty.")
    # A parser merges serialized messages that follow one another.
    return {"inputs": strings(context + example.SerializeToString() for example in examples)}


def _summary(error: Exception) -> str:
    """The message of an error of a TensorFlow function on one line, without function names, nodes and stack traces."""
    if isinstance(error, UnicodeDecodeError):  # TensorFlow's message quotes bytes of the request
        message = error.object.decode("utf-8", "replace")
    else:
        message = str(getattr(error, "message", error))
    message = message.partition("\n\t [[")[0].rpartition("<stack traces unavailable>\n")[2]
    # A TF1 model has stack traces: lines that begin with two spaces.
    message = re.sub(r"^Graph execution error:\n(\n|Detected at node .*\n|  .*\n)*", "", message)
    message = re.sub(r"^cannot compute \S+ as |\{\{function_node \S+\}\} | \[Op:\w+\]$", "", message)
    return " ".join(message.split())


def _set(names: Sequence[str]) -> str:
    return "{" + ",".join(names) + "}"
