"""The metrics against Keras, in several batches; the verdict on two sets of examples."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tensorflow_model_analysis.metrics.metric_types import MetricKey
from tensorflow_model_analysis.proto.config_pb2 import EvalConfig
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import json_utils, proto_utils

from components.evaluator.component import EvaluatorExecutor
from components.evaluator.config import EXAMPLE, eval_config
from components.evaluator.metrics import _SumsCombineFn, add_up
from components.evaluator.report import read_evaluation
from components.evaluator.settings import Gates
from data.example import ExampleSpec
from data.records import write_split
from tests.components.conftest import Exported
from tests.conftest import Images


def test_the_sums_are_those_of_keras_and_of_the_mean_gap() -> None:
    generator = np.random.default_rng(3)
    probabilities = generator.dirichlet(np.full(10, 0.05), 1000).astype(np.float32)  # many are 0 or 1
    labels = np.where(generator.random(1000) < 0.7, probabilities.argmax(axis=1), generator.integers(0, 10, 1000))
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * 10).astype(int), 9)
    gap = sum(abs((right[bins == b] - confidence[bins == b]).sum()) for b in range(10)) / 1000
    combine = _SumsCombineFn(MetricKey("_sums"), EvalConfig())
    parts = [add_up(labels[start : start + 300], probabilities[start : start + 300]) for start in range(0, 1000, 300)]
    sums = combine.merge_accumulators([None, *parts])
    assert sums and sums.examples == 1000 and np.abs(sums.gaps).sum() / 1000 == pytest.approx(gap, abs=1e-6)
    for metric, value in (
        (tf_keras.metrics.SparseCategoricalAccuracy(), sums.correct / 1000),
        (tf_keras.metrics.SparseCategoricalCrossentropy(), sums.loss / 1000),
    ):
        metric.update_state(labels, probabilities)
        assert value == pytest.approx(float(metric.result()), rel=1e-5)
    np.testing.assert_array_equal(sums.confusion, tf.math.confusion_matrix(labels, probabilities.argmax(axis=1), 10))


def test_a_sure_and_right_model_has_no_gap_and_a_sure_and_wrong_one_has_all() -> None:
    sure = np.eye(10, dtype=np.float32)
    assert np.abs(add_up(np.arange(10), sure).gaps).sum() == 0
    assert np.abs(add_up((np.arange(10) + 1) % 10, sure).gaps).sum() == 10


@pytest.mark.slow
@pytest.mark.parametrize("wrong", ["test", "golden"])
def test_a_model_must_read_the_golden_set_and_the_newest_examples(
    exported: Exported, digits: dict[str, Images], tmp_path: Path, wrong: str
) -> None:
    pixels = digits["test"].pixels[:40]
    predict = tf.saved_model.load(str(exported.saved_model)).signatures["predict_images"]
    answers = predict(images=tf.constant(pixels))["class_ids"].numpy()
    examples, model = standard_artifacts.Examples(), standard_artifacts.Model()
    evaluation, blessing = standard_artifacts.ModelEvaluation(), standard_artifacts.ModelBlessing()
    artifacts = {"examples": examples, "model": model, "evaluation": evaluation, "blessing": blessing}
    for name, artifact in artifacts.items():
        artifact.uri = str(tmp_path / name)
        (tmp_path / name).mkdir()
    model.uri = str(exported.folder / "model")
    examples.split_names = artifact_utils.encode_split_names(["train", "eval", "test", "golden"])
    for split in ("test", "golden"):
        folder = tmp_path / "examples" / f"Split-{split}"
        folder.mkdir()
        write_split(folder, split, pixels, (answers + (split == wrong)) % 10, 1)
    gates = Gates(accuracy=0.9, class_accuracy=0, max_drop=0)
    EvaluatorExecutor().Do(
        {"examples": [examples], "model": [model]},
        {"evaluation": [evaluation], "blessing": [blessing]},
        {
            "eval_config": proto_utils.proto_to_json(eval_config(gates, 10)),
            "example_splits": json_utils.dumps(["test"]),
            EXAMPLE: ExampleSpec().model_dump_json(),
        },
    )
    assert blessing.get_int_custom_property("blessed") == 0
    assert [path.name for path in Path(blessing.uri).glob("*BLESSED")] == ["NOT_BLESSED"]
    found = read_evaluation(evaluation.uri)
    refused = {gate.name: gate.value for gate in found.gates if not gate.passed}
    assert refused == {"accuracy on the golden set" if wrong == "golden" else "accuracy": 0.0}
    assert (found.accuracy, found.golden_accuracy) == ((0, 1) if wrong == "test" else (1, 0))
