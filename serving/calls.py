"""The requests of TensorFlow Serving's gRPC API: what is sent, where to, and how the answer is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from serving import answers, protos
from serving.channel import OPTIONS, Tls
from serving.errors import ConfigError, ImageError
from serving.tensors import encode, strings
from serving.textformat import parse

_PREDICTION, _MODEL = "/tensorflow.serving.PredictionService/", "/tensorflow.serving.ModelService/"
_RESPONSES = {
    f"{_PREDICTION}Predict": protos.PredictResponse,
    f"{_PREDICTION}Classify": protos.ClassificationResponse,
    f"{_PREDICTION}GetModelMetadata": protos.GetModelMetadataResponse,
    f"{_MODEL}GetModelStatus": protos.GetModelStatusResponse,
    f"{_MODEL}HandleReloadConfigRequest": protos.ReloadConfigResponse,
}


_MODEL_FIELDS = [field.name for field in protos.ModelConfig.DESCRIPTOR.fields]


class Call(NamedTuple):
    """A request, the method it goes to, and what makes an answer of the response."""

    path: str
    request: Any
    read: Callable[[Any], Any]


def connect(library: Any, target: str, tls: Tls | None) -> tuple[Any, dict[str, Any]]:
    """A channel of `library`, grpc or grpc.aio, and its methods by path."""
    if tls is None:
        channel = library.insecure_channel(target, options=OPTIONS)
    else:
        channel = library.secure_channel(target, tls.credentials(), options=OPTIONS)
    return channel, {
        path: channel.unary_unary(
            path,
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=response.FromString,
        )
        for path, response in _RESPONSES.items()
    }


class Calls:
    """The requests that can be made of one model.

    Raises:
        ConfigError: both a version and a label.
    """

    def __init__(self, model: str, version: int | None, label: str | None) -> None:
        if version is not None and label is not None:
            raise ConfigError("Ask for a version or for a label, not for both.")
        self._model, self._version, self._label = model, version, label

    def _spec(self, signature: str = "") -> Any:
        spec = protos.ModelSpec(name=self._model, signature_name=signature)
        if self._version is not None:
            spec.version.value = self._version
        elif self._label is not None:
            spec.version_label = self._label
        return spec

    def predict_images(self, images: np.ndarray) -> Call:
        return self._on_images("predict_images", images, answers.prediction)

    def predict_rows(self, images: np.ndarray) -> Call:
        return self._on_images("predict_rows", images, lambda response: answers.output(response, "probabilities"))

    def _on_images(self, signature: str, images: np.ndarray, read: Callable[[Any], Any]) -> Call:
        request = protos.PredictRequest(model_spec=self._spec(signature))
        request.inputs["images"].CopyFrom(encode(checked(images)))
        return Call(f"{_PREDICTION}Predict", request, read)

    def predict_examples(self, examples: Sequence[bytes]) -> Call:
        request = protos.PredictRequest(model_spec=self._spec("serving_default"))
        request.inputs["examples"].CopyFrom(encode(strings(examples)))
        return Call(f"{_PREDICTION}Predict", request, answers.prediction)

    def classify_examples(self, examples: Sequence[bytes]) -> Call:
        request = protos.ClassificationRequest(model_spec=self._spec("classify_examples"))
        request.input.example_list.examples.extend(examples)
        return Call(f"{_PREDICTION}Classify", request, answers.classifications)

    def metadata(self) -> Call:
        request = protos.GetModelMetadataRequest(model_spec=self._spec(), metadata_field=["signature_def"])
        return Call(f"{_PREDICTION}GetModelMetadata", request, answers.metadata)

    def status(self) -> Call:
        return Call(f"{_MODEL}GetModelStatus", protos.GetModelStatusRequest(model_spec=self._spec()), answers.statuses)

    def reload(self, config: str | Path) -> Call:
        hint = f" Of a model this client knows the fields {', '.join(_MODEL_FIELDS)}; a file is named by a Path."
        request = protos.ReloadConfigRequest(config=parse(config, protos.ModelServerConfig(), hint))
        return Call(f"{_MODEL}HandleReloadConfigRequest", request, lambda response: None)


def checked(images: np.ndarray) -> np.ndarray:
    if images.dtype != np.uint8 or images.ndim != 3:
        raise ImageError(
            f"Images must be uint8 [N, rows, columns], not {images.dtype} {list(images.shape)}:"
            " scale to 0 … 255 and convert with .astype('uint8'); one image is image[None]."
        )
    return images


def chunks(images: np.ndarray | Iterable[np.ndarray], chunk: int) -> Iterator[np.ndarray]:
    if chunk < 1:
        raise ConfigError(f"chunk = {chunk} must be at least 1.")
    for batch in [images] if isinstance(images, np.ndarray) else images:
        yield checked(batch)[:chunk]
        for start in range(chunk, len(batch), chunk):
            yield batch[start : start + chunk]
