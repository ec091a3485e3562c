"""What re-runs a step, and what does not: the fingerprints of the real pipeline, in a copy of the project."""

from __future__ import annotations

import json
import shutil
from importlib.metadata import version
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from components.fingerprint import first_party_modules
from pipeline.definition import computing_modules
from tests.conftest import PACKAGES, ROOT

SERVED = {"InfraValidator", "Pusher"}
EXAMPLE = {"CuratedSchema", "ExampleGen", "StatisticsGen", "DataGate", "Transform", "Trainer", "Evaluator", *SERVED}


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
    """The fingerprint of each step's code in `tree`, by the copy there of the module under test."""
    spec = spec_from_file_location("components.fingerprint", tree / "components" / "fingerprint.py")
    assert spec is not None and spec.loader is not None
    copy = module_from_spec(spec)
    spec.loader.exec_module(copy)
    return {step: copy.fingerprint(*names) for step, names in modules.items()}


@pytest.fixture(scope="module")
def modules() -> dict[str, list[str]]:
    """The modules that compute each step."""
    return {node.id: computing_modules(node) for node in create() if node.id != "Baseline"}


@pytest.fixture(scope="module")
def project_before(modules: dict[str, list[str]]) -> dict[str, str]:
    return fingerprints(ROOT, modules)


@pytest.fixture
def project(tmp_path: Path, modules: dict[str, list[str]], project_before: dict[str, str]) -> Project:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("*.gz", "__pycache__"))
    return Project(tmp_path, modules, project_before)


def test_each_step_has_the_modules_that_it_imports(modules: dict[str, list[str]]) -> None:
    found = {step: set(first_party_modules(*names)) for step, names in modules.items()}
    assert not found["ExampleValidator"]
    trainer = {name for name in found["Trainer"] if name.startswith("components.trainer.")}
    assert len(trainer) > 10
    for step in found.keys() - {"Trainer"}:
        assert found[step] & trainer <= {"components.trainer.signatures", "components.trainer.reference"}, step
    for step in ("CuratedSchema", "ExampleGen", "StatisticsGen", "DataGate", "Transform"):
        steps = {name.split(".")[1] for name in found[step] if name.startswith("components.")}
        assert len(steps - {"digests"}) == 1, step
    assert {step for step, names in found.items() if "serving" in names} == {"InfraValidator"}


def test_a_reworded_comment_or_docstring_re_runs_nothing(project: Project) -> None:
    project.replace("components/trainer/cluster.py", "The hosts that train together.", "All hosts that train together.")
    project.replace("components/pusher/component.py", '"""Pushes if every blessing is there."""', '"""Pushes."""')
    project.replace("data/example.py", "Only this file knows the format;", "This file knows the format;")
    project.replace("components/transform.py", "# TFX adds a key", "# As TFX adds a key")
    project.replace("components/baseline.py", "import ml_metadata as mlmd\n", "import ml_metadata as mlmd  # slow\n\n")
    assert project.changed() == set()


@pytest.mark.parametrize(
    ("file", "old", "new", "steps"),
    [
        ("components/example_gen.py", 'TFRecordWriter(target, "GZIP")', 'TFRecordWriter(target, "")', {"ExampleGen"}),
        ("components/digests.py", "{name: digest for", "{digest: name for",
         {"ExampleGen", "StatisticsGen", "DataGate", "Trainer", "InfraValidator", "Pusher"}),
        ("components/transform.py", '= "sequence"', '= "rows"', {"Transform", "Trainer"}),
        ("components/data_validation/gate.py", "examples += dataset.num_examples", "examples -= dataset.num_examples",
         {"DataGate"}),
        ("components/trainer/model.py", "index < settings.layers - 1", "index < settings.layers", {"Trainer"}),
        ("components/trainer/fit.py", "SparseCategoricalCrossentropy(from_logits=True)",
         "SparseCategoricalCrossentropy(from_logits=True, reduction='sum')", {"Trainer"}),
        ("components/trainer/fit.py", "after epoch %d.\", finished)", "after epoch %d.\", finished + 1)", {"Trainer"}),
        ("components/trainer/signatures.py", '"class_ids"', '"labels"', {"Trainer", "Evaluator", *SERVED}),
        ("components/evaluator/metrics.py", "_BINS = 10", "_BINS = 15", {"Evaluator", "Pusher"}),
        ("components/infra_validator/checks.py", "_CALLS = 50", "_CALLS = 60", {"InfraValidator"}),
        ("serving/tensors.py", "has no TensorFlow type.", "has no type.", {"InfraValidator"}),
        ("components/pusher/component.py", "version += 1", "version += 2", {"Pusher"}),
        ("data/example.py", "/ 255.0", "/ 256.0", EXAMPLE),
        ("pipeline/local/summary.py", "Test accuracy", "Accuracy", set()),
        ("data/build.py", "default=4,", "default=5,", set()),
    ],
)  # fmt: skip
def test_a_change_of_code_re_runs_the_steps_that_import_it(
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
    assert with_new("tf_keras") == {"Trainer", "Pusher"}
    assert with_new("rich") == set()


def test_the_devices_and_the_model_server_are_seen(before: dict[str, str]) -> None:
    assert changed(before, cache_keys(hardware="1 x 2 GPU")) == {"Trainer"}
    assert changed(before, cache_keys(model_server="/usr/bin/tensorflow_model_server")) == {"InfraValidator"}


@pytest.mark.parametrize(
    ("override", "steps"),
    [
        ("gates.accuracy=0.9", {"Evaluator"}),
        ("gates.max_calibration_error=0.1", {"Evaluator"}),
        ("training.epochs=3", {"Trainer"}),
        ("infra.tolerance=0.1", {"InfraValidator"}),
        ("serving.model_name=other", {"InfraValidator"}),
        ("data.rows=14", {"StatisticsGen", "DataGate", "Transform", "Trainer", "Evaluator"}),
        ("data.classes=9", {"CuratedSchema", "StatisticsGen", "DataGate", "Transform", "Trainer", "Evaluator"}),
    ],
)
def test_a_setting_re_runs_its_own_step_only(before: dict[str, str], override: str, steps: set[str]) -> None:
    """And the Pusher: a version says with which settings its model was made. The same model is not pushed again."""
    assert changed(before, cache_keys(override)) == {*steps, "Pusher"}
