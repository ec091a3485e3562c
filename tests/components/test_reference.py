"""The held-out reference: what the Evaluator makes of its own answers, and the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from components.evaluator.predictions import write_predictions
from data.errors import UserError
from data.example import ExampleSpec
from data.records import read_records
from data.reference import QUANTILES, REFERENCE, read_reference, summarize, write_reference
from tests.components.conftest import Exported


def test_the_evaluator_makes_it_of_the_test_split_alone(
    exported: Exported, example_files: dict[str, list[str]], tmp_path: Path
) -> None:
    spec = ExampleSpec(class_names=tuple("abcdefghij"))
    predictions = write_predictions(str(tmp_path), example_files["test"], str(exported.saved_model), None, spec)
    found = read_reference(str(tmp_path / REFERENCE))
    assert found is not None and found.spec == spec and found.examples == len(predictions.labels) == 1_000
    assert found.accuracy == np.mean(predictions.class_ids == predictions.labels)
    assert found.confidence == pytest.approx(predictions.confidence.mean())
    assert found.counts.tolist() == np.bincount(predictions.class_ids, minlength=10).tolist()
    records = list(read_records(example_files["test"]).as_numpy_iterator())
    signature = tf.saved_model.load(str(exported.saved_model)).signatures["serving_default"]
    probabilities = signature(examples=tf.constant(records))["probabilities"].numpy()
    assert found.quantiles == pytest.approx(np.sort(probabilities, axis=0), abs=1e-5)
    below = int((predictions.confidence < found.threshold).sum())
    assert below == np.count_nonzero(predictions.class_ids != predictions.labels)


def test_it_is_small_whatever_the_number_of_examples(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.full(10, 0.1), 20_000).astype(np.float32)
    write_reference(summarize(probabilities, generator.integers(0, 10, 20_000), ExampleSpec()), str(tmp_path))
    assert (tmp_path / REFERENCE).stat().st_size < 50_000
    found = read_reference(str(tmp_path / REFERENCE))
    assert found is not None and found.quantiles.shape == (QUANTILES, 10)
    assert np.array_equal(found.quantiles[[0, -1]], [probabilities.min(axis=0), probabilities.max(axis=0)])


def test_a_model_that_is_always_right_or_never() -> None:
    sure, labels = np.eye(10, dtype=np.float32), np.arange(10)
    right, wrong = summarize(sure, labels, ExampleSpec()), summarize(sure, (labels + 1) % 10, ExampleSpec())
    assert (right.accuracy, right.threshold, right.confident) == (1, 1, 1)
    assert (wrong.accuracy, wrong.threshold, wrong.confident) == (0, np.inf, 0)


def test_none_and_a_damaged_one(tmp_path: Path) -> None:
    path = tmp_path / REFERENCE
    assert read_reference(str(path)) is None
    write_reference(summarize(np.eye(10, dtype=np.float32), np.arange(10), ExampleSpec()), str(tmp_path))
    whole = path.read_bytes()
    np.savez(tmp_path / "other.npz", quantiles=np.zeros(3))
    for content in (b"", b"no archive", whole[:-200], (tmp_path / "other.npz").read_bytes()):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"reference\.npz is damaged\. Restore it from a copy of the version"):
            read_reference(str(path))
