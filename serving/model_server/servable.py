"""One version of a model: a SavedModel in memory, its signatures, and what it can be asked."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2
from tensorflow_serving.apis import classification_pb2, prediction_log_pb2

from serving.model_server.status import StatusError, code_of, invalid
from serving.tensors import TensorError, decode, strings, type_name

CLASSIFY = "tensorflow/serving/classify"
WARMUP_FILE = os.path.join("assets.extra", "tf_serving_warmup_requests")

log = logging.getLogger(__name__)


class Signature:
    """One function of a SavedModel, checked before it is called."""

    def __init__(self, name: str, definition: meta_graph_pb2.SignatureDef, function: Any) -> None:
        self.name, self.definition, self._function = name, definition, function
        self._inputs = {name: (spec.dtype, _shape(spec.tensor_shape)) for name, spec in definition.inputs.items()}
        self._outputs = sorted(definition.outputs)

    def inputs_of(self, tensors: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The arrays of a request's TensorProtos.

        Raises:
            StatusError: INVALID_ARGUMENT that names the input and what was expected of it.
        """
        expected = self._inputs
        if tensors.keys() != expected.keys():
            extra, missing = sorted(tensors.keys() - expected.keys()), sorted(expected.keys() - tensors.keys())
            raise invalid(
                f"input size does not match signature: {len(tensors)}!={len(expected)}"
                f" len({_set(sorted(tensors))}) != len({_set(sorted(expected))})."
                f" Sent extra: {_set(extra)}. Missing but required: {_set(missing)}."
                if len(tensors) != len(expected)
                else f"input tensor alias not found in signature: {extra[0]}."
                f" Inputs expected to be in the set {_set(sorted(expected))}."
            )
        return {name: self._array(name, tensors[name]) for name in expected}

    def _array(self, name: str, tensor: Any) -> np.ndarray:
        (dtype, wanted), sent = self._inputs[name], _shape(tensor.tensor_shape)
        fits = wanted is None or (
            sent is not None
            and len(sent) == len(wanted)
            and all(want in (-1, size) for want, size in zip(wanted, sent, strict=True))
        )
        if tensor.dtype != dtype or not fits:
            raise invalid(
                f'input "{name}" of signature "{self.name}" must be {type_name(dtype)} {wanted or []},'
                f" not {type_name(tensor.dtype)} {sent if sent is not None else 'of unknown shape'}"
            )
        try:
            return decode(tensor)
        except TensorError as error:
            raise invalid(f"tensor parsing error: {name}: {error}") from None

    def outputs_of(self, names: Sequence[str]) -> list[str]:
        """The outputs a request's output_filter asks for; all where it is empty.

        Raises:
            StatusError: INVALID_ARGUMENT for an output that is unknown or named twice.
        """
        for index, name in enumerate(names):
            if name not in self._outputs:
                raise invalid(
                    f"output tensor alias not found in signature: {name}"
                    f" Outputs expected to be in the set {_set(self._outputs)}."
                )
            if name in names[:index]:
                raise invalid(f"duplicate output tensor alias: {name}")
        return list(names) or self._outputs

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Calls the function.

        Raises:
            StatusError: TensorFlow's own error, by its code.
        """
        try:
            outputs = self._function(**{name: tf.constant(array) for name, array in inputs.items()})
        except tf.errors.OpError as error:
            raise StatusError(code_of(error.error_code), _own_words(str(error.message))) from None
        except UnicodeDecodeError as error:
            # TensorFlow quotes bytes of the request in its error, which Python then cannot read.
            raise invalid(_own_words(error.object.decode("utf-8", "replace"))) from None
        # A scalar string would else become NumPy's own type of fixed width.
        return {
            name: np.asarray(tensor.numpy(), object if tensor.dtype == tf.string else None)
            for name, tensor in outputs.items()
        }


class Servable:
    """A loaded version. `in_flight` counts the requests that hold it.

    Raises:
        Exception: whatever TensorFlow says of a SavedModel that cannot be loaded.
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

    def signature(self, name: str) -> Signature:
        """The signature a request names, `serving_default` where it names none.

        Raises:
            StatusError: INVALID_ARGUMENT for a signature the model does not have.
        """
        name = name or tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY
        try:
            return self._signatures[name]
        except KeyError:
            raise invalid(
                f'Serving signature key "{name}" not found. Signatures: {_set(sorted(self._signatures))}.'
            ) from None

    def classifier(self, name: str) -> Signature:
        """The signature a Classify request names, if it is one.

        Raises:
            StatusError: INVALID_ARGUMENT for a signature that is unknown or no classification.
        """
        name = name or tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY
        if name not in self._signatures:
            raise invalid(f"No signature was found with the name: {name}")
        definition = self._signatures[name].definition
        if definition.method_name != CLASSIFY:
            raise invalid(
                f"Expected classification signature method_name to be {CLASSIFY}. Was: {definition.method_name}"
            )
        if set(definition.inputs) != {"inputs"} or not set(definition.outputs) <= {"classes", "scores"}:
            raise invalid(f"Expected one input Tensor, inputs, and the outputs classes and scores in signature {name}")
        return self._signatures[name]

    def close(self) -> None:
        """Lets go of the model's memory."""
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
                signature = self.signature(request.model_spec.signature_name)
                signature.run(signature.inputs_of(request.inputs))
            elif entry.HasField("classify_log"):
                request = entry.classify_log.request
                self.classifier(request.model_spec.signature_name).run(examples_of(request))
            else:
                log.warning("Skipped a warm-up request of a kind this stand-in does not answer.")
                continue
            count += 1
        log.info("Warmed up %s version %d with %d requests.", self.name, self.version, count)


def examples_of(request: classification_pb2.ClassificationRequest) -> dict[str, np.ndarray]:
    """The input of a classification signature: `inputs`, serialized tf.Examples [N]."""
    return {"inputs": strings(example.SerializeToString() for example in request.input.example_list.examples)}


def _own_words(message: str) -> str:
    """An error's text without what TensorFlow 2 puts around it: where in Python the graph was made, and its node."""
    return message.partition("\n\t [[")[0].rpartition("<stack traces unavailable>\n")[2]


def _shape(shape: Any) -> list[int] | None:
    return None if shape.unknown_rank else [dim.size for dim in shape.dim]


def _set(names: Sequence[str]) -> str:
    return "{" + ",".join(names) + "}"
