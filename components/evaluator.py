"""What the Evaluator measures on the test split, which bars a model must clear, and what it is compared with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import ml_metadata as mlmd
import tensorflow as tf
import tensorflow_model_analysis as tfma
import tf_keras
from tfx import types
from tfx import v1 as tfx
from tfx.components.evaluator import executor
from tfx.dsl.components.base import executor_spec
from tfx.dsl.io import fileio
from tfx.utils import path_utils

from components.settings import Gates
from components.trainer.export import PROBABILITIES
from data.features import LABEL

ACCURACY = "sparse_categorical_accuracy"


def eval_config(gates: Gates, code: str = "") -> tfma.EvalConfig:
    """Overall and per-class accuracy with their thresholds, cross-entropy, confusion matrix, calibration.

    The per-class accuracy is the accuracy over the slice of examples with that label. `code` is the fingerprint of
    this file, for TFX's cache, which sees nothing of the Evaluator but its config.
    """

    def spec(name: str | None = None, is_baseline: bool = False) -> tfma.ModelSpec:
        return tfma.ModelSpec(
            name=name,
            is_baseline=is_baseline,
            model_type="tf_generic",
            signature_name=tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY,
            label_key=LABEL,
            prediction_key=PROBABILITIES,
        )

    def at_least(bar: float) -> tfma.GenericValueThreshold:
        # TFMA's bounds are exclusive; a model that just reaches the bar passes.
        return tfma.GenericValueThreshold(lower_bound={"value": bar - 1e-9})

    overall = tfma.MetricThreshold(
        value_threshold=at_least(gates.accuracy),
        change_threshold=tfma.GenericChangeThreshold(
            direction=tfma.MetricDirection.HIGHER_IS_BETTER, absolute={"value": -gates.max_drop - 1e-9}
        ),
    )
    accuracy = tfma.MetricConfig(
        class_name="SparseCategoricalAccuracy",
        per_slice_thresholds=[
            tfma.PerSliceMetricThreshold(slicing_specs=[tfma.SlicingSpec()], threshold=overall),
            tfma.PerSliceMetricThreshold(
                slicing_specs=[tfma.SlicingSpec(feature_keys=[LABEL])],
                threshold=tfma.MetricThreshold(value_threshold=at_least(gates.class_accuracy)),
            ),
        ],
    )
    others = [
        tfma.MetricConfig(class_name=name)
        for name in ("ExampleCount", "SparseCategoricalCrossentropy", "MultiClassConfusionMatrixPlot")
    ]
    calibration = tfma.MetricConfig(
        class_name="ExpectedCalibrationError", module=__name__, config=json.dumps({"code": code})
    )
    return tfma.EvalConfig(
        model_specs=[spec("candidate"), spec("baseline", is_baseline=True)],
        slicing_specs=[tfma.SlicingSpec(), tfma.SlicingSpec(feature_keys=[LABEL])],
        metrics_specs=[tfma.MetricsSpec(metrics=[accuracy, *others, calibration])],
    )


class ExpectedCalibrationError(tf_keras.metrics.Metric):
    """How far the winning probability is from the share of right answers: the mean gap over equal-width bins.

    Guo et al., On Calibration of Modern Neural Networks, 2017, equation 3. TFMA's own calibration metrics are
    for binary models, and its plot of them costs as much as all the rest of the evaluation.
    """

    def __init__(
        self, bins: int = 10, name: str = "expected_calibration_error", dtype: str | None = None, code: str = ""
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.bins, self.code = bins, code
        # One gap for each bin, then the count: sums, and one variable, for so TFMA adds up what batches counted.
        self.sums = self.add_weight("sums", [bins + 1], initializer="zeros")

    def update_state(self, y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: tf.Tensor | None = None) -> None:
        """Adds a batch: `y_true` labels [N] or [N, 1], `y_pred` probabilities [N, classes]."""
        labels = tf.reshape(tf.cast(y_true, tf.int64), [-1])
        confidence = tf.reduce_max(y_pred, axis=-1)
        right = tf.cast(tf.argmax(y_pred, axis=-1) == labels, confidence.dtype)
        weight = tf.ones_like(confidence) if sample_weight is None else tf.reshape(sample_weight, [-1])
        index = tf.minimum(tf.cast(confidence * self.bins, tf.int32), self.bins - 1)
        gaps = tf.math.unsorted_segment_sum((right - confidence) * weight, index, self.bins)
        self.sums.assign_add(tf.concat([gaps, [tf.reduce_sum(weight)]], axis=0))

    def result(self) -> tf.Tensor:
        return tf.math.divide_no_nan(tf.reduce_sum(tf.abs(self.sums[:-1])), self.sums[-1])

    def reset_state(self) -> None:
        self.sums.assign(tf.zeros_like(self.sums))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "bins": self.bins, "code": self.code}


class OptionalBaselineExecutor(executor.Executor):
    """TFX's executor, without a baseline where the artifact is empty: ServedModel cannot leave it out."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Evaluates the model, and compares it with the baseline if there is one."""
        baselines = [
            model
            for model in input_dict.get("baseline_model", [])
            if fileio.isdir(path_utils.serving_model_path(model.uri, path_utils.is_old_model_artifact(model)))
        ]
        super().Do({**input_dict, "baseline_model": baselines}, output_dict, exec_properties)


class Evaluator(tfx.components.Evaluator):
    """Evaluator with the executor above."""

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(OptionalBaselineExecutor)


class LatestOtherBlessedModel(tfx.dsl.experimental.LatestBlessedModelStrategy):
    """The latest blessed model other than the candidate itself.

    TFX's own strategy would answer with the candidate once it is blessed, so that an unchanged second run
    would judge the model against itself instead of being taken from the cache.
    """

    def resolve_artifacts(
        self, store: mlmd.MetadataStore, input_dict: Mapping[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]] | None:
        candidates = {artifact.id for artifact in input_dict["candidate"]}
        others = {
            "model": [model for model in input_dict["model"] if model.id not in candidates],
            "model_blessing": list(input_dict["model_blessing"]),
        }
        resolved = super().resolve_artifacts(store, others)
        return resolved and {**resolved, "candidate": list(input_dict["candidate"])}
