"""The predictions for each example of the test split, beside TFMA's metrics in the artifact `evaluation`."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from data.example import ExampleSpec, input_spec, parse

if TYPE_CHECKING:
    import tensorflow as tf

WORST = 40
"""How many of the most confidently wrong examples are kept, with their inputs."""

_FILE = "predictions.npz"
_BATCH = 256


class Predictions(NamedTuple):
    """What the candidate, and the baseline if there is one, predicted for the N examples of the test split."""

    ids: np.ndarray
    """uint64 [N], TensorFlow's Fingerprint64 of each serialized example: the same example has the same id anywhere."""
    labels: np.ndarray
    """int64 [N], the true class ids."""
    class_ids: np.ndarray
    """int64 [N], the candidate's."""
    confidence: np.ndarray
    """float32 [N], the candidate's probability of its class id."""
    baseline_class_ids: np.ndarray
    """int64 [N], or [0] without a baseline."""
    row_accuracy: np.ndarray
    """float32 [rows], the candidate's accuracy after each row, or [0] for a bidirectional model."""
    worst: np.ndarray
    """int64 [≤ WORST], the positions of the most confidently wrong examples, the worst first."""
    worst_inputs: np.ndarray
    """[≤ WORST, …], their inputs as `data.example.parse` returns them."""


def write_predictions(
    folder: str, files: Sequence[str], model: str, baseline: str | None, spec: ExampleSpec
) -> Predictions:
    """Calls the SavedModels `model` and `baseline` with the examples in `files`, and writes the result to `folder`."""
    import tensorflow as tf

    from components.trainer.export import PREDICT_ROWS, PROBABILITIES

    loaded = tf.saved_model.load(model).signatures
    other = tf.saved_model.load(baseline).signatures if baseline else None
    default, rows = tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY, loaded.get(PREDICT_ROWS)
    parts: list[dict[str, np.ndarray]] = []
    for records in _batches(files):
        parsed = [parse(record, spec) for record in records.numpy()]
        labels = np.array([label for _, label in parsed], np.int64)
        probabilities = loaded[default](examples=records)[PROBABILITIES].numpy()
        part = {
            "ids": tf.fingerprint(records).numpy().view("<u8")[:, 0],
            "labels": labels,
            "class_ids": probabilities.argmax(axis=1),
            "confidence": probabilities.max(axis=1),
        }
        if other:
            part["baseline_class_ids"] = other[default](examples=records)[PROBABILITIES].numpy().argmax(axis=1)
        if rows:
            inputs = {input_spec(spec).name: tf.constant(np.stack([array for array, _ in parsed]))}
            part["right"] = rows(**inputs)[PROBABILITIES].numpy().argmax(axis=2) == labels[:, np.newaxis]
        parts.append(part)
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    right = joined.pop("right", None)
    wrong = np.flatnonzero(joined["class_ids"] != joined["labels"])
    worst = wrong[np.argsort(-joined["confidence"][wrong], kind="stable")][:WORST]
    predictions = Predictions(
        **{"baseline_class_ids": np.zeros(0, np.int64), **joined},
        row_accuracy=np.zeros(0, np.float32) if right is None else right.mean(axis=0, dtype=np.float32),
        worst=worst,
        worst_inputs=_inputs(files, worst, spec),
    )
    content = io.BytesIO()
    np.savez_compressed(content, **predictions._asdict())
    with tf.io.gfile.GFile(os.path.join(folder, _FILE), "wb") as file:
        file.write(content.getvalue())
    return predictions


def read_predictions(folder: str) -> Predictions | None:
    """What `write_predictions` wrote to a local `folder`; None for an evaluation of an earlier version, without it."""
    try:
        with np.load(os.path.join(folder, _FILE)) as saved:
            return Predictions(**saved)
    except FileNotFoundError:
        return None


def _batches(files: Sequence[str]) -> Iterator[tf.Tensor]:
    from components.trainer.input import read_records

    yield from read_records(files).batch(_BATCH)


def _inputs(files: Sequence[str], positions: np.ndarray, spec: ExampleSpec) -> np.ndarray:
    """The inputs of the examples at `positions`, in that order."""
    wanted, found = set(positions.tolist()), {}
    for number, records in enumerate(_batches(files)):
        for position in wanted & set(range(number * _BATCH, (number + 1) * _BATCH)):
            found[position] = parse(records.numpy()[position - number * _BATCH], spec)[0]
    return np.stack([found[position] for position in positions.tolist()]) if found else np.zeros(0)
