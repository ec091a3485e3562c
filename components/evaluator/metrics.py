"""The metrics: Keras' own, which AutoGraph leaves alone, and the project's."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras


def plain(metric: type[tf_keras.metrics.Metric]) -> type[tf_keras.metrics.Metric]:
    """A class decorator: AutoGraph does not convert the metric. That would take longer than 2,000 examples."""
    for name in ("update_state", "result"):
        setattr(metric, name, tf.autograph.experimental.do_not_convert(getattr(metric, name)))
    return metric


@plain
class SparseCategoricalAccuracy(tf_keras.metrics.SparseCategoricalAccuracy):
    """Keras' metric."""


@plain
class SparseCategoricalCrossentropy(tf_keras.metrics.SparseCategoricalCrossentropy):
    """Keras' metric."""


@plain
class ExpectedCalibrationError(tf_keras.metrics.Metric):
    """How far the winning probability is from the share of correct predictions: the mean gap over equal-width bins.

    Guo et al., On Calibration of Modern Neural Networks, 2017, equation 3. TFMA's own calibration metrics are
    for binary models, and its calibration plot takes as long as the rest of the evaluation.
    """

    def __init__(self, bins: int = 10, name: str = "expected_calibration_error", dtype: str | None = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self.bins = bins
        # One gap for each bin, then the count. TFMA merges batches by adding up one variable.
        self.sums = self.add_weight("sums", [bins + 1], initializer="zeros")

    def update_state(self, y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: tf.Tensor | None = None) -> None:
        """Adds a batch: `y_true` labels [N] or [N, 1], `y_pred` probabilities [N, classes]."""
        labels = tf.reshape(tf.cast(y_true, tf.int64), [-1])
        confidence = tf.reduce_max(y_pred, axis=-1)
        correct = tf.cast(tf.argmax(y_pred, axis=-1) == labels, confidence.dtype)
        weight = tf.ones_like(confidence) if sample_weight is None else tf.reshape(sample_weight, [-1])
        index = tf.minimum(tf.cast(confidence * self.bins, tf.int32), self.bins - 1)
        gaps = tf.math.unsorted_segment_sum((correct - confidence) * weight, index, self.bins)
        self.sums.assign_add(tf.concat([gaps, [tf.reduce_sum(weight)]], axis=0))

    def result(self) -> tf.Tensor:
        return tf.math.divide_no_nan(tf.reduce_sum(tf.abs(self.sums[:-1])), self.sums[-1])

    def reset_state(self) -> None:
        self.sums.assign(tf.zeros_like(self.sums))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "bins": self.bins}
