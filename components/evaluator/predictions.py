"""The predictions for each example of the test split, and the reference for what is served later.

Both lie beside TFMA's metrics in the artifact `evaluation`.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from components.trainer.signatures import PREDICT_ROWS, PROBABILITIES, SERVING_DEFAULT
from data.errors import UserError
from data.example import ExampleSpec, input_spec, parse
from data.reference import summarize, write_reference

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
    """Calls the SavedModels `model` and `baseline` with the examples in `files`, and writes the result to `folder`.

    The reference of `data.reference` is made of the same answers.

    Raises:
        UserError: an answer of `model` is not finite.
    """
    import tensorflow as tf

    from data.records import read_records

    loaded = tf.saved_model.load(model).signatures
    other = tf.saved_model.load(baseline).signatures if baseline else None
    rows = loaded.get(PREDICT_ROWS)
    parts: list[dict[str, np.ndarray]] = []
    worst: list[tuple[float, int, np.ndarray]] = []
    for number, records in enumerate(read_records(files).batch(_BATCH)):
        inputs, labels = map(np.stack, zip(*(parse(record, spec) for record in records.numpy()), strict=True))
        probabilities = loaded[SERVING_DEFAULT](examples=records)[PROBABILITIES].numpy()
        part = {
            "ids": tf.fingerprint(records).numpy().view("<u8")[:, 0],
            "labels": labels.astype(np.int64),
            "class_ids": probabilities.argmax(axis=1),
            "confidence": probabilities.max(axis=1),
            "probabilities": probabilities,
        }
        if other:
            part["baseline_class_ids"] = other[SERVING_DEFAULT](examples=records)[PROBABILITIES].numpy().argmax(axis=1)
        if rows:
            answers = rows(**{input_spec(spec).name: tf.constant(inputs)})[PROBABILITIES].numpy()
            part["right"] = answers.argmax(axis=2) == labels[:, np.newaxis]
        parts.append(part)
        wrong = np.flatnonzero(part["class_ids"] != labels)
        worst += [(-float(part["confidence"][i]), number * _BATCH + int(i), inputs[i]) for i in wrong]
        worst = sorted(worst, key=lambda item: item[:2])[:WORST]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    right, answers = joined.pop("right", None), joined.pop("probabilities")
    predictions = Predictions(
        **{"baseline_class_ids": np.zeros(0, np.int64), **joined},
        row_accuracy=np.zeros(0, np.float32) if right is None else right.mean(axis=0, dtype=np.float32),
        worst=np.array([position for _, position, _ in worst], np.int64),
        worst_inputs=np.array([array for _, _, array in worst]),
    )
    if unusable := np.count_nonzero(~np.isfinite(predictions.confidence)):
        raise UserError(
            f"The model answers {unusable:,} of {len(predictions.confidence):,} test examples with NaN instead of"
            " probabilities: its training diverged. Lower training.learning_rate or set training.clip_norm."
        )
    content = io.BytesIO()
    np.savez_compressed(content, **predictions._asdict())
    with tf.io.gfile.GFile(os.path.join(folder, _FILE), "wb") as file:
        file.write(content.getvalue())
    write_reference(summarize(answers, predictions.labels, spec), folder)
    return predictions


def read_predictions(folder: str) -> Predictions:
    """What `write_predictions` wrote to a local `folder`."""
    with np.load(os.path.join(folder, _FILE)) as saved:
        return Predictions(**saved)
