"""Runs that are killed in a step and go on: by --resume, and by the same command."""

from __future__ import annotations

import logging
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from pipeline.exit_codes import FAILED, PUSHED, WRONG_USE
from pipeline.local.cli import main
from tests import processes
from tests.conftest import QUICK, infra_server, last_run, run_pipeline, states, versions
from tests.pipeline.few_digits import SMALL, few_mnist

# At each of these places, a log line of the work itself.
LINES = {
    "ExampleGen": "Copies ",
    "Trainer": "epoch 2/3",
    "Trainer, after its last epoch": "epoch 3/3",
    "Evaluator": "Evaluating model.",
    "Pusher": "Copies the model to",
}
# What the state of a training must hold beside the weights.
STATEFUL = (
    SMALL,
    "training.ema_momentum=0.9",
    "augmentation.shift=1.0",
    "augmentation.elastic_alpha=20.0",
    "gates.accuracy=0.0",
    "gates.class_accuracy=0.0",
)


def run_until(line: str | None, arguments: list[str]) -> int:
    """Runs the pipeline in this process, which kills itself at a log line."""

    def kill(record: logging.LogRecord) -> bool:
        if line and line in record.getMessage():
            os.kill(os.getpid(), signal.SIGKILL)
        return True

    for name in ("absl", "components.example_gen", "components.trainer.fit", "components.pusher.component"):
        logging.getLogger(name).addFilter(kill)
    return main(arguments)


def driver(*arguments: str, killed_in: str = "") -> tuple[int, str]:
    """The exit code, -9 after SIGKILL, and what was printed."""
    return processes.run(run_until, LINES.get(killed_in), arguments)


def weights(model: Path) -> list[np.ndarray]:
    """The weights of a SavedModel."""
    checkpoint = tf.train.load_checkpoint(str(model / "variables" / "variables"))
    names = [name for name in sorted(checkpoint.get_variable_to_shape_map()) if "model_variables" in name]
    return [checkpoint.get_tensor(name) for name in names]


@pytest.mark.slow
def test_a_run_that_was_killed_at_five_places_pushes_the_model_of_an_undisturbed_run(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root, data = tmp_path / "killed", few_mnist(tmp_path)
    settings = (*QUICK, *STATEFUL, f"infra.server={infra_server()}")
    command = ["--run-root", str(root), "--set", f"data.path={data}", *settings]
    resume = ["--run-root", str(root), "--resume"]
    assert driver(*command, killed_in="ExampleGen")[0] == -9
    assert driver(*resume, killed_in="Trainer")[0] == -9
    assert last_run(root).verdict == "stopped in Trainer" and not last_run(root).finished
    # The same command goes on as well.
    assert driver(*command, killed_in="Trainer, after its last epoch")[0] == -9
    assert driver(*resume, killed_in="Evaluator")[0] == -9
    assert states(root)["Transform"] == "CACHED"
    assert driver(*resume, killed_in="Pusher")[0] == -9
    assert versions(root) == [] and last_run(root).verdict == "stopped in Pusher"
    killed = last_run(root).id

    code, text = driver(*resume)
    assert code == PUSHED, text
    run = last_run(root)
    assert run.record["resumed"] == killed and f"resumes the run {killed}" in text
    assert {step.id for step in run.steps if step.state == "COMPLETE"} == {"Baseline", "Pusher"}
    assert killed in (root / "reports" / f"{run.id}.html").read_text()
    epochs = (Path(run.output("Trainer", "model_run").uri) / "epochs.csv").read_text().splitlines()
    assert {line.split(",")[0] for line in epochs} == {"epoch", "0", "1", "2"}

    # Without its model in the cache, the Trainer runs again, undisturbed.
    shutil.rmtree(run.output("Trainer", "model").uri)
    assert run_pipeline(root, data, *STATEFUL, options=("--to", "Trainer")).code == PUSHED
    assert states(root)["Trainer"] == "COMPLETE" and states(root)["Transform"] == "CACHED"
    (trained,), (version,) = root.glob("artifacts/Trainer/model/*/Format-Serving"), versions(root)
    expected, found = weights(trained), weights(root / "serving_models" / "mnist" / version)
    assert len(found) == 5
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, other)

    assert main(resume) == FAILED
    assert "There is nothing to resume: every run has finished." in capfd.readouterr().err


def test_resume_needs_a_run_root_with_runs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--run-root", str(tmp_path), "--resume"]) == FAILED
    assert f"There are no runs in {tmp_path}" in capfd.readouterr().err


@pytest.mark.parametrize("option", [["--profile", "default"], ["--set", "training.epochs=1"], ["--to", "Trainer"]])
def test_resume_takes_no_other_settings(option: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--resume", *option])
    assert stopped.value.code == WRONG_USE
    assert "--resume takes the settings of that run" in capfd.readouterr().err
