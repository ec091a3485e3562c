"""What a model server answers, as Python objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from serving import protos
from serving.errors import ConfigError, ServerError
from serving.tensors import TensorError, decode, type_name


@dataclass(frozen=True)
class Prediction:
    """`probabilities` float32 [N, classes], `class_ids` int64 [N], and the model versions that answered."""

    probabilities: np.ndarray
    class_ids: np.ndarray
    versions: tuple[int, ...]


@dataclass(frozen=True)
class Classification:
    """One example's `labels`, and their `scores` float32 [classes]."""

    labels: tuple[str, ...]
    scores: np.ndarray


@dataclass(frozen=True)
class TensorSpec:
    """An input or output: NumPy's name of the dtype ("string" for bytes); -1 in the shape is any size."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Signature:
    """One of the model's functions."""

    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]
    method: str


@dataclass(frozen=True)
class Metadata:
    """What a model offers, and the version that says so."""

    version: int
    signatures: dict[str, Signature]


@dataclass(frozen=True)
class VersionStatus:
    """`state` is TensorFlow Serving's: START, LOADING, AVAILABLE, UNLOADING or END; `error` why it is not served."""

    version: int
    state: str
    error: str


def joined(parts: list[Prediction]) -> Prediction:
    if len(parts) == 1:
        return parts[0]
    return Prediction(
        np.concatenate([part.probabilities for part in parts]),
        np.concatenate([part.class_ids for part in parts]),
        tuple(dict.fromkeys(version for part in parts for version in part.versions)),
    )


def output(response: Any, name: str) -> np.ndarray:
    if name not in response.outputs:
        raise ServerError(f"The model answered {', '.join(response.outputs)} but no {name}: is it this project's?")
    try:
        return decode(response.outputs[name])
    except TensorError as error:
        raise ServerError(f"The answer's {name} cannot be read: {error}.") from None


def prediction(response: Any) -> Prediction:
    version = response.model_spec.version.value
    return Prediction(output(response, "probabilities"), output(response, "class_ids"), (version,))


def classifications(response: Any) -> list[Classification]:
    return [
        Classification(
            tuple(entry.label for entry in one.classes), np.array([entry.score for entry in one.classes], np.float32)
        )
        for one in response.result.classifications
    ]


def metadata(response: Any) -> Metadata:
    signatures = protos.SignatureDefMap.FromString(response.metadata["signature_def"].value).signature_def
    return Metadata(
        response.model_spec.version.value,
        {
            name: Signature(_specs(definition.inputs), _specs(definition.outputs), definition.method_name)
            for name, definition in sorted(signatures.items())
            if not name.startswith("__")  # TensorFlow's own, such as __saved_model_init_op
        },
    )


def _specs(tensors: Any) -> dict[str, TensorSpec]:
    return {
        name: TensorSpec(type_name(info.dtype), tuple(dim.size for dim in info.tensor_shape.dim))
        for name, info in sorted(tensors.items())
    }


def statuses(response: Any) -> list[VersionStatus]:
    return [
        VersionStatus(entry.version, protos.ModelVersionStatus.State.Name(entry.state), entry.status.error_message)
        for entry in sorted(response.model_version_status, key=lambda entry: entry.version)
    ]


def image_size(metadata: Metadata) -> tuple[int, int]:
    """Rows and columns of the images a model takes.

    Raises:
        ConfigError: a model without the signature `predict_images`.
    """
    signature = metadata.signatures.get("predict_images")
    if signature is None or "images" not in signature.inputs:
        raise ConfigError(
            f"Version {metadata.version} has no signature predict_images with an input images;"
            f" it has {', '.join(metadata.signatures)}."
        )
    _, rows, columns = signature.inputs["images"].shape
    return rows, columns
