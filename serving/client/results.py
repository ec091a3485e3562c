"""The responses of a model server as Python objects.

Every function raises a ServerError for a response that is not valid, or that does not fit its request.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from serving import protos
from serving.errors import ServerError
from serving.tensors import TensorError, decode, type_name

_MAX_OUTPUTS = 1000
_STATES = {number: name for name, number in protos.ModelVersionStatus.State.items()}


@dataclass(frozen=True)
class Prediction:
    """`probabilities` float32 [N, classes], `class_ids` int64 [N], and the model versions that computed them.

    `labels` are the names of the classes by class id. They are empty if the model does not name them, or if N is 0.
    `notes` has a word for each picture file: that it is blank, or unlike the training's; "" if nothing is odd. It is
    empty for arrays.
    """

    probabilities: np.ndarray
    class_ids: np.ndarray
    versions: tuple[int, ...]
    labels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Description:
    """What a model says of itself: the version, the names of its classes, and what a caller must know to make inputs.

    `inputs` has the constants of `reading` in data/example.py, by name.
    """

    version: int
    class_names: tuple[str, ...]
    inputs: dict[str, Any]


@dataclass(frozen=True)
class Classification:
    """The `labels` of one example, and their `scores` float32 [classes]."""

    labels: tuple[str, ...]
    scores: np.ndarray


@dataclass(frozen=True)
class TensorSpec:
    """An input or output: the NumPy name of the dtype ("string" for bytes), and the shape.

    In a shape, -1 is any size. The shape is None if the model takes any rank.
    """

    dtype: str
    shape: tuple[int, ...] | None


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
    versions = tuple(dict.fromkeys(version for part in parts for version in part.versions))
    if len(classes := {part.probabilities.shape[1] for part in parts}) > 1:
        raise ServerError(f"The versions {versions} answered with different numbers of classes: {sorted(classes)}.")
    if len(labels := {part.labels for part in parts if part.labels}) > 1:
        names = "; ".join(sorted(map(", ".join, labels)))
        raise ServerError(f"The versions {versions} answered with different names of classes: {names}.")
    return Prediction(
        np.concatenate([part.probabilities for part in parts]),
        np.concatenate([part.class_ids for part in parts]),
        versions,
        next(iter(labels), ()),
    )


def parse_outputs(
    response: Any, names: Sequence[str] = (), others: Container[str] | None = None
) -> dict[str, np.ndarray]:
    """The outputs of a PredictResponse by name: `names`, which it must have, and those of `others`; None is all."""
    found = sorted(response.outputs)
    if missing := [name for name in names if name not in response.outputs]:
        outputs = ", ".join(found[:10]) + (f" and {len(found) - 10} more" if len(found) > 10 else "")
        raise ServerError(
            f"The response has the outputs {outputs}, but not {missing[0]}. Is this another project's model?"
        )
    wanted = [name for name in found if others is None or name in names or name in others]
    if len(wanted) > _MAX_OUTPUTS:
        raise ServerError(
            f"The response has {len(wanted)} outputs, more than {_MAX_OUTPUTS}. Name those you need: output_filter."
        )
    arrays = {}
    for name in wanted:
        try:
            arrays[name] = decode(response.outputs[name])
        except TensorError as error:
            raise ServerError(f"The output {name} is not a valid tensor: {error}.") from None
    return arrays


def parse_prediction(response: Any, count: int | None = None) -> Prediction:
    """The Prediction of a PredictResponse to a request with `count` images; None is any number."""
    outputs = parse_outputs(response, ("probabilities", "class_ids"), ("classes",))
    probabilities = _check(outputs, "probabilities", np.float32, (count, None))
    class_ids = _check(outputs, "class_ids", np.int64, (len(probabilities),))
    classes = probabilities.shape[1]
    if len(strange := class_ids[(class_ids < 0) | (class_ids >= classes)]):
        raise ServerError(
            f"The response has the class id {strange[0]}, but {classes} classes, 0 to {classes - 1}. Mend the model."
        )
    names: Any = _check(outputs, "classes", object, probabilities.shape) if "classes" in outputs else []
    if len(names) and (names != names[0]).any():
        raise ServerError("The names in the output classes differ between the images of one response. Mend the model.")
    labels = tuple(name.decode(errors="replace") for name in names[0]) if len(names) else ()
    return Prediction(probabilities, class_ids, (response.model_spec.version.value,), labels)


def parse_description(response: Any) -> Description:
    """The Description of a PredictResponse to one request of the signature `describe`."""
    outputs = parse_outputs(response, ("class_names",))
    _check(outputs, "class_names", object, (1, None))
    constants = {name: array[0] for name, array in outputs.items() if array.shape[:1] == (1,)}
    names = tuple(name.decode(errors="replace") for name in constants.pop("class_names"))
    return Description(response.model_spec.version.value, names, constants)


def parse_rows(response: Any, count: int, rows: int) -> np.ndarray:
    """The output `probabilities` of a PredictResponse, float32 [count, rows, classes]."""
    return _check(parse_outputs(response, ("probabilities",), ()), "probabilities", np.float32, (count, rows, None))


def parse_classifications(response: Any, count: int) -> list[Classification]:
    """One Classification for each of the `count` examples of a ClassificationRequest."""
    found = response.result.classifications
    if len(found) != count:
        raise ServerError(f"The response has {len(found)} classifications for {count} examples.")
    if len(classes := {len(one.classes) for one in found}) > 1:
        raise ServerError(f"The classifications have different numbers of classes: {sorted(classes)}.")
    return [
        Classification(
            tuple(entry.label for entry in one.classes), np.array([entry.score for entry in one.classes], np.float32)
        )
        for one in found
    ]


def parse_metadata(response: Any) -> Metadata:
    """The Metadata of a GetModelMetadataResponse, without TensorFlow's own signatures."""
    if "signature_def" not in response.metadata:
        raise ServerError("The response has no signature_def. Is it from TensorFlow Serving?")
    try:
        signatures = protos.SignatureDefMap.FromString(response.metadata["signature_def"].value).signature_def
    except DecodeError:
        raise ServerError("The signature_def in the response is not a SignatureDefMap.") from None
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
    if not response.model_version_status:
        raise ServerError("The response has the status of no version.")
    return [
        VersionStatus(entry.version, _STATES.get(entry.state, "UNKNOWN"), entry.status.error_message)
        for entry in sorted(response.model_version_status, key=lambda entry: entry.version)
    ]


def _check(outputs: dict[str, np.ndarray], name: str, dtype: Any, shape: tuple[int | None, ...]) -> np.ndarray:
    """The output `name`, which must have this dtype and this shape; None is any size."""
    array = outputs[name]
    sizes = zip(shape, array.shape, strict=False)
    if array.dtype != dtype or array.ndim != len(shape) or any(size not in (None, found) for size, found in sizes):
        needed = ", ".join("classes" if size is None else str(size) for size in shape)
        raise ServerError(
            f"The output {name} is {array.dtype} {list(array.shape)}, but this request needs"
            f" {np.dtype(dtype)} [{needed}]. Is this another project's model?"
        )
    return array


def _specs(tensors: Any) -> dict[str, TensorSpec]:
    specs = {}
    for name, info in sorted(tensors.items()):
        known = info.HasField("tensor_shape") and not info.tensor_shape.unknown_rank
        shape = tuple(dim.size for dim in info.tensor_shape.dim) if known else None
        specs[name] = TensorSpec(type_name(info.dtype), shape)
    return specs
