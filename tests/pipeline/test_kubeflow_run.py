"""The compiled spec, executed: every container command as a process, on real digits, to a pushed model or to a stop."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from pipeline.definition import STEPS
from pipeline.exit_codes import DATA_REFUSED, MODEL_REFUSED
from pipeline.kubeflow.report import REPORT, VERDICT
from pipeline.run_kubeflow import main
from tests.conftest import QUICK
from tests.pipeline.few_digits import SETTINGS, WORSE, few_digits, few_mnist
from tests.pipeline.kubeflow_launcher import SECRET, Launcher, Step, in_fork, in_new_process

pytestmark = pytest.mark.slow
DATES = "{YYYY}-{MM}-{DD}"


def execute(command: list[str], environment: Mapping[str, str], folder: Path) -> tuple[int, str]:
    """Runs a step. The Trainer has a Python of its own, as in its container; it sets most of its process up."""
    own = "trainer" in command[command.index("--executor_class_path") + 1]
    return (in_new_process if own else in_fork)(command, environment, folder)


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Launcher:
    """One backend, with its object store, cache and volume."""
    launcher = Launcher(tmp_path_factory.mktemp("kubeflow"), execute=execute)
    launcher.secrets["store"] = {"AWS_SECRET_ACCESS_KEY": SECRET}
    return launcher


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A day, and a newer one that is still being copied."""
    folder = tmp_path_factory.mktemp("data")
    few_mnist(folder).rename(folder / "2026-11-27")
    (folder / "2026-11-28").mkdir()
    return f"{folder}/{DATES}"


@pytest.fixture(scope="module")
def first(launcher: Launcher, data: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Step]:
    """The first run, to a pushed model."""
    return launcher.run(compiled(tmp_path_factory.mktemp("first")), {"data_path": data})


def compiled(folder: Path, *overrides: str) -> Path:
    package = folder / "pipeline.yaml"
    common = ["--image", "digit-rows:0.1.0", "--pipeline-root", "minio://mlpipeline/v2/artifacts", "--volume", "models"]
    secrets = 'kubeflow.secrets={store = ["AWS_SECRET_ACCESS_KEY"]}'
    days = (f"data.path=/volume/days/{DATES}", "training.warm_start=true")
    assert main(["compile", *common, "-o", str(package), "--set", *QUICK, *SETTINGS, secrets, *days, *overrides]) == 0
    return package


def states(steps: dict[str, Step]) -> dict[str, str]:
    return {name: step.state for name, step in steps.items()}


def report(launcher: Launcher, steps: dict[str, Step]) -> str:
    """The text of the page that Kubeflow's UI fetches: its artifact is the file itself."""
    return launcher.object(steps[REPORT], "report").read_text(encoding="utf-8")


def served(launcher: Launcher) -> list[Path]:
    return sorted(launcher.volume.glob("serving_models/mnist/*"))


def test_every_step_runs_in_its_container_to_a_pushed_model(
    launcher: Launcher, first: dict[str, Step], data: str
) -> None:
    steps = first
    printed = "".join(step.printed for step in steps.values())
    assert states(steps) == dict.fromkeys((*STEPS, REPORT, VERDICT), "SUCCEEDED"), printed
    assert all(step.attempts == 1 for step in steps.values())
    assert "epoch 4/4" in steps["Trainer"].printed and "checks passed" in steps["InfraValidator"].printed
    assert "There is no baseline" in steps["Baseline"].printed
    assert "Takes 1 day: 2026-11-27." in steps["ExampleGen"].printed
    assert "The day 2026-11-28 is not complete and is left out" in steps["ExampleGen"].printed
    assert "Trains from scratch: no model of other days was pushed" in steps["Trainer"].printed
    metadata = steps["ExampleGen"].outputs["examples"]["metadata"]
    assert metadata["days"] == "2026-11-27" and metadata["span"] == 20784
    (version,) = served(launcher)
    test = few_digits()["test"]
    answer = tf.saved_model.load(str(version)).signatures["predict_images"](images=tf.constant(test.pixels))
    accuracy = np.mean(answer["class_ids"].numpy() == test.labels)
    assert accuracy > 0.3 and f"{accuracy:.4f}" in report(launcher, steps)
    assert (version / "assets.extra" / "tf_serving_warmup_requests").exists()
    assert steps["Pusher"].outputs["pushed_model"]["metadata"]["pushed_version"] == version.name
    page = report(launcher, steps)
    assert f"The model was pushed as version {version.name}." in page, steps[REPORT].printed
    assert "<h1>run-1</h1>" in page
    assert "This part could not be made" not in page and page.count("<svg") == 7 and page.count("<img") == 40
    assert "How long the steps took and what came from a cache is not known here" in page
    assert "training.epochs" in page and "tf-keras" in page and data in page
    # Nothing secret in what was printed, recorded or stored.
    assert not any(SECRET in step.printed or SECRET in str(step.outputs) for step in steps.values())
    stored = [path for path in launcher.work.rglob("*") if path.is_file()]
    assert len(stored) > 30 and not any(SECRET.encode() in path.read_bytes() for path in stored)


def test_a_model_worse_than_what_is_served_is_refused_and_the_run_is_red(
    launcher: Launcher, first: dict[str, Step], tmp_path: Path, data: str
) -> None:
    before = served(launcher)
    launcher.execute = in_fork
    worse = compiled(tmp_path, WORSE, "gates.accuracy=0.0", "gates.class_accuracy=0.0")
    # The steps on the data are those of the first run.
    steps = launcher.run(
        worse, {"data_path": data}, done={name: first[name] for name in STEPS[: STEPS.index("Trainer")]}
    )
    assert f"The baseline is version {before[0].name}" in steps["Baseline"].printed
    assert states(steps)["Evaluator"] == "SUCCEEDED"
    assert (launcher.object(steps["Evaluator"], "blessing") / "NOT_BLESSED").exists()
    assert steps["Pusher"].state == steps[REPORT].state == "SUCCEEDED"
    verdict = steps[VERDICT]
    assert verdict.state == "FAILED" and verdict.code == MODEL_REFUSED
    assert verdict.printed.count("A gate refused the model, nothing was pushed") == verdict.attempts
    assert "Traceback" not in verdict.printed
    # The log of a failed step is all that Kubeflow keeps of it.
    (log,) = (
        path for path in launcher.work.rglob(f"{VERDICT}/*/executor-logs-0") if "nothing was pushed" in path.read_text()
    )
    assert log.is_relative_to(launcher.work / "store")
    page = report(launcher, steps)
    assert "The model was not pushed: a gate refused it." in page and "accuracy against the baseline" in page
    assert f"Version {before[0].name} has an accuracy of" in page and "Exact McNemar test" in page
    assert served(launcher) == before


def test_data_that_the_gate_refuses_stops_the_run_before_the_training_on_an_older_kubeflow(
    tmp_path: Path, data: str
) -> None:
    launcher = Launcher(tmp_path / "kubeflow", release=(2, 3), execute=in_fork)
    launcher.secrets["store"] = {"AWS_SECRET_ACCESS_KEY": SECRET}
    steps = launcher.run(compiled(tmp_path, "data.classes=7"), {"data_path": data})
    assert steps["DataGate"].state == "FAILED" and steps["DataGate"].code == DATA_REFUSED
    assert "The data gate stopped the run" in steps["DataGate"].printed
    assert "Traceback" not in steps["DataGate"].printed
    later = (*STEPS[STEPS.index("Transform") :], REPORT, VERDICT)
    assert {steps[name].state for name in later} == {"SKIPPED"}
    assert not served(launcher) and not list((launcher.work / "disks").iterdir())
    assert all(step.attempts <= 1 for step in steps.values())
