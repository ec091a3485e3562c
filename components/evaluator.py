"""What the Evaluator measures on the test split, which bars a model must clear, and what it is compared with."""

from __future__ import annotations

from collections.abc import Mapping

import ml_metadata as mlmd
import tensorflow_model_analysis as tfma
from tfx import types
from tfx import v1 as tfx

from components.settings import Gates
from data.features import LABEL

ACCURACY = "sparse_categorical_accuracy"
SIGNATURE = "serving_default"
PREDICTION_KEY = "probabilities"


def eval_config(gates: Gates) -> tfma.EvalConfig:
    """Overall and per-class accuracy with their thresholds, cross-entropy, confusion matrix, calibration.

    The per-class accuracy is the accuracy over the slice of examples with that label.
    """

    def spec(name: str | None = None, is_baseline: bool = False) -> tfma.ModelSpec:
        return tfma.ModelSpec(
            name=name,
            is_baseline=is_baseline,
            model_type="tf_generic",
            signature_name=SIGNATURE,
            label_key=LABEL,
            prediction_key=PREDICTION_KEY,
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
    return tfma.EvalConfig(
        model_specs=[spec("candidate"), spec("baseline", is_baseline=True)],
        slicing_specs=[tfma.SlicingSpec(), tfma.SlicingSpec(feature_keys=[LABEL])],
        metrics_specs=[
            tfma.MetricsSpec(metrics=[accuracy, *others]),
            tfma.MetricsSpec(
                metrics=[tfma.MetricConfig(class_name="CalibrationPlot", config='"num_buckets": 10')],
                binarize=tfma.BinarizationOptions(top_k_list={"values": [1]}),
            ),
        ],
    )


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
