"""The baseline where there is no resolver: the newest served version that is not the candidate itself."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import tensorflow as tf
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from components.evaluator import OptionalBaselineExecutor
from components.served import ServedModel, same_model, versions


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three SavedModels."""
    folder = tmp_path_factory.mktemp("models")
    for number in range(3):
        module = tf.Module()
        module.number = tf.Variable(number)
        tf.saved_model.save(module, str(folder / str(number)))
    return sorted(folder.iterdir())


def baseline(candidate: Path, serving_dir: Path, work: Path) -> standard_artifacts.Model:
    trained, found = standard_artifacts.Model(), standard_artifacts.Model()
    trained.uri, found.uri = str(work / "trained"), str(work / "found")
    shutil.copytree(candidate, path_utils.serving_model_path(trained.uri))
    ServedModel.test_call(candidate=trained, model=found, serving_dir=str(serving_dir), code="")
    return found


def serve(serving_dir: Path, **numbered: Path) -> None:
    for name, model in numbered.items():
        shutil.copytree(model, serving_dir / name.removeprefix("v"))


def test_the_newest_served_model_is_the_baseline(models: list[Path], tmp_path: Path) -> None:
    serve(tmp_path / "served", v9=models[0], v10=models[1])
    found = baseline(models[2], tmp_path / "served", tmp_path)
    assert found.get_string_custom_property("version") == "10"
    assert same_model(path_utils.serving_model_path(found.uri), str(models[1]))


def test_the_candidate_is_not_compared_with_itself(models: list[Path], tmp_path: Path) -> None:
    serve(tmp_path / "served", v9=models[0], v10=models[1])
    assert baseline(models[1], tmp_path / "served", tmp_path).get_string_custom_property("version") == "9"


def test_a_rollback_is_seen(models: list[Path], tmp_path: Path) -> None:
    serve(tmp_path / "served", v9=models[0], v10=models[1])
    shutil.rmtree(tmp_path / "served" / "10")
    assert baseline(models[2], tmp_path / "served", tmp_path).get_string_custom_property("version") == "9"


@pytest.mark.parametrize("there", [False, True])
def test_without_another_served_model_there_is_no_baseline(models: list[Path], tmp_path: Path, there: bool) -> None:
    if there:
        serve(tmp_path / "served", v9=models[0])
        (tmp_path / "served" / ".pushing-half").mkdir()
    found = baseline(models[0], tmp_path / "served", tmp_path)
    assert not Path(path_utils.serving_model_path(found.uri)).exists()
    assert found.get_string_custom_property("version") == ""


def test_a_push_that_broke_off_in_an_object_store_is_not_served(models: list[Path], tmp_path: Path) -> None:
    serve(tmp_path / "served", v9=models[0], v10=models[1])
    (tmp_path / "served" / "10" / "saved_model.pb").unlink()
    assert versions(str(tmp_path / "served")) == [9]
    assert baseline(models[2], tmp_path / "served", tmp_path).get_string_custom_property("version") == "9"


def test_a_model_of_unknown_origin_is_another_model(models: list[Path], tmp_path: Path) -> None:
    serve(tmp_path / "served", v9=models[0])
    (tmp_path / "served" / "9" / "fingerprint.pb").unlink()
    assert baseline(models[0], tmp_path / "served", tmp_path).get_string_custom_property("version") == "9"
    assert versions(str(tmp_path / "served")) == [9] and versions(str(tmp_path / "nowhere")) == []


def test_the_evaluator_takes_an_empty_artifact_for_no_baseline(
    models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []
    parent = OptionalBaselineExecutor.__mro__[1]
    monkeypatch.setattr(parent, "Do", lambda self, inputs, outputs, properties: given.append(inputs["baseline_model"]))
    serve(tmp_path / "served", v9=models[0])
    full = baseline(models[1], tmp_path / "served", tmp_path / "a")
    empty = baseline(models[0], tmp_path / "served", tmp_path / "b")
    for model in (full, empty):
        OptionalBaselineExecutor().Do({"baseline_model": [model]}, {}, {})
    OptionalBaselineExecutor().Do({}, {}, {})
    assert given == [[full], [], []]
