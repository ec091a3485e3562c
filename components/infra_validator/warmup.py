"""Requests a model server sends itself while it loads a version, so that no caller is the first.

TF Serving reads them from `assets.extra/tf_serving_warmup_requests`, a TFRecord of PredictionLogs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2
from tfx.utils import path_utils

from components.trainer.export import CLASSIFY_EXAMPLES, PREDICT_IMAGES, PREDICT_ROWS
from components.trainer.samples import Samples
from data.records import serialize
from serving.calls import Calls

_BATCHES = (1, 32)


def write_warmup(folder: str, model_name: str, signatures: Sequence[str], samples: Samples) -> None:
    """Writes requests to every signature, of one image and of many, into a SavedModel."""
    file = path_utils.warmup_file_path(folder)
    tf.io.gfile.makedirs(os.path.dirname(file))
    with tf.io.TFRecordWriter(file) as writer:
        for size in _BATCHES:
            for log in _logs(model_name, signatures, samples, size):
                writer.write(log.SerializeToString())


def _logs(
    model_name: str, signatures: Sequence[str], samples: Samples, size: int
) -> Iterator[prediction_log_pb2.PredictionLog]:
    calls, images = Calls(model_name, None, None), samples.images[:size]
    examples = [serialize(image, 0) for image in images]
    for signature in signatures:
        log = prediction_log_pb2.PredictionLog()
        entry: Any = log.predict_log
        if signature == CLASSIFY_EXAMPLES:
            entry, call = log.classify_log, calls.classify_examples(examples)
        elif signature == PREDICT_IMAGES:
            call = calls.predict_images(images)
        elif signature == PREDICT_ROWS:
            call = calls.predict_rows(images)
        else:
            call = calls.predict_examples(examples)
        entry.request.MergeFromString(call.request.SerializeToString())
        yield log
