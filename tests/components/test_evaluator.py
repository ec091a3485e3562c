"""The calibration error against NumPy, in one batch and in several."""

import numpy as np
import pytest

from components.evaluator.metrics import ExpectedCalibrationError


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
