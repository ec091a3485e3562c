"""The checks that a served model must pass before it is pushed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from timeit import timeit

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from components.baseline import read_signatures
from components.infra_validator.report import Check
from components.infra_validator.settings import Infra
from components.trainer.reference import ReferencePredictions
from components.trainer.signatures import (
    CLASS_IDS,
    CLASSES,
    CLASSIFY_EXAMPLES,
    DESCRIBE,
    PREDICT_IMAGES,
    PREDICT_ROWS,
    PROBABILITIES,
)
from data.example import serialize
from serving.client import Client
from serving.errors import (
    AuthenticationError,
    ConfigError,
    DeadlineError,
    ServingError,
    TooLargeError,
    UnavailableError,
    UnsupportedError,
)

SURROUNDINGS = UnavailableError, DeadlineError, AuthenticationError, UnsupportedError, TooLargeError, ConfigError
"""What says nothing about the model, unless the server has ended: no connection, no time, no rights, no memory."""
_CALLS = 50
"""Calls with one input, whose median is the latency."""


def _call(
    client: Client, signature: str, reference: ReferencePredictions
) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]:
    """Calls one of the model's signatures with the reference inputs.

    Returns:
        probabilities [N, classes], class ids [N] and the names of the classes; or, of predict_rows, the probabilities
        after each row, None and no names.
    """
    if signature == PREDICT_ROWS:
        return client.predict_rows(reference.inputs), None, ()
    examples = [serialize(array, 0) for array in reference.inputs]
    if signature == CLASSIFY_EXAMPLES:
        classifications = client.classify_examples(examples)
        ids = {label: class_id for class_id, label in enumerate(reference.labels.tolist())}
        class_ids = np.array([ids.get(one.labels[one.scores.argmax()], -1) for one in classifications], np.int64)
        return np.stack([one.scores for one in classifications]), class_ids, classifications[0].labels
    images = signature == PREDICT_IMAGES
    prediction = client.predict(reference.inputs) if images else client.predict_examples(examples)
    return prediction.probabilities, prediction.class_ids, prediction.labels


def check_predictions(client: Client, signature: str, reference: ReferencePredictions, infra: Infra) -> Iterator[Check]:
    """Calls `signature` with the reference inputs and yields one check for each property of the result.

    Raises:
        ServingError: one of SURROUNDINGS.
    """
    names = ", ".join(reference.labels.tolist())
    if signature == DESCRIBE:
        try:
            seen = ", ".join(client.describe().class_names)
        except SURROUNDINGS:
            raise
        except ServingError as error:
            seen = str(error)
        yield Check(f"{signature}, {CLASSES}", seen, names, seen == names)
        return
    try:
        probabilities, class_ids, labels = _call(client, signature, reference)
    except SURROUNDINGS:
        raise
    except (ServingError, ValueError) as error:
        yield Check(signature, str(error), "a prediction", False)
        return
    count, classes = reference.probabilities.shape
    shape = [count, reference.inputs.shape[1], classes] if signature == PREDICT_ROWS else [count, classes]
    seen, expected = f"{probabilities.dtype} {list(probabilities.shape)}", f"float32 {shape}"
    yield Check(f"{signature}, {PROBABILITIES}", seen, expected, seen == expected)
    if seen != expected:
        return
    not_finite = int((~np.isfinite(probabilities)).sum())
    yield Check(f"{signature}, values", f"{not_finite} NaN or infinite", "all finite", not_finite == 0)
    if not_finite:
        return
    deviation = float(np.abs(probabilities.sum(axis=-1) - 1).max())
    yield Check(f"{signature}, rows sum to 1", f"off by {deviation:.1e}", "at most 1e-04", deviation <= 1e-4)
    last = probabilities[:, -1] if signature == PREDICT_ROWS else probabilities
    difference = float(np.abs(last - reference.probabilities).max())
    yield Check(
        f"{signature}, the Trainer's predictions",
        f"{difference:.1e} apart",
        f"at most {infra.tolerance:.0e}",
        difference <= infra.tolerance,
    )
    if class_ids is not None:
        correct = int((class_ids == last.argmax(axis=-1)).sum())
        seen = f"{class_ids.dtype} {list(class_ids.shape)}, {correct} the likeliest"
        expected = f"int64 [{count}], {count} the likeliest"
        yield Check(f"{signature}, {CLASS_IDS}", seen, expected, seen == expected)
        seen = ", ".join(labels) or "none"
        yield Check(f"{signature}, {CLASSES}", seen, names, seen == names)


def check_signatures(folder: str, expected: Sequence[str]) -> Iterator[Check]:
    """Looks for the signatures in the SavedModel without loading it."""
    try:
        found = sorted(read_signatures(folder))
    except DecodeError:
        yield Check("saved_model.pb", "it is damaged", "a SavedModel", False)
        return
    missing = sorted(set(expected) - set(found))
    seen = f"{', '.join(missing)} missing, there are {', '.join(found)}" if missing else ", ".join(found)
    yield Check("signatures", seen, ", ".join(sorted(expected)), not missing)


def check_latency(client: Client, folder: str, reference: ReferencePredictions, infra: Infra) -> Check:
    """Compares one input through the server with the same signature called in this process: the median of the ratios.

    The two calls of a ratio follow each other, so that a busy machine slows both.
    """
    loaded = tf.saved_model.load(folder)
    function = loaded.signatures[PREDICT_IMAGES]
    (name,) = function.structured_input_signature[1]
    one = reference.inputs[:1]

    def in_process() -> None:
        function(**{name: tf.constant(one)})[PROBABILITIES].numpy()

    def served() -> None:
        client.predict(one)

    with tf.device("CPU:0"):
        for _ in range(5):
            in_process()
            served()
        times = np.array([(timeit(in_process, number=1), timeit(served, number=1)) for _ in range(_CALLS)])
    ratio = float(np.median(times[:, 1] / times[:, 0]))
    seen = f"{np.median(times[:, 1]) * 1e3:.1f} ms, {ratio:.2f} × in process (median of {_CALLS} pairs)"
    return Check(
        "latency of one image", seen, f"at most {infra.max_latency_ratio:g} ×", ratio <= infra.max_latency_ratio
    )


def check_size(folder: str, infra: Infra) -> Check:
    """Adds up the sizes of the SavedModel's files."""
    files = [f"{parent}/{name}" for parent, _, names in tf.io.gfile.walk(folder) for name in names]
    mebibytes = sum(tf.io.gfile.stat(file).length for file in files) / 2**20
    passed = mebibytes <= infra.max_mebibytes
    return Check("size of the model", f"{mebibytes:.1f} MiB", f"at most {infra.max_mebibytes:g} MiB", passed)
