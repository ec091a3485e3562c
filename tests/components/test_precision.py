"""Reduced precision: what trains in 16 bits serves in float32, and answers as trained."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft

from components.trainer.cluster import describe_hardware, with_precision
from components.trainer.input import SplitDataset, read_splits
from components.trainer.model import build_model
from components.trainer.precision import in_float32
from components.trainer.settings import Augmentation, Model, Training
from data.errors import UserError
from data.example import ExampleSpec
from tests.components.trainings import train, training_job

MODEL, SPEC = Model(units=16, bidirectional=True, layer_norm=True, dropout=0.2), ExampleSpec()


@pytest.fixture(scope="module")
def validation(transform: tft.TFTransformOutput, example_files: dict[str, list[str]]) -> SplitDataset:
    return read_splits(example_files["train"], example_files["eval"], transform, Training(), 100)[1]


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_the_arithmetic_is_reduced_and_the_weights_and_logits_are_not(precision: str) -> None:
    model = build_model(MODEL, SPEC, precision)
    assert {layer.compute_dtype for layer in model.layers[:-1]} == {precision.removeprefix("mixed_")}
    assert {variable.dtype for variable in model.variables} == {tf.float32}
    assert model(np.zeros((1, 28, 28), np.float32)).dtype == tf.float32


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_a_training_in_16_bits_learns_and_the_served_model_answers_the_same(
    precision: str, transform, example_files, validation, tmp_path, caplog
) -> None:
    options = {"precision": precision, "ema_momentum": 0.9, "patience": 0}
    job = training_job(tmp_path, transform, example_files, MODEL, Augmentation(shift=1.0), **options)
    trained = train(job)
    accuracy = trained.history["val_accuracy"][-1]
    assert accuracy > 0.4
    with caplog.at_level(logging.INFO, "components"):
        served = in_float32(trained.model, precision, MODEL, SPEC, validation)
    assert "The float32 model that serves classifies" in caplog.text
    hits = [served(images, training=False).numpy().argmax(axis=1) == labels for images, labels in validation.dataset]
    assert np.concatenate(hits).mean() == pytest.approx(accuracy, abs=0.006)


def test_a_float32_model_that_answers_otherwise_is_refused(validation: SplitDataset) -> None:
    # Weights as no training leaves them: the states are so large that rounding decides.
    model = build_model(MODEL, SPEC, "mixed_bfloat16")
    model.set_weights([20 * array for array in model.get_weights()])
    with pytest.raises(UserError, match=r"only classifies .* of 500 validation examples as the mixed_bfloat16 model"):
        in_float32(model, "mixed_bfloat16", MODEL, SPEC, validation)


def test_a_float32_model_is_taken_as_it_is(validation: SplitDataset, caplog: pytest.LogCaptureFixture) -> None:
    model = build_model(MODEL, SPEC)
    with caplog.at_level(logging.INFO, "components"):
        assert in_float32(model, "float32", MODEL, SPEC, validation) is model
    assert not caplog.records


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("fma avx512_bf16 ssse3", "mixed_bfloat16"), ("amx_bf16", "mixed_bfloat16"), ("avx512f", "float32")],
)
def test_auto_takes_bfloat16_where_the_cpu_has_instructions_for_it(flags: str, expected: str, tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(f"processor : 0\nflags : fpu {flags} sse\n")
    assert with_precision(Training(precision="auto"), info).precision == expected
    assert with_precision(Training(precision="auto"), tmp_path / "none").precision == "float32"
    assert with_precision(Training(precision="mixed_float16"), info).precision == "mixed_float16"


def test_what_auto_means_here_is_part_of_the_cache_key() -> None:
    here = with_precision(Training(precision="auto")).precision
    assert describe_hardware(Training(precision="auto")) == f"1 x 1 CPU, {here}"
    assert describe_hardware(Training(replicas=2)) == "1 x 2 CPU"
