"""The metrics. They take many examples at once, and share one pass over them.

TFMA gives its own metrics, and Keras', one example at a time: that took most of an evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
from tensorflow_model_analysis.metrics import metric_types
from tensorflow_model_analysis.metrics.metric_util import to_label_prediction_example_weight
from tensorflow_model_analysis.metrics.multi_class_confusion_matrix_metrics import Matrices, MatrixEntryKey
from tensorflow_model_analysis.proto import config_pb2

_SUMS = "_sums"  # TFMA writes no metric whose name begins so
_BINS = 10
_EPSILON = 1e-7
"""The least probability of which Keras takes the logarithm."""


class Sums(NamedTuple):
    """Of N examples in C classes: what the metrics are made of."""

    examples: int
    correct: int
    loss: float
    """The sum of the cross-entropies, in nats."""
    gaps: np.ndarray
    """float64 [bins]: the sum of correct (0 or 1) minus confidence, by the confidence."""
    confusion: np.ndarray
    """int64 [C, C], by true and predicted class."""


def add_up(labels: np.ndarray, probabilities: np.ndarray) -> Sums:
    """The sums of the labels [N] and the probabilities [N, C]."""
    (count, classes), predicted = probabilities.shape, probabilities.argmax(axis=1)
    confidence, correct = probabilities.max(axis=1), predicted == labels
    chosen = probabilities[np.arange(count), labels].astype(np.float64)
    bins = np.minimum((confidence * _BINS).astype(np.int64), _BINS - 1)
    return Sums(
        count,
        int(correct.sum()),
        float(-np.log(np.clip(chosen, _EPSILON, 1 - _EPSILON)).sum()),
        np.bincount(bins, correct - confidence.astype(np.float64), minlength=_BINS),
        np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes),
    )


class _SumsCombineFn(beam.CombineFn):
    """Adds up the examples of all extracts of a slice."""

    def __init__(self, key: metric_types.MetricKey, eval_config: config_pb2.EvalConfig) -> None:
        self._key, self._eval_config = key, eval_config

    def create_accumulator(self) -> Sums | None:
        return None

    def add_input(self, sums: Sums | None, element: metric_types.StandardMetricInputs) -> Sums | None:
        labels, probabilities, _ = next(
            to_label_prediction_example_weight(
                element, eval_config=self._eval_config, model_name=self._key.model_name, flatten=False, squeeze=False
            )
        )
        labels = labels.reshape(-1)
        return self.merge_accumulators([sums, add_up(labels, probabilities.reshape(len(labels), -1))])

    def merge_accumulators(self, accumulators: Iterable[Sums | None]) -> Sums | None:
        found = [sums for sums in accumulators if sums is not None]
        return Sums(*(sum(values[1:], values[0]) for values in zip(*found, strict=True))) if found else None

    def extract_output(self, sums: Sums | None) -> dict[metric_types.MetricKey, Sums | None]:
        return {self._key: sums}


def _computed(
    value: Callable[[Sums], Any], key_type: type[metric_types.MetricKey] = metric_types.MetricKey
) -> Callable[..., metric_types.MetricComputations]:
    """What a TFMA metric computes: `value` of the sums, for each model."""

    def computations(
        name: str, eval_config: config_pb2.EvalConfig, model_names: list[str], example_weighted: bool
    ) -> metric_types.MetricComputations:
        found = []
        for model in model_names:
            sums = metric_types.MetricKey(_SUMS, model_name=model)
            key = key_type(name=name, model_name=model, example_weighted=example_weighted)
            found += [
                metric_types.MetricComputation([sums], None, _SumsCombineFn(sums, eval_config)),
                metric_types.DerivedMetricComputation(
                    [key], lambda metrics, key=key, sums=sums: {key: value(metrics[sums])}
                ),
            ]
        return found

    return computations


class Count(metric_types.Metric):
    """How many examples there are."""

    def __init__(self, name: str = "example_count") -> None:
        super().__init__(_computed(lambda sums: sums.examples), name=name)


class SparseCategoricalAccuracy(metric_types.Metric):
    """The share of examples whose most probable class is the label."""

    def __init__(self, name: str = "sparse_categorical_accuracy") -> None:
        super().__init__(_computed(lambda sums: sums.correct / sums.examples), name=name)


class SparseCategoricalCrossentropy(metric_types.Metric):
    """The mean of minus the logarithm of the label's probability, in nats."""

    def __init__(self, name: str = "sparse_categorical_crossentropy") -> None:
        super().__init__(_computed(lambda sums: sums.loss / sums.examples), name=name)


class ExpectedCalibrationError(metric_types.Metric):
    """How far the winning probability is from the share of correct predictions: the mean gap over 10 equal-width bins.

    Guo et al., On Calibration of Modern Neural Networks, 2017, equation 3. TFMA's own calibration metrics are
    for binary models.
    """

    def __init__(self, name: str = "expected_calibration_error") -> None:
        super().__init__(_computed(lambda sums: float(np.abs(sums.gaps).sum()) / sums.examples), name=name)


class ConfusionMatrix(metric_types.Metric):
    """How often each class was taken for each other one."""

    def __init__(self, name: str = "multi_class_confusion_matrix_plot") -> None:
        super().__init__(_computed(_matrix, metric_types.PlotKey), name=name)


def _matrix(sums: Sums) -> Any:
    pairs = zip(*np.nonzero(sums.confusion), strict=True)
    entries = {MatrixEntryKey(int(i), int(j)): float(sums.confusion[i, j]) for i, j in pairs}
    return Matrices({0.0: entries}).to_proto().multi_class_confusion_matrix_at_thresholds
