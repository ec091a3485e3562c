"""Numbers that are not finite: a training that diverged ends with a sentence, and no step is left running."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow_transform as tft
from ml_metadata.proto import metadata_store_pb2
from tfx.dsl.component.experimental.annotations import OutputArtifact
from tfx.dsl.component.experimental.decorators import component
from tfx.orchestration import metadata
from tfx.orchestration.pipeline import Pipeline
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import proto_utils

from components.evaluator.component import EvaluatorExecutor
from components.evaluator.config import EXAMPLE, eval_config
from components.evaluator.report import Evaluation, read_evaluation
from components.evaluator.settings import Gates
from components.trainer.export import export
from components.trainer.fit import DivergedError
from components.trainer.settings import Model
from data.errors import UserError
from data.example import ExampleSpec
from pipeline.engines.settings import Beam
from pipeline.local.dag_runner import LocalRunner
from tests.components.conftest import Exported
from tests.components.trainings import train, training_job
from tests.conftest import Images, write_folder


@pytest.mark.parametrize("patience", [0, 3])
def test_a_validation_loss_that_is_not_finite_is_a_sentence(
    transform: tft.TFTransformOutput, example_files: dict[str, list[str]], tmp_path: Path, patience: int
) -> None:
    """One step: the training loss is that of the weights before it."""
    options = {"learning_rate": 1e5, "schedule": "constant", "clip_norm": 0.0, "optimizer": "adam"}
    network = Model(cell="simple_rnn", units=128, activation="relu")
    job = training_job(
        tmp_path, transform, example_files, network, epochs=1, batch_size=3000, patience=patience, **options
    )
    with pytest.raises(
        DivergedError, match=r"the validation loss became NaN or infinite .* Lower training\.learning_rate or set"
    ):
        train(job)
    assert not Path(job.backup_dir).exists()


def evaluate(model: Path, folder: Path, images: Images, gates: Gates) -> tuple[Evaluation, standard_artifacts.Model]:
    """What the Evaluator leaves, and its artifact, for a SavedModel in TFX's layout and a test split."""
    data = write_folder(folder / "examples", {"test": images})
    (data / "Split-test").mkdir()
    for shard in data.glob("*.gz"):
        shard.rename(data / "Split-test" / shard.name)
    examples, candidate = standard_artifacts.Examples(), standard_artifacts.Model()
    evaluation, blessing = standard_artifacts.ModelEvaluation(), standard_artifacts.ModelBlessing()
    examples.uri, examples.split_names = str(data), artifact_utils.encode_split_names(["test"])
    candidate.uri, evaluation.uri, blessing.uri = str(model), str(folder / "evaluation"), str(folder / "blessing")
    for artifact in (evaluation, blessing):
        Path(artifact.uri).mkdir()
    EvaluatorExecutor().Do(
        {"examples": [examples], "model": [candidate]},
        {"evaluation": [evaluation], "blessing": [blessing]},
        {
            "eval_config": proto_utils.proto_to_json(eval_config(gates, 10)),
            "example_splits": '["test"]',
            EXAMPLE: ExampleSpec().model_dump_json(),
        },
    )
    return read_evaluation(evaluation.uri, ExampleSpec().labels), evaluation


def test_a_class_without_test_examples_has_no_gate_and_the_others_have_theirs(
    exported: Exported, digits: dict[str, Images], tmp_path: Path
) -> None:
    images = digits["test"]
    few = np.flatnonzero(images.labels < 8)[:100]
    open_gates = {"accuracy": 0.0, "max_drop": 1.0}
    for floor, blessed in ((0.0, True), (1.0, False)):
        folder = tmp_path / str(floor)
        folder.mkdir()
        gates = Gates(class_accuracy=floor, **open_gates)
        part = Images(images.pixels[few], images.labels[few])
        evaluation, artifact = evaluate(exported.folder / "model", folder, part, gates)
        assert evaluation.blessed == blessed
        assert [gate.name for gate in evaluation.gates] == [
            "accuracy",
            *(f"accuracy of class {label}" for label in range(8)),
        ]
        assert evaluation.untested == ["8", "9"]
        assert artifact.get_float_custom_property("examples") == 100


def test_a_model_that_answers_nan_is_refused_with_a_sentence(
    exported: Exported, transform: tft.TFTransformOutput, digits: dict[str, Images], tmp_path: Path
) -> None:
    weights = [array.copy() for array in exported.network.get_weights()]
    weights[-1][3] = np.nan
    export(weights, transform, exported.settings, ExampleSpec(), {}, str(tmp_path / "model" / "Format-Serving"))
    images = Images(digits["test"].pixels[:20], digits["test"].labels[:20])
    with pytest.raises(UserError, match=r"^The model answers 20 of 20 test examples with NaN .* Lower training"):
        evaluate(tmp_path / "model", tmp_path, images, Gates())


@component
def Unrecordable(model: OutputArtifact[standard_artifacts.Model]) -> None:
    """Gives its output a number that ML Metadata does not take."""
    model.set_float_custom_property("loss", math.nan)


def test_a_step_whose_result_cannot_be_recorded_has_failed(tmp_path: Path) -> None:
    connection = metadata.sqlite_metadata_connection_config(str(tmp_path / "metadata.db"))
    pipeline = Pipeline(
        pipeline_name="numbers",
        pipeline_root=str(tmp_path),
        components=[Unrecordable()],
        metadata_connection_config=connection,
    )
    reporter = SimpleNamespace(begin=lambda step: None, end=lambda state: None)
    with pytest.raises(Exception, match="nan"):
        LocalRunner(connection, "1", {}, reporter, Beam()).run(pipeline)  # type: ignore[arg-type]
    with metadata.Metadata(connection) as handle:
        (execution,) = handle.store.get_executions()
    assert execution.last_known_state == metadata_store_pb2.Execution.FAILED
