"""What the Evaluator found, read from TFMA's own files: the metrics and the ValidationResult."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import tensorflow_model_analysis as tfma
from tensorflow_model_analysis import slicer
from tensorflow_model_analysis.metrics.metric_types import MetricKey
from tensorflow_model_analysis.proto import config_pb2
from tensorflow_model_analysis.proto.validation_result_pb2 import ValidationResult
from tfx.dsl.io import fileio

from components.evaluator.config import BASELINE
from data.shards import GOLDEN

_ACCURACY = "sparse_categorical_accuracy"
_CROSS_ENTROPY = "sparse_categorical_crossentropy"
_CALIBRATION = "expected_calibration_error"
_NAMES = {_ACCURACY: "accuracy", _CROSS_ENTROPY: "cross-entropy", _CALIBRATION: "calibration error"}

Slice = tuple[tuple[str, int | float | str], ...]
Metrics = dict[Slice, dict[MetricKey, float]]


@dataclass(frozen=True)
class Gate:
    """One threshold of the eval config on one slice: the metric's `value`, its `bound`, TFMA's verdict."""

    name: str
    value: float
    side: Literal["at least", "at most"]
    bound: float
    passed: bool

    @property
    def limit(self) -> str:
        """What the gate wants, in words."""
        return f"{self.side} {self.bound:.4f}"

    @property
    def margin(self) -> float | None:
        """How far the value lies on the allowed side of the bound, negative if it was refused; None without a value."""
        if math.isnan(self.value):
            return None
        distance = self.value - self.bound if self.side == "at least" else self.bound - self.value
        return max(distance, 0.0) if self.passed else distance  # what passed may lie beyond it by the slack

    def __str__(self) -> str:
        """With as many digits as tell a refused value from its bound."""
        digits = 4
        while not self.passed and digits < 8 and f"{self.value:.{digits}f}" in self.limit:
            digits += 1
        return f"{self.name}: {self.value:.{digits}f}, {self.limit}"


@dataclass(frozen=True)
class Evaluation:
    """What the Evaluator found on the test split. Accuracies are shares, 0 … 1; cross-entropy is in nats.

    `confusion` counts the examples by true and predicted class id; a pair that never occurs is not in it. With a golden
    set the gates are those of both sets, and the baseline's accuracy is that on the golden one.
    """

    blessed: bool
    gates: list[Gate]
    examples: int
    accuracy: float
    cross_entropy: float
    calibration_error: float
    class_accuracy: dict[int, float]
    baseline_accuracy: float | None
    confusion: dict[tuple[int, int], int]
    labels: Sequence[str] = ()
    golden_accuracy: float | None = None
    golden_examples: int = 0

    @property
    def compared_accuracy(self) -> float:
        """The accuracy on the examples of the comparison with the baseline: the golden ones, if there are any."""
        return self.accuracy if self.golden_accuracy is None else self.golden_accuracy

    @property
    def worst_class(self) -> tuple[str, float]:
        """The name of the class with the lowest accuracy, and that accuracy."""
        label, accuracy = min(self.class_accuracy.items(), key=lambda item: item[1])
        return _class_name(label, self.labels), accuracy

    @property
    def untested(self) -> list[str]:
        """The names of the classes without test examples, which have no gate."""
        return [name for label, name in enumerate(self.labels) if label not in self.class_accuracy]

    @property
    def figures(self) -> dict[str, float]:
        """The numbers that a list of runs shows, by their names in ML Metadata."""
        figures = {"accuracy": self.accuracy, "examples": float(self.examples), "cross_entropy": self.cross_entropy}
        figures |= {"calibration_error": self.calibration_error, "worst_class_accuracy": self.worst_class[1]}
        others = {"baseline_accuracy": self.baseline_accuracy, "golden_accuracy": self.golden_accuracy}
        return figures | {name: value for name, value in others.items() if value is not None}

    @property
    def most_confused(self) -> tuple[str, str, int] | None:
        """The true and the predicted class of the most frequent mistake, and its count; None without mistakes."""
        mistakes = {pair: count for pair, count in self.confusion.items() if len(set(pair)) == 2}
        if not mistakes:
            return None
        (true, predicted), count = max(mistakes.items(), key=lambda item: item[1])
        return _class_name(true, self.labels), _class_name(predicted, self.labels), count


def read_evaluation(uri: str, labels: Sequence[str] = ()) -> Evaluation:
    """The evaluation that the Evaluator left in its artifact `evaluation` at `uri`.

    `labels` are the names of the classes by class id; without them, a class is called by its id.
    """
    found = _read_evaluation(uri, labels)
    if not fileio.isdir(f"{uri}/{GOLDEN}"):
        return found
    golden = _read_evaluation(f"{uri}/{GOLDEN}", labels)
    return replace(
        found,
        blessed=found.blessed and golden.blessed,
        gates=[*found.gates, *(replace(gate, name=f"{gate.name} on the golden set") for gate in golden.gates)],
        baseline_accuracy=golden.baseline_accuracy,
        golden_accuracy=golden.accuracy,
        golden_examples=golden.examples,
    )


def _read_evaluation(uri: str, labels: Sequence[str]) -> Evaluation:
    config = tfma.load_eval_result(uri).config
    result = tfma.load_validation_result(uri)
    metrics = _read_metrics(uri)

    def values_by_slice(name: str, model_is_baseline: bool = False) -> dict[Slice, float]:
        return {
            slice_key: value
            for slice_key, values in metrics.items()
            for key, value in values.items()
            if key.name == name and not key.is_diff and (key.model_name == BASELINE) == model_is_baseline
        }

    accuracy = values_by_slice(_ACCURACY)
    return Evaluation(
        blessed=result.validation_ok,
        gates=[*_gates(config, metrics, result, labels)],
        examples=int(values_by_slice("example_count")[()]),
        accuracy=accuracy[()],
        cross_entropy=values_by_slice(_CROSS_ENTROPY)[()],
        calibration_error=values_by_slice(_CALIBRATION)[()],
        class_accuracy={int(slice_key[0][1]): value for slice_key, value in accuracy.items() if slice_key},
        baseline_accuracy=values_by_slice(_ACCURACY, model_is_baseline=True).get(()),
        confusion=_read_confusion(uri),
        labels=labels,
    )


def _read_metrics(uri: str) -> Metrics:
    """Every number of every slice, the whole split first, then by the slices' values."""
    metrics = {
        slicer.deserialize_slice_key(entry.slice_key): {
            MetricKey.from_proto(item.key): item.value.double_value.value
            for item in entry.metric_keys_and_values
            if item.value.HasField("double_value")
        }
        for entry in tfma.load_metrics(uri)
    }
    return dict(sorted(metrics.items(), key=lambda item: (len(item[0]), item[0])))


def _read_confusion(uri: str) -> dict[tuple[int, int], int]:
    """The confusion matrix of the whole split."""
    (plots,) = (entry for entry in tfma.load_plots(uri) if not slicer.deserialize_slice_key(entry.slice_key))
    return {
        (entry.actual_class_id, entry.predicted_class_id): int(entry.num_weighted_examples)
        for plot in plots.plot_keys_and_values
        if plot.key.model_name != BASELINE
        for matrix in plot.value.multi_class_confusion_matrix_at_thresholds.matrices
        for entry in matrix.entries
    }


def _gates(
    config: config_pb2.EvalConfig, metrics: Metrics, result: ValidationResult, labels: Sequence[str]
) -> Iterator[Gate]:
    """One gate for each threshold and each slice that it applies to, and one for each class without examples."""
    failed = {
        (slicer.deserialize_slice_key(validation.slice_key), failure.metric_key.SerializeToString(deterministic=True))
        for validation in result.metric_validations_per_slice
        for failure in validation.failures
    }
    thresholds = tfma.metrics.metric_thresholds_from_metrics_specs(config.metrics_specs, eval_config=config)
    for key, bounds in thresholds.items():
        if key.model_name == BASELINE:
            continue
        encoded = key.to_proto().SerializeToString(deterministic=True)
        for slicing_spec, threshold in bounds:
            applicable = slicer.SingleSliceSpec(spec=slicing_spec).is_slice_applicable
            for slice_key, values in metrics.items():
                if applicable(slice_key):
                    name = _NAMES.get(key.name, key.name) + _of_class(slice_key, labels)
                    name += " against the baseline" if key.is_diff else ""
                    value, passed = values.get(key, float("nan")), (slice_key, encoded) not in failed
                    yield Gate(name, value, *_bound(threshold), passed)
    for spec in result.missing_slices:
        name = f"examples{_of_class(tuple(spec.feature_values.items()), labels)}"
        yield Gate(name, 0, "at least", 1, passed=False)


def _of_class(slice_key: Slice, labels: Sequence[str]) -> str:
    return "".join(f" of class {_class_name(label, labels)}" for _, label in slice_key)


def _class_name(label: int | float | str, labels: Sequence[str]) -> str:
    return labels[int(label)] if labels else str(label)


def _bound(
    threshold: config_pb2.GenericValueThreshold | config_pb2.GenericChangeThreshold,
) -> tuple[Literal["at least", "at most"], float]:
    """The one bound that config.py gives a threshold, as the settings have it: without the slack."""
    if isinstance(threshold, config_pb2.GenericChangeThreshold):
        return "at least", round(threshold.absolute.value, 5) + 0.0
    if threshold.HasField("lower_bound"):
        return "at least", round(threshold.lower_bound.value, 5) + 0.0  # no negative zero
    return "at most", round(threshold.upper_bound.value, 5)
