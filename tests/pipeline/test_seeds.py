"""python -m pipeline.seeds: several seeds of a profile, and what the test split may not influence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tfx.utils import path_utils

from components.assets_extra import model_id
from data.readers import Images
from pipeline.exit_codes import PUSHED, WRONG_USE
from pipeline.seeds import main, summarize
from tests.conftest import QUICK, Outcome, last_run, states, write_folder

Run = Callable[..., Outcome]


def test_the_summary_is_that_of_a_sample() -> None:
    summary = summarize([{"accuracy": 0.98, "seconds": None}, {"accuracy": 0.99, "seconds": 4.0}])
    assert summary["accuracy"] == {
        "mean": pytest.approx(0.985),
        "deviation": pytest.approx(0.01 / np.sqrt(2)),
        "least": 0.98,
        "largest": 0.99,
    }
    assert summary["seconds"] == {"mean": 4.0, "deviation": None, "least": 4.0, "largest": 4.0}
    assert "cross_entropy" not in summary


def test_wrong_settings_are_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--run-root", str(tmp_path / "root"), "--set", "training.epoch=3"]) == WRONG_USE
    assert capsys.readouterr().err.startswith("seeds: --set training.epoch=3: ") and not (tmp_path / "root").exists()


@pytest.mark.slow
def test_two_seeds_are_trained_stored_and_not_trained_again(
    small_mnist: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    command = ["--run-root", str(root), "--n", "2", "--set", f"data.path={small_mnist}", *QUICK, "training.epochs=2"]
    assert main([*command, "gates.accuracy=0.999"]) == 0  # a gate that refuses stops nothing
    (file,) = root.glob("seeds/default-*.json")
    rows = json.loads(file.read_text())
    assert list(rows) == ["17", "18"] and rows["17"]["accuracy"] != rows["18"]["accuracy"]
    assert last_run(root).figures["accuracy"] == rows["18"]["accuracy"] > 0.5
    printed = capfd.readouterr().out
    assert "Seed 18, 2 of 2" in printed and f"{rows['17']['accuracy']:.4f}" in printed.split("Seed 18")[-1]
    assert {step.id for step in last_run(root).steps if step.state == "COMPLETE"} == {
        "Trainer",
        "Baseline",
        "Evaluator",
    }
    assert main([*command, "gates.accuracy=0.999"]) == 0
    assert json.loads(file.read_text()) == rows and states(root)["Trainer"] == "CACHED"
    assert not (root / "serving_models").exists()


@pytest.mark.slow
def test_no_test_example_influences_a_choice(run: Run, digits: dict[str, Images], tmp_path: Path) -> None:
    """With permuted test labels the Trainer leaves the same weights, and only the figures of the test differ."""
    labels = np.random.default_rng(0).permutation(digits["test"].labels)
    permuted = {**digits, "test": Images(digits["test"].pixels, labels)}
    runs = []
    for name, splits in (("as_they_are", digits), ("permuted", permuted)):
        folder = write_folder(tmp_path / f"data_{name}", splits)
        options = ("--to", "Evaluator")
        outcome = run(tmp_path / name, folder, "gates.accuracy=0.0", "gates.class_accuracy=0.0", options=options)
        assert outcome.code == PUSHED, outcome.text
        runs.append(last_run(tmp_path / name))
    models = [run_.output("Trainer", "model") for run_ in runs]
    ids = [model_id(path_utils.serving_model_path(model.uri)) for model in models if model]
    assert len(ids) == 2 and ids[0] == ids[1] is not None
    assert runs[0].figures["accuracy"] > 0.7 and runs[1].figures["accuracy"] < 0.3
