"""Warm-up requests: a model server sends them to itself while it loads a version, so no caller waits for the first.

TF Serving reads them from `assets.extra/tf_serving_warmup_requests`, a TFRecord of PredictionLogs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2
from tfx.utils import path_utils

from components.trainer.reference import ReferencePredictions
from components.trainer.signatures import CLASSIFY_EXAMPLES, PREDICT_IMAGES, PREDICT_ROWS
from data.example import serialize
from serving.client.calls import Calls

_BATCHES = (1, 32)


def write_warmup(folder: str, model_name: str, signatures: Sequence[str], reference: ReferencePredictions) -> None:
    """Writes requests to every signature, with one input and with many, into a SavedModel."""
    file = path_utils.warmup_file_path(folder)
    tf.io.gfile.makedirs(os.path.dirname(file))
    with tf.io.TFRecordWriter(file) as writer:
        for size in _BATCHES:
            for prediction_log in _logs(model_name, signatures, reference, size):
                writer.write(prediction_log.SerializeToString())


def _logs(
    model_name: str, signatures: Sequence[str], reference: ReferencePredictions, size: int
) -> Iterator[prediction_log_pb2.PredictionLog]:
    calls, inputs = Calls(model_name, None, None), reference.inputs[:size]
    examples = [serialize(array, 0) for array in inputs]
    for signature in signatures:
        prediction_log = prediction_log_pb2.PredictionLog()
        entry: Any = prediction_log.predict_log
        if signature == CLASSIFY_EXAMPLES:
            entry, call = prediction_log.classify_log, calls.classify_examples(examples)
        elif signature == PREDICT_IMAGES:
            call = calls.predict_images(inputs)
        elif signature == PREDICT_ROWS:
            call = calls.predict_rows(inputs)
        else:
            call = calls.predict_examples(examples)
        entry.request.MergeFromString(call.request.SerializeToString())
        yield prediction_log
