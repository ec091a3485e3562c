"""Runs that are killed in a step and go on: by --resume, and by the same command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from pipeline.exit_codes import FAILED, PUSHED, WRONG_USE
from pipeline.history.records import RESUMED
from pipeline.local.cli import main
from tests.conftest import QUICK, ROOT, last_run, run_pipeline, states, versions

# In each of these steps, a log line of the work itself.
LINES = {
    "ExampleGen": "Generating examples.",
    "Transform": "Analyze the 'train' split",
    "Trainer": "epoch 2/3",
    "Evaluator": "Evaluating model.",
    "Pusher": "Model version:",
}
KILLED_AT = """
import logging, os, signal, sys
from pipeline.local.cli import main

words, arguments = sys.argv[1], sys.argv[2:]
del sys.argv[1:]

def kill(record):
    if words in record.getMessage():
        os.kill(os.getpid(), signal.SIGKILL)
    return True

for name in ("absl", "components.trainer.fit"):
    logging.getLogger(name).addFilter(kill)
sys.exit(main(arguments))
"""


def killed_in(step: str, *arguments: str) -> None:
    """Runs the command until the step logs its line. Then the process kills itself with SIGKILL."""
    line = [sys.executable, "-c", KILLED_AT, LINES[step], *arguments]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stdout + done.stderr


def weights(root: Path) -> list[np.ndarray]:
    """The weights of the pushed model."""
    (version,) = versions(root)
    checkpoint = tf.train.load_checkpoint(str(root / "serving_models" / "mnist" / version / "variables" / "variables"))
    names = [name for name in sorted(checkpoint.get_variable_to_shape_map()) if "model_variables" in name]
    return [checkpoint.get_tensor(name) for name in names]


@pytest.mark.slow
def test_a_run_that_was_killed_in_five_steps_pushes_the_model_of_an_undisturbed_run(
    tmp_path: Path, small_mnist: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "killed"
    command = ["--run-root", str(root), "--set", f"data.path={small_mnist}", *QUICK]
    resume = ["--run-root", str(root), "--resume"]
    killed_in("ExampleGen", *command)
    killed_in("Transform", *resume)
    killed_in("Trainer", *command)  # the same command goes on as well
    assert last_run(root).verdict == "stopped in Trainer" and not last_run(root).finished
    killed_in("Evaluator", *resume)
    assert states(root)["Transform"] == "CACHED"
    killed_in("Pusher", *resume)
    assert versions(root) == [] and last_run(root).verdict == "stopped in Pusher"
    killed = last_run(root).id

    done = subprocess.run(
        [sys.executable, "-m", "pipeline.run_local", *resume], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == PUSHED, done.stdout + done.stderr
    run = last_run(root)
    assert run.properties[RESUMED] == killed and f"resumes the run {killed}" in done.stdout
    assert {step.id for step in run.steps if step.state == "COMPLETE"} == {"Baseline", "Pusher"}
    assert killed in (root / "reports" / f"{run.id}.html").read_text()
    epochs = (Path(run.output("Trainer", "model_run").uri) / "epochs.csv").read_text().splitlines()
    assert {line.split(",")[0] for line in epochs} == {"epoch", "0", "1", "2"}

    assert run_pipeline(tmp_path / "undisturbed", small_mnist).code == PUSHED
    expected, found = weights(tmp_path / "undisturbed"), weights(root)
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
