"""One request with its answer: from serialized messages to a PredictionLog, and from there to arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from serving.protos import (
    ClassificationRequest,
    ClassificationResponse,
    PredictionLog,
    PredictRequest,
    PredictResponse,
)
from serving.tensors import decode, strings

# The field of PredictionLog, the messages, and the field of the request that holds the inputs.
_KINDS: dict[str, tuple[str, Any, Any, str]] = {
    "Predict": ("predict_log", PredictRequest, PredictResponse, "inputs"),
    "Classify": ("classify_log", ClassificationRequest, ClassificationResponse, "input"),
}
_METHODS = {field: method for method, (field, *_) in _KINDS.items()}
METHODS = {f"/tensorflow.serving.PredictionService/{method}": method for method in _KINDS}
"""The gRPC methods that are logged, and their short names."""
REQUEST_ID = "x-request-id"
"""The key of the metadata in which a caller names a request."""
Add = Callable[[str, bytes, bytes, str | None], None]
"""The type of `RequestLog.add`: the method, the request, the response, and the caller's id of the request."""


@dataclass(frozen=True)
class Record:
    """One request with its answer.

    `inputs` and `outputs` are arrays by name, as `serving.tensors.decode` gives them: strings are bytes, dtype object.
    Classify has the input `inputs` [N], serialized tf.train.Examples, and the outputs `classes` [N, classes] and
    `scores` float32 [N, classes]. `inputs` is empty in a redacted log, `outputs` in a file of warm-up requests. Then
    `version` is the one that was asked for; it is None if none was. `sampling_rate` is the share of the requests that
    the log holds. `request_id` is "" in a log that others wrote.
    """

    time: datetime
    request_id: str
    method: str
    model: str
    version: int | None
    signature: str
    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]
    sampling_rate: float = 1.0


def encode_record(
    method: str,
    request: bytes,
    response: bytes,
    *,
    time_ns: int,
    request_id: str,
    sampling_rate: float = 1.0,
    redact: bool = False,
) -> bytes:
    """The serialized PredictionLog of a request and its response.

    Args:
        method: "Predict" or "Classify".
        request: the serialized request message.
        response: the serialized response message. The log's metadata have its model_spec.
        time_ns: when it was answered, in nanoseconds since 1970, UTC.
        request_id: what the caller sent as `x-request-id`, or another name of the request.
        sampling_rate: the share of the requests that the log holds.
        redact: leave out the inputs.
    """
    field, request_kind, response_kind, inputs = _KINDS[method]
    log = PredictionLog()
    metadata = log.log_metadata
    metadata.timestamp_secs, metadata.timestamp_nanos = divmod(time_ns, 10**9)
    metadata.request_id = request_id
    if sampling_rate < 1:
        metadata.sampling_config.sampling_rate = sampling_rate
    try:
        metadata.model_spec.CopyFrom(response_kind.FromString(response).model_spec)
        if redact:
            asked = request_kind.FromString(request)
            asked.ClearField(inputs)
            asked.DiscardUnknownFields()
            request = asked.SerializeToString()
    except DecodeError:
        request = b"" if redact else request
    entry = getattr(log, field)
    entry.request, entry.response = request, response
    return log.SerializeToString()


def decode_record(record: bytes, otherwise: datetime) -> Record:
    """The Record of a serialized PredictionLog; its time is `otherwise` if the log has none.

    Raises:
        ValueError: it is not a PredictionLog of Predict or Classify, or a tensor has no array; see `TensorError`.
    """
    try:
        log = PredictionLog.FromString(record)
        method = _METHODS.get(log.WhichOneof("log_type"))
        if method is None:
            raise ValueError("it is no PredictionLog of Predict or Classify")
        field, request_kind, response_kind, _ = _KINDS[method]
        entry = getattr(log, field)
        request, response = request_kind.FromString(entry.request), response_kind.FromString(entry.response)
    except DecodeError:
        raise ValueError("it is no PredictionLog") from None
    specs = response.model_spec, request.model_spec
    versions = [spec.version.value for spec in specs if spec.HasField("version")]
    metadata = log.log_metadata
    return Record(
        time=_time(metadata) if metadata.timestamp_secs else otherwise,
        request_id=metadata.request_id,
        method=method,
        model=specs[0].name or specs[1].name,
        version=versions[0] if versions else None,
        signature=specs[0].signature_name or specs[1].signature_name or "serving_default",
        inputs=_arrays(request.inputs) if method == "Predict" else _examples(request),
        outputs=_arrays(response.outputs) if method == "Predict" else _classes(response),
        sampling_rate=metadata.sampling_config.sampling_rate or 1.0,
    )


def _time(metadata: Any) -> datetime:
    # A float would lose the microseconds.
    return datetime.fromtimestamp(metadata.timestamp_secs, UTC) + timedelta(
        microseconds=metadata.timestamp_nanos // 1000
    )


def _arrays(tensors: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: decode(tensor) for name, tensor in tensors.items()}


def _examples(request: Any) -> dict[str, np.ndarray]:
    examples = request.input.example_list.examples
    return {"inputs": strings(examples)} if examples else {}


def _classes(response: Any) -> dict[str, np.ndarray]:
    rows = [entry.classes for entry in response.result.classifications]
    if not rows:
        return {}
    if len({len(row) for row in rows}) > 1:
        raise ValueError("its examples have different numbers of classes")
    shape = len(rows), len(rows[0])
    return {
        "classes": strings(entry.label.encode() for row in rows for entry in row).reshape(shape),
        "scores": np.array([[entry.score for entry in row] for row in rows], np.float32).reshape(shape),
    }
