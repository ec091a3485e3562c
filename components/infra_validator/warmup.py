"""Requests a model server sends itself while it loads a version, so that no caller is the first.

TF Serving reads them from `assets.extra/tf_serving_warmup_requests`, a TFRecord of PredictionLogs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import tensorflow as tf
from tensorflow_serving.apis import classification_pb2, predict_pb2, prediction_log_pb2

from components.trainer.export import CLASSIFY_EXAMPLES, PREDICT_IMAGES, PREDICT_ROWS
from components.trainer.samples import Samples
from data.records import serialize
from serving.calls import Calls

_BATCHES = (1, 32)


def write_warmup(folder: str, model_name: str, signatures: Sequence[str], samples: Samples) -> int:
    """Writes requests to every signature, of one image and of many, into a SavedModel; returns their number."""
    extra = os.path.join(folder, "assets.extra")
    tf.io.gfile.makedirs(extra)
    logs = [log for size in _BATCHES for log in _logs(model_name, signatures, samples, size)]
    with tf.io.TFRecordWriter(os.path.join(extra, "tf_serving_warmup_requests")) as writer:
        for log in logs:
            writer.write(log.SerializeToString())
    return len(logs)


def _logs(
    model_name: str, signatures: Sequence[str], samples: Samples, size: int
) -> Iterator[prediction_log_pb2.PredictionLog]:
    calls, images = Calls(model_name, None, None), samples.images[:size]
    examples = [serialize(image, 0) for image in images]
    for signature in signatures:
        log = prediction_log_pb2.PredictionLog()
        if signature == CLASSIFY_EXAMPLES:
            content = calls.classify_examples(examples).request.SerializeToString()
            log.classify_log.request.CopyFrom(classification_pb2.ClassificationRequest.FromString(content))
        else:
            call = (
                calls.predict_images(images)
                if signature == PREDICT_IMAGES
                else calls.predict_rows(images)
                if signature == PREDICT_ROWS
                else calls.predict_examples(examples)
            )
            log.predict_log.request.CopyFrom(predict_pb2.PredictRequest.FromString(call.request.SerializeToString()))
        yield log
