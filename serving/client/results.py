"""The responses of a model server as Python objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving import protos
from serving.errors import ServerError
from serving.tensors import TensorError, decode, type_name


@dataclass(frozen=True)
class Prediction:
    """`probabilities` float32 [N, classes], `class_ids` int64 [N], and the model versions that computed them."""

    probabilities: np.ndarray
    class_ids: np.ndarray
    versions: tuple[int, ...]


@dataclass(frozen=True)
class Classification:
    """The `labels` of one example, and their `scores` float32 [classes]."""

    labels: tuple[str, ...]
    scores: np.ndarray


@dataclass(frozen=True)
class TensorSpec:
    """An input or output: the NumPy name of the dtype ("string" for bytes), and the shape; -1 is any size."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Signature:
    """A signature of the model: its inputs and outputs by name, and its method name."""

    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]
    method: str


@dataclass(frozen=True)
class Metadata:
    """A model version and its signatures by name."""

    version: int
    signatures: dict[str, Signature]


@dataclass(frozen=True)
class VersionStatus:
    """A version and its state: START, LOADING, AVAILABLE, UNLOADING or END. `error` says why it could not be loaded."""

    version: int
    state: str
    error: str


def merge_predictions(parts: Sequence[Prediction]) -> Prediction:
    """Concatenates the predictions of consecutive images."""
    if len(parts) == 1:
        return parts[0]
    return Prediction(
        np.concatenate([part.probabilities for part in parts]),
        np.concatenate([part.class_ids for part in parts]),
        tuple(dict.fromkeys(version for part in parts for version in part.versions)),
    )


def parse_prediction(response: Any) -> Prediction:
    """The Prediction of a PredictResponse.

    Raises:
        ServerError: an output is missing, or its tensor is not valid.
    """
    version = response.model_spec.version.value
    return Prediction(_output(response, "probabilities"), _output(response, "class_ids"), (version,))


def parse_probabilities(response: Any) -> np.ndarray:
    """The output `probabilities` of a PredictResponse.

    Raises:
        ServerError: the output is missing, or its tensor is not valid.
    """
    return _output(response, "probabilities")


def parse_classifications(response: Any) -> list[Classification]:
    """One Classification for each example of a ClassificationResponse."""
    return [
        Classification(
            tuple(entry.label for entry in one.classes), np.array([entry.score for entry in one.classes], np.float32)
        )
        for one in response.result.classifications
    ]


def parse_metadata(response: Any) -> Metadata:
    """The Metadata of a GetModelMetadataResponse, without TensorFlow's own signatures."""
    signatures = protos.SignatureDefMap.FromString(response.metadata["signature_def"].value).signature_def
    return Metadata(
        response.model_spec.version.value,
        {
            name: Signature(_specs(definition.inputs), _specs(definition.outputs), definition.method_name)
            for name, definition in sorted(signatures.items())
            if not name.startswith("__")  # such as __saved_model_init_op
        },
    )


def parse_statuses(response: Any) -> list[VersionStatus]:
    """The VersionStatus of each version in a GetModelStatusResponse, in the order of the versions."""
    return [
        VersionStatus(entry.version, protos.ModelVersionStatus.State.Name(entry.state), entry.status.error_message)
        for entry in sorted(response.model_version_status, key=lambda entry: entry.version)
    ]


def _output(response: Any, name: str) -> np.ndarray:
    if name not in response.outputs:
        outputs = ", ".join(response.outputs)
        raise ServerError(f"The response has the outputs {outputs}, but not {name}. Is this another project's model?")
    try:
        return decode(response.outputs[name])
    except TensorError as error:
        raise ServerError(f"The output {name} is not a valid tensor: {error}.") from None


def _specs(tensors: Any) -> dict[str, TensorSpec]:
    return {
        name: TensorSpec(type_name(info.dtype), tuple(dim.size for dim in info.tensor_shape.dim))
        for name, info in sorted(tensors.items())
    }
