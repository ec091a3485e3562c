"""Each gate through TFMA: at the bar a model passes, just below it does not. A real evaluation of real examples."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.extractors.unbatch_extractor import UNBATCH_EXTRACTOR_STAGE_NAME
from tensorflow_model_analysis.proto import config_pb2

from components.evaluator.config import BASELINE, CANDIDATE, eval_config
from components.evaluator.report import Evaluation, read_evaluation
from components.evaluator.settings import Gates
from components.evaluator.slices import custom_extractors
from data.example import serialize

pytestmark = pytest.mark.slow

CLASSES = 2
OFF = {"accuracy": 0.0, "class_accuracy": 0.0, "max_drop": 1.0}
Evaluate = Callable[..., Evaluation]


class Fixed(tf.Module):
    """A model that reads its prediction in the image: byte `index` is the class, the last byte 200 × the confidence."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self._index = index

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")], autograph=False)
    def serve(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        images = tf.io.parse_example(examples, {"image": tf.io.FixedLenFeature([], tf.string)})["image"]
        pixels = tf.cast(tf.io.decode_raw(images, tf.uint8, fixed_length=3), tf.int32)
        confidence = tf.cast(pixels[:, 2], tf.float32)[:, tf.newaxis] / 200
        winner = tf.one_hot(pixels[:, self._index], CLASSES)
        return {"probabilities": winner * confidence + (1 - winner) * (1 - confidence)}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    for index, name in enumerate((CANDIDATE, BASELINE)):
        module = Fixed(index)
        tf.saved_model.save(module, str(folder / name), signatures={"serving_default": module.serve})
    return {name: str(folder / name) for name in (CANDIDATE, BASELINE)}


@pytest.fixture
def evaluate(models: dict[str, str], tmp_path: Path) -> Evaluate:
    """evaluate(labels, correct, gates…): the Evaluator's own config over examples that the model gets right or not."""

    def evaluate(
        labels: list[int],
        correct: list[bool],
        baseline: list[bool] | None = None,
        confidence: int = 200,
        by_slice: bool = True,
        **gates: float,
    ) -> Evaluation:
        def predicted(right: list[bool]) -> list[int]:
            return [label if is_right else 1 - label for label, is_right in zip(labels, right, strict=True)]

        data, output = str(tmp_path / "examples.tfrecord"), str(tmp_path / f"evaluation-{by_slice}")
        with tf.io.TFRecordWriter(data) as writer:
            for row in zip(predicted(correct), predicted(baseline or correct), labels, strict=True):
                writer.write(serialize(np.array([*row[:2], confidence], np.uint8), row[2]))
        config = eval_config(Gates(**{**OFF, **gates}), CLASSES)
        config = tfma.utils.update_eval_config_with_defaults(
            config, has_baseline=baseline is not None, rubber_stamp=True
        )
        shared = [
            tfma.default_eval_shared_model(models[spec.name or CANDIDATE], model_name=spec.name, eval_config=config)
            for spec in config.model_specs
        ]
        tfma.run_model_analysis(
            eval_shared_model=shared if baseline else shared[0],
            eval_config=config,
            extractors=custom_extractors(shared if baseline else shared[0], config, None) if by_slice else None,
            data_location=data,
            output_path=output,
        )
        return read_evaluation(output)

    return evaluate


def test_at_every_bar_a_model_passes_with_extracts_by_slice_as_with_single_examples(evaluate: Evaluate) -> None:
    single, together = (evaluate(LABELS, RIGHT, BETTER, 190, by_slice, **AT_THE_BAR) for by_slice in (False, True))
    assert (together.accuracy, together.baseline_accuracy) == pytest.approx((0.9, 0.95))
    assert together.class_accuracy == pytest.approx({0: 0.9, 1: 0.9})
    assert together.calibration_error == pytest.approx(0.05, abs=1e-6)
    assert together.blessed
    assert sorted(gate.name for gate in together.gates) == sorted(itertools.chain(*GATES.values()))
    assert (single.examples, single.confusion) == (together.examples, together.confusion) != (0, {})
    assert list(map(str, single.gates)) == list(map(str, together.gates)) and len(together.gates) == 5
    assert single.figures == pytest.approx(together.figures) and single.class_accuracy == together.class_accuracy


def test_other_metrics_and_other_slices_get_single_examples(models: dict[str, str]) -> None:
    config = eval_config(Gates(), CLASSES)
    config = tfma.utils.update_eval_config_with_defaults(config, has_baseline=False, rubber_stamp=True)
    shared = tfma.default_eval_shared_model(models[CANDIDATE], eval_config=config)
    assert UNBATCH_EXTRACTOR_STAGE_NAME not in [found.stage_name for found in custom_extractors(shared, config, None)]
    for change in (
        lambda other: other.metrics_specs[0].metrics.add(class_name="SparseTopKCategoricalAccuracy"),
        lambda other: other.slicing_specs.add(feature_keys=["image"]),
    ):
        other = config_pb2.EvalConfig()
        other.CopyFrom(config)
        change(other)
        assert UNBATCH_EXTRACTOR_STAGE_NAME in [found.stage_name for found in custom_extractors(shared, other, None)]


# 18 of 20 are right, and the baseline has one more; the confidence is 0.95.
LABELS, RIGHT, BETTER = [0, 1] * 10, [True] * 18 + [False, False], [True] * 19 + [False]
AT_THE_BAR = {"accuracy": 0.9, "class_accuracy": 0.9, "max_drop": 0.05, "max_calibration_error": 0.05}
BEYOND = {"accuracy": 0.9001, "class_accuracy": 0.9001, "max_drop": 0.0499, "max_calibration_error": 0.0499}
GATES = {
    "accuracy": ["accuracy"],
    "class_accuracy": ["accuracy of class 0", "accuracy of class 1"],
    "max_drop": ["accuracy against the baseline"],
    "max_calibration_error": ["calibration error"],
}


@pytest.mark.parametrize("gate", GATES)
def test_just_beyond_one_bar_a_model_is_refused(evaluate: Evaluate, gate: str) -> None:
    evaluation = evaluate(LABELS, RIGHT, BETTER, confidence=190, **{**AT_THE_BAR, gate: BEYOND[gate]})
    assert not evaluation.blessed
    assert [found.name for found in evaluation.gates if not found.passed] == GATES[gate]


def test_a_class_without_examples_is_no_pass(evaluate: Evaluate) -> None:
    evaluation = evaluate([0] * 20, [True] * 20, class_accuracy=0.9)
    assert not evaluation.blessed
    assert [str(gate) for gate in evaluation.gates if not gate.passed] == [
        "examples of class 1: 0.0000, at least 1.0000"
    ]
