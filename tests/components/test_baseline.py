"""The baseline: the newest pushed model that is not the candidate and can be compared with it, for both runners."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import ml_metadata as mlmd
import pytest
import tensorflow as tf
from ml_metadata.proto import metadata_store_pb2
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from components.baseline import (
    LatestPushedModel,
    LatestPushedModelStrategy,
    find_baseline,
)
from components.evaluator.component import with_files
from components.version_folder import VERSION, same_model, version_folders

Artifact = standard_artifacts.Model


def save(
    folder: Path, number: int, classes: int = 10, signature: str = "serving_default", output: str = "probabilities"
) -> Path:
    """Saves a model that answers `number` for each class."""

    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")], autograph=False)
        def serve(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
            return {output: tf.fill([tf.size(examples), classes], float(number))}

    module = Module()
    tf.saved_model.save(module, str(folder), signatures={signature: module.serve})
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three SavedModels with the same signature."""
    folder = tmp_path_factory.mktemp("models")
    return [save(folder / str(number), number) for number in range(3)]


def push(serving_dir: Path, **versions: Path) -> None:
    for name, model in versions.items():
        shutil.copytree(model, serving_dir / name.removeprefix("v"))


def by_container_step(candidate: Path, serving_dir: Path, work: Path) -> str:
    """What the step of a container finds: the version, or nothing."""
    trained, found = Artifact(), Artifact()
    trained.uri, found.uri = str(work / "trained"), str(work / "found")
    shutil.copytree(candidate, path_utils.serving_model_path(trained.uri))
    LatestPushedModel.test_call(candidate=trained, model=found, serving_dir=str(serving_dir))
    version = found.get_string_custom_property(VERSION)
    copy = path_utils.serving_model_path(found.uri)
    assert same_model(copy, str(serving_dir / version)) if version else not Path(copy).exists()
    return version


def resolve(candidate: Path, serving_dir: Path, work: Path) -> list[Artifact]:
    """What the resolver of the local runner finds, with an ML Metadata store in `work`."""
    connection = metadata_store_pb2.ConnectionConfig()
    connection.sqlite.filename_uri = str(work / "metadata.db")
    connection.sqlite.connection_mode = metadata_store_pb2.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
    store = mlmd.MetadataStore(connection)
    trained = Artifact()
    trained.uri = str(work / "trained")
    if not Path(trained.uri).exists():
        shutil.copytree(candidate, path_utils.serving_model_path(trained.uri))
    trained.mlmd_artifact.type_id = store.put_artifact_type(Artifact().artifact_type)
    strategy = LatestPushedModelStrategy(serving_dir=str(serving_dir), baseline_dir=str(work / "baseline"))
    return strategy.resolve_artifacts(store, {"model": [trained]})["model"]


def by_resolver(candidate: Path, serving_dir: Path, work: Path) -> str:
    found = resolve(candidate, serving_dir, work)
    if not found:
        return ""
    version = found[0].get_string_custom_property(VERSION)
    assert same_model(path_utils.serving_model_path(found[0].uri), str(serving_dir / version))
    return version


@pytest.fixture(params=[by_container_step, by_resolver], ids=["container step", "resolver"])
def baseline(request: pytest.FixtureRequest) -> Callable[[Path, Path, Path], str]:
    """Each test runs in both runners' way: they must mean the same."""
    return request.param


Baseline = Callable[[Path, Path, Path], str]


def test_a_version_may_begin_with_zeros(baseline: Baseline, models: list[Path], tmp_path: Path) -> None:
    """TensorFlow Serving takes the folder 00000123 for the version 123."""
    serving_dir = tmp_path / "serving"
    push(serving_dir, v7=models[0], v00000123=models[1])
    assert baseline(models[2], serving_dir, tmp_path) == "00000123"


def test_the_newest_pushed_model_is_the_baseline(baseline: Baseline, models: list[Path], tmp_path: Path) -> None:
    push(tmp_path / "served", v9=models[0], v10=models[1])
    assert baseline(models[2], tmp_path / "served", tmp_path) == "10"


def test_the_candidate_is_not_compared_with_itself(baseline: Baseline, models: list[Path], tmp_path: Path) -> None:
    push(tmp_path / "served", v9=models[0], v10=models[1])
    assert baseline(models[1], tmp_path / "served", tmp_path) == "9"


def test_a_rollback_is_seen(baseline: Baseline, models: list[Path], tmp_path: Path) -> None:
    push(tmp_path / "served", v9=models[0], v10=models[1])
    shutil.rmtree(tmp_path / "served" / "10")
    assert baseline(models[2], tmp_path / "served", tmp_path) == "9"


@pytest.mark.parametrize("there", [False, True])
def test_a_missing_baseline_is_logged(
    baseline: Baseline, models: list[Path], tmp_path: Path, there: bool, caplog: pytest.LogCaptureFixture
) -> None:
    if there:
        push(tmp_path / "served", v9=models[0])
        (tmp_path / "served" / ".pushing-half").mkdir()
    with caplog.at_level(logging.INFO, "components"):
        assert baseline(models[0], tmp_path / "served", tmp_path) == ""
    assert f"There is no baseline: no other model was pushed to {tmp_path / 'served'}." in caplog.messages


def test_a_model_that_answers_something_else_is_no_baseline(
    baseline: Baseline, models: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    push(
        tmp_path / "served",
        v9=models[0],
        v10=save(tmp_path / "five", 3, classes=5),
        v11=save(tmp_path / "other", 4, signature="other"),
        v12=save(tmp_path / "logits", 5, output="logits"),
    )
    with caplog.at_level(logging.INFO, "components"):
        assert baseline(models[2], tmp_path / "served", tmp_path) == "9"
    text = caplog.text
    for version in (11, 12):
        assert f"Version {version} in {tmp_path}/served is no baseline: it has no signature serving_default" in text
    assert "Version 10" in text
    assert "returns probabilities float32 [-1, 5], the candidate's float32 [-1, 10]" in text


def test_a_model_without_the_newer_outputs_is_a_baseline(models: list[Path], tmp_path: Path) -> None:
    class Named(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")], autograph=False)
        def serve(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
            count = tf.size(examples)
            return {"probabilities": tf.zeros([count, 10]), "classes": tf.fill([count, 10], "shirt")}

    module = Named()
    tf.saved_model.save(module, str(tmp_path / "new"), signatures={"serving_default": module.serve})
    push(tmp_path / "served", v9=models[0])
    assert find_baseline(str(tmp_path / "served"), str(tmp_path / "new")) == str(tmp_path / "served" / "9")


def test_a_damaged_version_is_passed_over(
    baseline: Baseline, models: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    push(tmp_path / "served", v9=models[0], v10=models[1])
    (tmp_path / "served" / "10" / "saved_model.pb").write_bytes(b"\xff")
    with caplog.at_level(logging.INFO, "components"):
        assert baseline(models[2], tmp_path / "served", tmp_path) == "9"
    assert "its saved_model.pb is damaged" in caplog.text
    push(tmp_path / "served", v11=models[1])
    next((tmp_path / "served" / "11" / "variables").glob("variables.data*")).unlink()
    (tmp_path / "again").mkdir()
    assert baseline(models[2], tmp_path / "served", tmp_path / "again") == "9"
    assert "Version 11" in caplog.text and "its variables are damaged" in caplog.text


def test_an_incomplete_push_in_an_object_store_is_no_version(
    baseline: Baseline, models: list[Path], tmp_path: Path
) -> None:
    push(tmp_path / "served", v9=models[0], v10=models[1])
    (tmp_path / "served" / "10" / "saved_model.pb").unlink()
    assert version_folders(str(tmp_path / "served")) == [str(tmp_path / "served" / "9")]
    assert baseline(models[2], tmp_path / "served", tmp_path) == "9"


def test_a_model_of_unknown_origin_is_another_model(baseline: Baseline, models: list[Path], tmp_path: Path) -> None:
    push(tmp_path / "served", v9=models[0])
    (tmp_path / "served" / "9" / "fingerprint.pb").unlink()
    served = str(tmp_path / "served")
    assert find_baseline(served, str(models[0])) == f"{served}/9"
    assert version_folders(served) == [f"{served}/9"] and version_folders(str(tmp_path / "nowhere")) == []


def test_the_resolved_artifact_stays_the_same_until_another_model_is_pushed(models: list[Path], tmp_path: Path) -> None:
    """TFX's cache compares the artifact's id; and a copy that was deleted is made again."""
    served = tmp_path / "served"
    push(served, v9=models[0])
    (first,) = resolve(models[2], served, tmp_path)
    shutil.rmtree(first.uri)
    (again,) = resolve(models[2], served, tmp_path)
    assert first.id == again.id and same_model(path_utils.serving_model_path(again.uri), str(models[0]))
    # The same number for another model: its folder was replaced.
    shutil.rmtree(served / "9")
    push(served, v9=models[1])
    (other,) = resolve(models[2], served, tmp_path)
    assert other.id != first.id and same_model(path_utils.serving_model_path(other.uri), str(models[1]))


def test_the_evaluator_takes_an_empty_artifact_for_no_baseline(models: list[Path], tmp_path: Path) -> None:
    full, empty = Artifact(), Artifact()
    full.uri, empty.uri = str(tmp_path / "full"), str(tmp_path / "empty")
    shutil.copytree(models[0], path_utils.serving_model_path(full.uri))
    assert with_files([empty, full]) == [full] and with_files([]) == []
