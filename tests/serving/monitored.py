"""Answers of a made-up classifier, logs of them, and version folders with a reference, for the tests of the monitor."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from data.example import ExampleSpec
from data.reference import IN_VERSION, summarize, write_reference
from serving.protos import ClassificationRequest, ClassificationResponse, PredictRequest, PredictResponse
from serving.request_log.files import Files
from serving.request_log.record import encode_record
from serving.tensors import encode

NAMES = tuple("abcdefghij")
SPEC = ExampleSpec(rows=4, columns=3, class_names=NAMES)
START = datetime(2026, 5, 4, 20, tzinfo=UTC)
SURE, UNSURE = 9.0, 7.0
"""How far the true class stands out: accuracies of about 0.98 and 0.92."""


def answers(count: int, signal: float = SURE, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, float32 [N, 10], and true class ids, int64 [N]."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 10, count)
    logits = generator.normal(0, 2.2, (count, 10)) + signal * np.eye(10)[labels]
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32), labels


def write_version(base: Path, version: int, count: int = 3_000) -> Path:
    """A version folder whose reference is of the made-up classifier; without a reference if `count` is 0."""
    folder = base / str(version)
    (folder / IN_VERSION).parent.mkdir(parents=True)
    (folder / "saved_model.pb").touch()
    if count:
        write_reference(summarize(*answers(count, seed=1_000_000), SPEC), str((folder / IN_VERSION).parent))
    return folder


def record(
    version: int | None,
    outputs: dict[str, np.ndarray],
    name: str,
    when: datetime = START,
    inputs: dict[str, np.ndarray] | None = None,
    model: str = "letters",
    redact: bool = False,
) -> tuple[bytes, int]:
    """A record of a request log, and its time."""
    asked, answered = PredictRequest(model_spec={"name": model}), PredictResponse(model_spec={"name": model})
    if version is not None:
        answered.model_spec.version.value = version
    for message, arrays in ((asked.inputs, inputs or {}), (answered.outputs, outputs)):
        for key, array in arrays.items():
            message[key].CopyFrom(encode(array))
    nanoseconds = int(when.timestamp() * 1e9)
    sides = asked.SerializeToString(), answered.SerializeToString()
    return encode_record("Predict", *sides, time_ns=nanoseconds, request_id=name, redact=redact), nanoseconds


def classified(version: int, probabilities: np.ndarray, order: Iterable[int], name: str) -> tuple[bytes, int]:
    """A record of Classify, with the classes in that order."""
    answered = ClassificationResponse(model_spec={"name": "letters", "version": {"value": version}})
    for row in probabilities:
        entry = answered.result.classifications.add()
        for class_id in order:
            entry.classes.add(label=NAMES[class_id], score=row[class_id])
    nanoseconds = int(START.timestamp() * 1e9)
    sides = ClassificationRequest().SerializeToString(), answered.SerializeToString()
    return encode_record("Classify", *sides, time_ns=nanoseconds, request_id=name), nanoseconds


def write_records(log: Path, records: Iterable[tuple[bytes, int]]) -> None:
    files = Files(log, max_mb=1_000, max_days=100_000)
    for content, when in records:
        files.write(content, when)
    files.close()


def write_log(
    log: Path,
    version: int,
    probabilities: np.ndarray,
    prefix: str = "r",
    days: int = 3,
    redact: bool = False,
    **more: Any,
) -> None:
    """A log of requests with one input each, over `days` days: `images` uint8 [1, 4, 3]."""
    count = len(probabilities)
    images = np.random.default_rng(0).integers(0, 256, (count, 1, 4, 3), np.uint8)
    write_records(
        log,
        (
            record(
                version,
                {"probabilities": probabilities[index : index + 1]},
                f"{prefix}{index}",
                START + timedelta(days=days) * (index / count),
                {"images": images[index]},
                redact=redact,
                **more,
            )
            for index in range(count)
        ),
    )
