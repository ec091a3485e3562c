"""What the Evaluator measures on the test split, and which thresholds a model must reach."""

from __future__ import annotations

from collections.abc import Collection

from tensorflow_model_analysis.proto import config_pb2

from components.evaluator import metrics
from components.evaluator.settings import Gates
from components.trainer.signatures import PROBABILITIES, SERVING_DEFAULT
from data.example import LABEL

CANDIDATE, BASELINE = "candidate", "baseline"
EXAMPLE, BASELINE_VERSION = "example", "baseline_version"
"""Custom properties of the evaluation: the ExampleSpec as JSON, since TFMA's files have class ids only; and which
pushed version the baseline is a copy of. The first is an execution property as well."""
OVERALL = config_pb2.SlicingSpec()
EACH_CLASS = config_pb2.SlicingSpec(feature_keys=[LABEL])
# A difference of two shares is not exact. A model that just reaches a threshold passes.
_SLACK = 1e-6


def eval_config(gates: Gates, classes: int) -> config_pb2.EvalConfig:
    """Overall and per-class accuracy, cross-entropy, confusion matrix, calibration, with the gates as thresholds.

    The per-class accuracy is the accuracy over the slice of examples with that label. Each of `classes` labels has
    its own threshold.
    """
    every_class = [config_pb2.SlicingSpec(feature_values={LABEL: str(label)}) for label in range(classes)]
    accuracy, calibration = _metric(metrics.SparseCategoricalAccuracy), _metric(metrics.ExpectedCalibrationError)
    accuracy.per_slice_thresholds.extend(
        [
            _threshold([OVERALL], lower_bound=gates.accuracy - _SLACK),
            _threshold(every_class, lower_bound=gates.class_accuracy - _SLACK),
        ]
    )
    drop = accuracy.per_slice_thresholds[0].threshold.change_threshold
    drop.direction, drop.absolute.value = config_pb2.MetricDirection.HIGHER_IS_BETTER, -gates.max_drop - _SLACK
    if gates.max_calibration_error:
        bound = gates.max_calibration_error + _SLACK
        calibration.per_slice_thresholds.append(_threshold([OVERALL], upper_bound=bound))
    others = map(_metric, (metrics.Count, metrics.SparseCategoricalCrossentropy, metrics.ConfusionMatrix))
    return config_pb2.EvalConfig(
        model_specs=[_model_spec(CANDIDATE), _model_spec(BASELINE)],
        slicing_specs=[OVERALL, EACH_CLASS],
        metrics_specs=[config_pb2.MetricsSpec(metrics=[accuracy, *others, calibration])],
    )


def without_gates(config: config_pb2.EvalConfig, untested: Collection[int]) -> config_pb2.EvalConfig:
    """The config without the thresholds of the labels in `untested`, which have no examples.

    TFMA would report their slices as missing, and no model would be blessed.
    """
    pruned = config_pb2.EvalConfig()
    pruned.CopyFrom(config)
    for metric in (metric for spec in pruned.metrics_specs for metric in spec.metrics):
        for threshold in metric.per_slice_thresholds:
            kept = [s for s in threshold.slicing_specs if s.feature_values.get(LABEL) not in set(map(str, untested))]
            del threshold.slicing_specs[:]
            threshold.slicing_specs.extend(kept)
    return pruned


def _model_spec(name: str) -> config_pb2.ModelSpec:
    return config_pb2.ModelSpec(
        name=name,
        is_baseline=name == BASELINE,
        model_type="tf_generic",
        signature_name=SERVING_DEFAULT,
        label_key=LABEL,
        prediction_key=PROBABILITIES,
    )


def _metric(metric: type) -> config_pb2.MetricConfig:
    return config_pb2.MetricConfig(class_name=metric.__name__, module=metric.__module__)


def _threshold(slices: list[config_pb2.SlicingSpec], **bound: float) -> config_pb2.PerSliceMetricThreshold:
    """One bound, as the report shows it. A `MetricConfig.threshold` would apply to every slice."""
    value = config_pb2.GenericValueThreshold(**{side: {"value": value} for side, value in bound.items()})
    return config_pb2.PerSliceMetricThreshold(
        slicing_specs=slices, threshold=config_pb2.MetricThreshold(value_threshold=value)
    )
