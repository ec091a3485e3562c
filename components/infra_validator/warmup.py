"""Warm-up requests: a model server sends them to itself while it loads a version, so no caller waits for the first.

TF Serving reads them from `assets.extra/tf_serving_warmup_requests`, a TFRecord of PredictionLogs.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2
from tfx.utils import path_utils

from components.trainer.reference import ReferencePredictions
from components.trainer.signatures import CLASSIFY_EXAMPLES, DESCRIBE, PREDICT_IMAGES, PREDICT_ROWS, SERVING_DEFAULT
from data.example import serialize
from serving.client.calls import Calls

_BATCHES = (1, 32)


def write_warmup(folder: str, model_name: str, signatures: Sequence[str], reference: ReferencePredictions) -> None:
    """Writes requests to every signature, with one input and with many, into a SavedModel."""
    file = path_utils.warmup_file_path(folder)
    tf.io.gfile.makedirs(os.path.dirname(file))
    calls = Calls(model_name, None, None)
    with tf.io.TFRecordWriter(file) as writer:
        for size in _BATCHES:
            inputs = reference.inputs[:size]
            examples = [serialize(array, 0) for array in inputs]
            requests = {
                SERVING_DEFAULT: calls.predict_examples(examples),
                PREDICT_IMAGES: calls.predict_images(inputs),
                PREDICT_ROWS: calls.predict_rows(inputs),
                CLASSIFY_EXAMPLES: calls.classify_examples(examples),
                DESCRIBE: calls.describe(),
            }
            for signature in signatures:
                log = prediction_log_pb2.PredictionLog()
                entry: Any = log.classify_log if signature == CLASSIFY_EXAMPLES else log.predict_log
                entry.request.MergeFromString(requests[signature].request.SerializeToString())
                writer.write(log.SerializeToString())
