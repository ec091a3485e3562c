"""The requests of TensorFlow Serving's gRPC API, each with the function that parses its response, and their options."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from serving import protos, textformat
from serving.client.images import check_images
from serving.client.results import (
    parse_classifications,
    parse_description,
    parse_metadata,
    parse_outputs,
    parse_prediction,
    parse_rows,
    parse_statuses,
)
from serving.errors import ConfigError, RequestError
from serving.tensors import TensorError, encode, strings

METHODS = {
    "PredictionService/Predict": protos.PredictResponse,
    "PredictionService/Classify": protos.ClassificationResponse,
    "PredictionService/GetModelMetadata": protos.GetModelMetadataResponse,
    "ModelService/GetModelStatus": protos.GetModelStatusResponse,
    "ModelService/HandleReloadConfigRequest": protos.ReloadConfigResponse,
}
"""The gRPC methods of the package tensorflow.serving, and their response messages."""

CallMetadata = Sequence[tuple[str, str | bytes]]
"""Keys and values of gRPC: a text of printable ASCII, or bytes for a key that ends with -bin."""

_MAX_TIMEOUT = 86_400.0  # gRPC takes a very large timeout for one that is over


class Call(NamedTuple):
    """A method of METHODS, the request message, and the function that parses the response message."""

    method: str
    request: Any
    parse: Callable[[Any], Any]


class Calls:
    """Builds the requests for one model.

    Args:
        model: the name of the served model.
        version: a version number, or None.
        label: a version label, or None. Then `labelled` is true.

    Raises:
        ConfigError: both a version and a label, or one of them is not valid; from `reload`, the config is not valid.
        ImageError: from the methods that take images, another dtype or rank.
        RequestError: from all other methods, an input that cannot be encoded.
    """

    def __init__(self, model: str, version: int | None, label: str | None) -> None:
        if version is not None and label is not None:
            raise ConfigError("Give a version or a label, not both.")
        self.labelled = label is not None
        try:
            self._spec = protos.ModelSpec(version_label=label)
            self._spec.name = model
            if version is not None:
                self._spec.version.value = version
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"The model {model!r}, version {version!r}, label {label!r} is not valid: {error}."
            ) from None

    def call(
        self,
        signature: str,
        inputs: Mapping[str, Any],
        output_filter: Sequence[str] = (),
        parse: Callable[[Any], Any] | None = None,
    ) -> Call:
        """Predict with any signature. `inputs` has an array for each name, strings as bytes of dtype object."""
        try:
            request = protos.PredictRequest(model_spec=self._model_spec(signature), output_filter=output_filter)
            for name, value in inputs.items():
                request.inputs[name].CopyFrom(encode(np.asarray(value)))
        except (TensorError, TypeError, ValueError, AttributeError) as error:
            raise RequestError(f"The request for the signature {signature!r} cannot be encoded: {error}.") from None
        others = () if output_filter else None
        parse = parse or partial(parse_outputs, names=output_filter, others=others)
        return Call("PredictionService/Predict", request, parse)

    def predict_images(self, images: np.ndarray) -> Call:
        """Predict with the signature `predict_images`; `images` is uint8 [N, rows, columns]."""
        inputs = {"images": check_images(images)}
        return self.call("predict_images", inputs, parse=partial(parse_prediction, count=len(images)))

    def predict_rows(self, images: np.ndarray) -> Call:
        """Predict with the signature `predict_rows`; `images` is uint8 [N, rows, columns]."""
        inputs = {"images": check_images(images)}
        return self.call("predict_rows", inputs, parse=partial(parse_rows, count=len(images), rows=images.shape[1]))

    def predict_examples(self, examples: Sequence[bytes]) -> Call:
        """Predict with the signature `serving_default`; `examples` are N serialized tf.train.Examples."""
        array = _examples(examples)
        return self.call("serving_default", {"examples": array}, parse=partial(parse_prediction, count=len(array)))

    def classify_examples(self, examples: Sequence[bytes]) -> Call:
        """Classify with the signature `classify_examples`; `examples` are N serialized tf.train.Examples."""
        array = _examples(examples)
        request = protos.ClassificationRequest(model_spec=self._model_spec("classify_examples"))
        request.input.example_list.examples.extend(array.tolist())
        return Call("PredictionService/Classify", request, partial(parse_classifications, count=len(array)))

    def describe(self) -> Call:
        """Predict with the signature `describe`, once."""
        return self.call("describe", {"about": strings([b""])}, parse=parse_description)

    def metadata(self) -> Call:
        """GetModelMetadata."""
        request = protos.GetModelMetadataRequest(model_spec=self._model_spec(), metadata_field=["signature_def"])
        return Call("PredictionService/GetModelMetadata", request, parse_metadata)

    def status(self, version: int | None = None) -> Call:
        """GetModelStatus. For a label give its `version`: TensorFlow Serving does not look at the label here."""
        request = protos.GetModelStatusRequest(model_spec=self._model_spec())
        if version is not None:
            request.model_spec.version.value = version
        return Call("ModelService/GetModelStatus", request, parse_statuses)

    def reload(self, config: str | Path) -> Call:
        """HandleReloadConfigRequest with a ModelServerConfig in text format, or with the file at a Path."""
        fields = ", ".join(field.name for field in protos.ModelConfig.DESCRIPTOR.fields)
        hint = f" This client knows these fields of a model: {fields}. Use a Path for a file."
        request = protos.ReloadConfigRequest(config=textformat.parse(config, protos.ModelServerConfig(), hint))
        return Call("ModelService/HandleReloadConfigRequest", request, lambda response: None)

    def _model_spec(self, signature: str = "") -> Any:
        spec = protos.ModelSpec(signature_name=signature)
        spec.MergeFrom(self._spec)
        return spec


def _examples(examples: Iterable[bytes]) -> np.ndarray:
    """The examples as an array [N], dtype object."""
    if isinstance(examples, (str, bytes)) or not isinstance(examples, Iterable):
        raise RequestError("Give the examples as a list of serialized tf.train.Examples.")
    array = strings(examples)
    if wrong := {type(example).__name__ for example in array if not isinstance(example, bytes)}:
        raise RequestError(
            f"Each example must be a serialized tf.train.Example: bytes, not {', '.join(sorted(wrong))}."
        )
    return array


def chunks(images: np.ndarray | Iterable[np.ndarray], chunk: int) -> Iterator[np.ndarray]:
    """Splits one array [N, …], or each array of an iterable, into parts of at most `chunk` elements.

    Raises:
        ImageError: an array of another dtype or rank.
        ConfigError: a chunk below 1.
    """
    check_count("chunk", chunk)
    for batch in [images] if isinstance(images, np.ndarray) else images:
        yield check_images(batch)[:chunk]  # an empty batch is one empty request
        for start in range(chunk, len(batch), chunk):
            yield batch[start : start + chunk]


def check_timeout(timeout: Any) -> float:
    """Returns `timeout` if it is a number of seconds that can be a deadline.

    Raises:
        ConfigError: it is not a number, not above 0, or above one day. No call is without a deadline.
    """
    number = isinstance(timeout, (int, float, np.integer, np.floating)) and not isinstance(timeout, bool)
    if not number or not 0 < timeout <= _MAX_TIMEOUT:
        raise ConfigError(f"timeout = {timeout!r} must be a number of seconds above 0, at most {_MAX_TIMEOUT:.0f}.")
    return float(timeout)


def check_metadata(metadata: CallMetadata) -> tuple[tuple[str, str | bytes], ...]:
    """Returns the pairs of `metadata` if gRPC can send them.

    Raises:
        ConfigError: they are not pairs, or a key or a value is not valid.
    """
    try:
        pairs = tuple((key, value) for key, value in metadata)
    except (TypeError, ValueError):
        raise ConfigError(
            "metadata must be pairs of a key and a value, such as [('authorization', 'Bearer …')]."
        ) from None
    for key, value in pairs:
        if not isinstance(key, str) or not re.fullmatch(r"[0-9a-z_.-]+", key):
            raise ConfigError(f"The metadata key {key!r} must have only the characters 0-9, a-z, _, . and -.")
        # The value may be a secret, so no error shows it.
        text = isinstance(value, str) and re.fullmatch(r"[ -~]*", value)
        if not (isinstance(value, bytes) if key.endswith("-bin") else text):
            raise ConfigError(
                f"The value of {key} in metadata must be printable ASCII, or bytes if the key ends with -bin."
            )
    return pairs


def check_count(name: str, count: Any) -> int:
    """Returns `count` if it is a whole number of at least 1.

    Raises:
        ConfigError: it is not.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ConfigError(f"{name} = {count!r} must be at least 1, a whole number.")
    return count
