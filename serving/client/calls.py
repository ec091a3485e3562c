"""The requests of TensorFlow Serving's gRPC API: each with its method and the function that parses its response."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from serving import protos, textformat
from serving.client.images import check_images
from serving.client.results import (
    parse_classifications,
    parse_metadata,
    parse_prediction,
    parse_probabilities,
    parse_statuses,
)
from serving.errors import ConfigError
from serving.tensors import encode, strings

_PREDICTION, _MODEL = "/tensorflow.serving.PredictionService", "/tensorflow.serving.ModelService"
_PREDICT, _CLASSIFY = f"{_PREDICTION}/Predict", f"{_PREDICTION}/Classify"
_METADATA, _STATUS = f"{_PREDICTION}/GetModelMetadata", f"{_MODEL}/GetModelStatus"
_RELOAD = f"{_MODEL}/HandleReloadConfigRequest"

METHODS = {
    _PREDICT: protos.PredictResponse,
    _CLASSIFY: protos.ClassificationResponse,
    _METADATA: protos.GetModelMetadataResponse,
    _STATUS: protos.GetModelStatusResponse,
    _RELOAD: protos.ReloadConfigResponse,
}
"""The gRPC methods and their response messages."""


class Call(NamedTuple):
    """A gRPC method, the request message, and the function that parses the response message."""

    method: str
    request: Any
    parse: Callable[[Any], Any]


class Calls:
    """Builds the requests for one model.

    Args:
        model: the name of the served model.
        version: a version number, or None.
        label: a version label, or None.

    Raises:
        ConfigError: both a version and a label.
    """

    def __init__(self, model: str, version: int | None, label: str | None) -> None:
        if version is not None and label is not None:
            raise ConfigError("Give a version or a label, not both.")
        self._model, self._version, self._label = model, version, label

    def predict_images(self, images: np.ndarray) -> Call:
        """Predict with the signature `predict_images`; `images` is uint8 [N, rows, columns].

        Raises:
            ImageError: another dtype or rank.
        """
        return self._predict("predict_images", "images", check_images(images), parse_prediction)

    def predict_rows(self, images: np.ndarray) -> Call:
        """Predict with the signature `predict_rows`; `images` is uint8 [N, rows, columns].

        Raises:
            ImageError: another dtype or rank.
        """
        return self._predict("predict_rows", "images", check_images(images), parse_probabilities)

    def predict_examples(self, examples: Sequence[bytes]) -> Call:
        """Predict with the signature `serving_default`; `examples` are N serialized tf.train.Examples."""
        return self._predict("serving_default", "examples", strings(examples), parse_prediction)

    def classify_examples(self, examples: Sequence[bytes]) -> Call:
        """Classify with the signature `classify_examples`; `examples` are N serialized tf.train.Examples."""
        request = protos.ClassificationRequest(model_spec=self._model_spec("classify_examples"))
        request.input.example_list.examples.extend(examples)
        return Call(_CLASSIFY, request, parse_classifications)

    def metadata(self) -> Call:
        """GetModelMetadata."""
        request = protos.GetModelMetadataRequest(model_spec=self._model_spec(), metadata_field=["signature_def"])
        return Call(_METADATA, request, parse_metadata)

    def status(self) -> Call:
        """GetModelStatus."""
        return Call(_STATUS, protos.GetModelStatusRequest(model_spec=self._model_spec()), parse_statuses)

    def reload(self, config: str | Path) -> Call:
        """HandleReloadConfigRequest with a ModelServerConfig in text format, or with the file at a Path.

        Raises:
            ConfigError: the text is not a ModelServerConfig, or the file cannot be read.
        """
        fields = ", ".join(field.name for field in protos.ModelConfig.DESCRIPTOR.fields)
        hint = f" This client knows these fields of a model: {fields}. Use a Path for a file."
        request = protos.ReloadConfigRequest(config=textformat.parse(config, protos.ModelServerConfig(), hint))
        return Call(_RELOAD, request, lambda response: None)

    def _predict(self, signature: str, name: str, array: np.ndarray, parse: Callable[[Any], Any]) -> Call:
        request = protos.PredictRequest(model_spec=self._model_spec(signature))
        request.inputs[name].CopyFrom(encode(array))
        return Call(_PREDICT, request, parse)

    def _model_spec(self, signature: str = "") -> Any:
        spec = protos.ModelSpec(name=self._model, signature_name=signature)
        if self._version is not None:
            spec.version.value = self._version
        elif self._label is not None:
            spec.version_label = self._label
        return spec


def chunks(images: np.ndarray | Iterable[np.ndarray], chunk: int) -> Iterator[np.ndarray]:
    """Splits one array [N, …], or each array of an iterable, into parts of at most `chunk` elements.

    Raises:
        ImageError: an array of another dtype or rank.
        ConfigError: a chunk below 1.
    """
    if chunk < 1:
        raise ConfigError(f"chunk = {chunk} must be at least 1.")
    for batch in [images] if isinstance(images, np.ndarray) else images:
        yield check_images(batch)[:chunk]  # an empty batch is one empty request
        for start in range(chunk, len(batch), chunk):
            yield batch[start : start + chunk]
