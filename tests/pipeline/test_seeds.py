"""python -m pipeline.seeds: several seeds of a profile, and what the test split may not influence."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from tfx.utils import path_utils

from components.version_folder import model_id
from data.readers import Images
from pipeline.config import Config
from pipeline.exit_codes import FAILED, PUSHED, WRONG_USE
from pipeline.runs.records import Run, Step
from pipeline.runs.root import RunRoot
from pipeline.seeds import main, row, summarize
from tests.conftest import QUICK, Outcome, captured, last_run, states, without_reports, write_folder
from tests.pipeline.few_digits import SETTINGS, few_digits, prepared


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


def test_several_hosts_are_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TF_CONFIG", "{}")
    assert main([]) == WRONG_USE
    assert "pipeline.seeds trains on this host alone" in capsys.readouterr().err


def test_the_time_is_that_of_a_whole_training() -> None:
    def a_run(state: str, seconds: float, seed: int = 1) -> Run:
        moment = datetime(2026, 1, 1, tzinfo=UTC)
        return Run("", "", moment, {}, [Step("Trainer", state, moment, seconds, {"seed": seed})])

    def seconds(*runs: Run) -> float | None:
        return row(runs[-1], runs)["seconds"]

    assert seconds(a_run("COMPLETE", 9.0)) == 9.0
    assert seconds(a_run("COMPLETE", 9.0), a_run("COMPLETE", 8.0, seed=2), a_run("CACHED", 0.1)) == 9.0
    assert seconds(a_run("RUNNING", 0.0), a_run("COMPLETE", 3.0)) is None, "continued: 3 s are a part of it"
    assert seconds(a_run("FAILED", 5.0), a_run("COMPLETE", 3.0), a_run("CACHED", 0.1)) is None
    assert seconds(a_run("FAILED", 5.0, seed=2), a_run("COMPLETE", 9.0)) == 9.0


@dataclass(frozen=True)
class Seeds:
    """A run root in which, after its first run, two seeds were trained; the command's options, and what it printed."""

    root: Path
    options: list[str]
    printed: str


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Seeds:
    few = prepared(tmp_path_factory.getbasetemp())
    root, data = few.root, few.data
    options = ["--run-root", str(root), "--n", "2", "--set", f"data.path={data}", *QUICK, *SETTINGS]
    options.append("gates.accuracy=0.999")
    with captured() as file, without_reports():
        assert main(options) == 0  # a gate that refuses stops nothing
        file.flush()
        file.seek(0)
        return Seeds(root, options, file.read())


def trained_model(root: Path, number: int) -> str | None:
    """The id of a run's model: a digest of its weights and graph."""
    history = RunRoot(root, Config()).history("digit-rows")
    model = history.run(history.ids()[number]).output("Trainer", "model")
    return model_id(path_utils.serving_model_path(model.uri)) if model else None


@pytest.mark.slow
def test_two_seeds_are_trained_stored_and_not_trained_again(seeds: Seeds, capsys: pytest.CaptureFixture[str]) -> None:
    root = seeds.root
    (file,) = root.glob("seeds/default-*.json")
    stored = json.loads(file.read_text())
    rows = stored["seeds"]
    assert list(rows) == ["17", "18"] and rows["17"]["accuracy"] != rows["18"]["accuracy"]
    assert last_run(root).figures["accuracy"] == rows["18"]["accuracy"] > 0.4
    assert "Seed 18, 2 of 2" in seeds.printed and f"{rows['17']['accuracy']:.4f}" in seeds.printed.split("Seed 18")[-1]
    assert {step.id for step in last_run(root).steps if step.state == "COMPLETE"} == {
        "Trainer",
        "Baseline",
        "Evaluator",
    }
    assert stored["summary"]["accuracy"]["mean"] == pytest.approx((rows["17"]["accuracy"] + rows["18"]["accuracy"]) / 2)
    assert rows["17"]["seconds"] > 0 and not (root / "serving_models").exists()

    # Again: all comes from the cache, and the times are those of the trainings.
    file.unlink()
    with without_reports():
        assert main(seeds.options) == 0
    assert json.loads(file.read_text()) == stored and states(root)["Trainer"] == "CACHED"

    file.unlink()
    file.parent.rmdir()
    file.parent.touch()
    assert main([*seeds.options, "--n", "1"]) == FAILED
    assert f"seeds: {file.parent}: File exists." in capsys.readouterr().err
    file.parent.unlink()


@pytest.mark.slow
def test_no_test_example_influences_a_choice(seeds: Seeds, run: Callable[..., Outcome], tmp_path: Path) -> None:
    """With permuted test labels the Trainer leaves the same weights, and only the figures of the test differ."""
    digits = few_digits()
    labels = np.random.default_rng(0).permutation(digits["test"].labels)
    folder = write_folder(tmp_path / "permuted", {**digits, "test": Images(digits["test"].pixels, labels)})
    root = tmp_path / "root"
    overrides = (*SETTINGS, "gates.accuracy=0.0", "gates.class_accuracy=0.0")
    outcome = run(root, folder, *overrides, options=("--to", "Evaluator"))
    assert outcome.code == PUSHED, outcome.text
    assert trained_model(root, 0) == trained_model(seeds.root, 1) is not None
    assert trained_model(root, 0) != trained_model(seeds.root, 2)
    first = RunRoot(seeds.root, Config()).history("digit-rows")
    assert first.run(first.ids()[1]).figures["accuracy"] > 0.4 and last_run(root).figures["accuracy"] < 0.3
