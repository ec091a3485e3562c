"""What re-runs a step, and what does not: the fingerprints of the real pipeline, in a copy of the project."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from pipeline.definition import computing_modules
from tests.conftest import PACKAGES, ROOT

# Prints the fingerprint of each step's code, in the folder where it runs and without TFX.
PRINT = """
import json, sys
from components.fingerprint import fingerprint
print(json.dumps({step: fingerprint(*modules) for step, modules in json.loads(sys.argv[1]).items()}))
"""


def create(*overrides: str, **arguments: str) -> list:
    from pipeline.config import load
    from pipeline.definition import create_pipeline

    folders = {"pipeline_root": "/root", "serving_dir": "/serving", "data_path": "/data"}
    return create_pipeline(load("default", overrides), **folders, **arguments).components


def cache_keys(*overrides: str, **arguments: str) -> dict[str, str]:
    """What TFX's cache sees of each step beside its inputs."""
    return {
        node.id: json.dumps(node.exec_properties, sort_keys=True, default=str)
        for node in create(*overrides, **arguments)
    }


def changed(before: dict[str, str], now: dict[str, str]) -> set[str]:
    assert before.keys() == now.keys()
    return {step for step, key in now.items() if key != before[step]}


@pytest.fixture(scope="module")
def before() -> dict[str, str]:
    return cache_keys()


class Project:
    """A copy of the project that a test edits; `changed` says which steps would run again."""

    def __init__(self, tree: Path, modules: dict[str, list[str]], before: dict[str, str]) -> None:
        self._tree, self._modules, self._before = tree, modules, before

    def replace(self, file: str, old: str, new: str) -> None:
        text = (self._tree / file).read_text()
        assert text.count(old) == 1, f"{file} has {text.count(old)} times {old!r}"
        (self._tree / file).write_text(text.replace(old, new))

    def changed(self) -> set[str]:
        return changed(self._before, fingerprints(self._tree, self._modules))


def fingerprints(tree: Path, modules: dict[str, list[str]]) -> dict[str, str]:
    command = [sys.executable, "-c", PRINT, json.dumps(modules)]
    return json.loads(subprocess.run(command, cwd=tree, capture_output=True, text=True, check=True).stdout)


@pytest.fixture(scope="module")
def modules() -> dict[str, list[str]]:
    """The project's modules that compute each step."""
    computing = {node.id: computing_modules(node) for node in create() if node.id != "Baseline"}
    return {step: [name for name in names if "tfx" not in name] for step, names in computing.items()}


@pytest.fixture(scope="module")
def project_before(modules: dict[str, list[str]]) -> dict[str, str]:
    return fingerprints(ROOT, modules)


@pytest.fixture
def project(tmp_path: Path, modules: dict[str, list[str]], project_before: dict[str, str]) -> Project:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("*.gz", "__pycache__"))
    return Project(tmp_path, modules, project_before)


def test_a_reworded_sentence_re_runs_nothing(project: Project) -> None:
    """A help text, an exception, a docstring, a comment, a log line, a remedy: in every step's code."""
    project.replace("components/evaluator/settings.py", "for each class alone", "for every class by itself")
    project.replace("components/trainer/settings.py", "examples per replica and step", "examples of a step")
    project.replace("data/splits.py", "split is missing:", "split is not there:")
    project.replace("data/storage.py", "no space is left on the device", "the device is full")
    project.replace("data/example.py", "Only this file knows the format;", "This file knows the format;")
    project.replace("components/transform.py", "# TFX adds a key", "# As TFX adds a key")
    project.replace("components/trainer/fit.py", "Kept the weights of epoch", "The weights are of epoch")
    project.replace("components/trainer/cluster.py", "did not connect: ", "could not connect: ")
    project.replace("components/data_validation/gate.py", "The data gate stopped", "The gate stopped")
    project.replace("components/baseline.py", "There is no baseline: ", "No baseline: ")
    project.replace("serving/launch.py", "The model server did not start:", "No model server started:")
    assert project.changed() == set()


@pytest.mark.parametrize(
    ("file", "old", "new", "steps"),
    [
        ("components/example_gen.py", 'file_name_suffix=".gz"', 'file_name_suffix=".gzip"', {"ExampleGen"}),
        ("data/example.py", "min_count: 1 }}\n          shape {{ dim {{ size: 1 }} }}\n        }}\n        feature",
         "min_count: 2 }}\n          shape {{ dim {{ size: 1 }} }}\n        }}\n        feature", {"CuratedSchema"}),
        ("data/example.py", "/ 255.0", "/ 256.0", {"Transform"}),
        ("data/example.py", "starts = tf.strings.length(serialized)", "starts = 0 + tf.strings.length(serialized)",
         {"Trainer"}),
        ("data/example.py", "value=[image.tobytes()]", "value=[bytes(image)]", {"InfraValidator"}),
        ("components/data_validation/gate.py", "examples += dataset.num_examples", "examples -= dataset.num_examples",
         {"DataGate"}),
        ("components/trainer/model.py", "last = index == settings.layers - 1", "last = True", {"Trainer"}),
        ("components/trainer/export.py", '= "class_ids"', '= "labels"', {"Trainer", "InfraValidator"}),
        ("components/evaluator/metrics.py", "bins: int = 10", "bins: int = 15", {"Evaluator"}),
        ("components/evaluator/component.py", "baselines = with_files(", "baselines = [] and with_files(",
         {"Evaluator"}),
        ("components/infra_validator/checks.py", "_CALLS = 50", "_CALLS = 60", {"InfraValidator"}),
        ("serving/tensors.py", "64 * 2**10", "65 * 2**10", {"InfraValidator"}),
        ("components/pusher/component.py", "version += 1", "version += 2", {"Pusher"}),
        ("pipeline/local/summary.py", "Test accuracy", "Accuracy", set()),
        ("data/build.py", "default=5000", "default=6000", set()),
    ],
)  # fmt: skip
def test_a_change_of_code_re_runs_the_steps_that_run_it(
    project: Project, file: str, old: str, new: str, steps: set[str]
) -> None:
    project.replace(file, old, new)
    assert project.changed() == steps


def test_a_changed_library_re_runs_what_it_computes(before: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def with_new(library: str) -> set[str]:
        with monkeypatch.context() as patch:
            patch.setattr("components.fingerprint._version", lambda name: "0" if name == library else version(name))
            return changed(before, cache_keys())

    assert with_new("tensorflow-data-validation") == {
        *("StatisticsGen", "ExampleValidator", "DataGate", "Transform", "Pusher")
    }
    assert with_new("apache-beam") == {"ExampleGen", "StatisticsGen", "Transform", "Evaluator", "Pusher"}
    assert with_new("tf_keras") == {"Trainer", "Evaluator", "Pusher"}
    assert with_new("rich") == set()


def test_the_devices_and_the_model_server_are_seen(before: dict[str, str]) -> None:
    assert changed(before, cache_keys(hardware="1 × 2 GPU")) == {"Trainer"}
    assert changed(before, cache_keys(model_server="/usr/bin/tensorflow_model_server")) == {"InfraValidator"}


@pytest.mark.parametrize(
    ("override", "steps"),
    [
        ("gates.accuracy=0.9", {"Evaluator"}),
        ("gates.max_calibration_error=0.1", {"Evaluator"}),
        ("training.epochs=3", {"Trainer"}),
        ("infra.tolerance=0.1", {"InfraValidator"}),
        ("serving.model_name=other", {"InfraValidator"}),
        ("data.rows=14", {"DataGate", "Transform", "Trainer", "Evaluator"}),
        ("data.classes=9", {"CuratedSchema", "DataGate", "Transform", "Trainer", "Evaluator"}),
    ],
)
def test_a_setting_re_runs_its_own_step_only(before: dict[str, str], override: str, steps: set[str]) -> None:
    """And the Pusher: a version says with which settings its model was made. The same model is not pushed again."""
    assert changed(before, cache_keys(override)) == {*steps, "Pusher"}
