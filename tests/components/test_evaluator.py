"""The calibration error against NumPy, in one batch and in several; the verdict on two sets of examples."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import json_utils, proto_utils

from components.evaluator.component import EvaluatorExecutor
from components.evaluator.config import EXAMPLE, eval_config
from components.evaluator.metrics import ExpectedCalibrationError
from components.evaluator.report import read_evaluation
from components.evaluator.settings import Gates
from data.example import ExampleSpec
from data.records import write_split
from tests.components.conftest import Exported
from tests.conftest import Images


def test_it_is_the_mean_gap_between_confidence_and_accuracy() -> None:
    generator = np.random.default_rng(3)
    probabilities = generator.dirichlet(np.full(10, 0.3), 1000).astype(np.float32)
    labels = np.where(generator.random(1000) < 0.7, probabilities.argmax(axis=1), generator.integers(0, 10, 1000))
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * 10).astype(int), 9)
    expected = sum(abs((right[bins == b] - confidence[bins == b]).sum()) for b in range(10)) / 1000

    whole, parts = ExpectedCalibrationError(), ExpectedCalibrationError()
    whole.update_state(labels[:, np.newaxis], probabilities)
    for start in range(0, 1000, 300):
        parts.update_state(labels[start : start + 300], probabilities[start : start + 300])
    assert float(whole.result()) == pytest.approx(expected, abs=1e-6)
    assert float(parts.result()) == pytest.approx(expected, abs=1e-6)
    assert ExpectedCalibrationError.from_config(whole.get_config()).bins == 10


def test_a_sure_and_right_model_has_none_and_a_sure_and_wrong_one_has_all() -> None:
    sure = np.eye(10, dtype=np.float32)
    metric = ExpectedCalibrationError()
    assert float(metric.result()) == 0
    metric.update_state(np.arange(10), sure)
    assert float(metric.result()) == 0
    metric.reset_state()
    metric.update_state((np.arange(10) + 1) % 10, sure)
    assert float(metric.result()) == 1


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
