"""What a served model is asked before it is pushed, and what it has to answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2

from components.settings import Infra
from components.trainer.export import CLASS_IDS, CLASSIFY_EXAMPLES, PREDICT_IMAGES, PREDICT_ROWS, PROBABILITIES
from components.trainer.samples import Samples
from data.records import serialize
from serving.client import Client
from serving.errors import ServingError

_CALLS = 50
"""Single-image calls whose median is the latency."""


@dataclass(frozen=True)
class Check:
    """One line of the report: what was looked at, what was seen, what was expected."""

    what: str
    seen: str
    expected: str
    passed: bool

    def __str__(self) -> str:
        return f"{self.what}: {self.seen}; expected: {self.expected}"


class Answer(NamedTuple):
    """What a signature answered: `probabilities` [N, classes], or after each row; `class_ids` [N] where it has any."""

    probabilities: np.ndarray
    class_ids: np.ndarray | None


def ask(client: Client, signature: str, samples: Samples) -> Answer:
    """Calls one of the model's signatures with the samples.

    Raises:
        ServingError: no answer.
    """
    if signature == PREDICT_ROWS:
        return Answer(client.predict_rows(samples.images), None)
    if signature == PREDICT_IMAGES:
        prediction = client.predict(samples.images)
        return Answer(prediction.probabilities, prediction.class_ids)
    examples = [serialize(image, 0) for image in samples.images]
    if signature == CLASSIFY_EXAMPLES:
        classified = client.classify_examples(examples)
        labels = np.array([int(one.labels[one.scores.argmax()]) for one in classified], np.int64)
        return Answer(np.stack([one.scores for one in classified]), labels)
    prediction = client.predict_examples(examples)
    return Answer(prediction.probabilities, prediction.class_ids)


def check_answers(client: Client, signature: str, samples: Samples, infra: Infra) -> Iterator[Check]:
    """Asks `signature` for the samples and yields one check for each thing that must hold."""
    try:
        probabilities, class_ids = ask(client, signature, samples)
    except (ServingError, ValueError) as error:
        yield Check(signature, str(error), "an answer", False)
        return
    count, classes = samples.probabilities.shape
    shape = [count, samples.images.shape[1], classes] if signature == PREDICT_ROWS else [count, classes]
    seen = f"{probabilities.dtype} {list(probabilities.shape)}"
    yield Check(f"{signature}, {PROBABILITIES}", seen, f"float32 {shape}", seen == f"float32 {shape}")
    if seen != f"float32 {shape}":
        return
    strange = int((~np.isfinite(probabilities)).sum())
    yield Check(f"{signature}, values", f"{strange} NaN or infinite", "all finite", strange == 0)
    if strange:
        return
    off = float(np.abs(probabilities.sum(axis=-1) - 1).max())
    yield Check(f"{signature}, rows sum to 1", f"off by {off:.1e}", "at most 1e-04", off <= 1e-4)
    last = probabilities[:, -1] if signature == PREDICT_ROWS else probabilities
    apart = float(np.abs(last - samples.probabilities).max())
    agree = apart <= infra.tolerance
    yield Check(
        f"{signature}, the Trainer's predictions", f"{apart:.1e} apart", f"at most {infra.tolerance:.0e}", agree
    )
    if class_ids is not None:
        right = int((class_ids == last.argmax(axis=-1)).sum())
        seen = f"{class_ids.dtype} {list(class_ids.shape)}, {right} the likeliest"
        expected = f"int64 [{count}], {count} the likeliest"
        yield Check(f"{signature}, {CLASS_IDS}", seen, expected, seen == expected)


def check_signatures(folder: str, expected: Sequence[str]) -> Iterator[Check]:
    """Looks for the signatures in the SavedModel without loading it."""
    with tf.io.gfile.GFile(f"{folder}/saved_model.pb", "rb") as file:
        content = file.read()
    try:
        graphs = saved_model_pb2.SavedModel.FromString(content).meta_graphs
    except DecodeError:
        yield Check("saved_model.pb", "it is damaged", "a SavedModel", False)
        return
    found = sorted({name for graph in graphs for name in graph.signature_def if not name.startswith("__")})
    missing = sorted(set(expected) - set(found))
    seen = f"{', '.join(missing)} missing, there are {', '.join(found)}" if missing else ", ".join(found)
    yield Check("signatures", seen, ", ".join(sorted(expected)), not missing)


def check_latency(client: Client, folder: str, samples: Samples, infra: Infra) -> Check:
    """Compares a single image's median time through the server with the same signature called in this process."""
    loaded = tf.saved_model.load(folder)
    function = loaded.signatures[PREDICT_IMAGES]
    image = samples.images[:1]

    def in_process() -> None:
        function(images=tf.constant(image))[PROBABILITIES].numpy()

    def served() -> None:
        client.predict(image)

    with tf.device("CPU:0"):
        for _ in range(5):
            in_process()
            served()
        # In turns, so that both see the same machine.
        times = [(_seconds(in_process), _seconds(served)) for _ in range(_CALLS)]
    here, there = np.median(times, axis=0)
    ratio = there / here
    seen = f"{there * 1e3:.1f} ms, {ratio:.2f} × in process"
    return Check(
        "latency of one image", seen, f"at most {infra.max_latency_ratio:g} ×", ratio <= infra.max_latency_ratio
    )


def check_size(folder: str, infra: Infra) -> Check:
    """Weighs the SavedModel."""
    files = [f"{parent}/{name}" for parent, _, names in tf.io.gfile.walk(folder) for name in names]
    mebibytes = sum(tf.io.gfile.stat(file).length for file in files) / 2**20
    passed = mebibytes <= infra.max_mebibytes
    return Check("size of the model", f"{mebibytes:.1f} MiB", f"at most {infra.max_mebibytes:g} MiB", passed)


def _seconds(call: Callable[[], None]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
