"""Whole runs on a small part of MNIST, judged by ML Metadata, bytes on disk and exit codes."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tfx.utils import path_utils

from components.version_folder import model_id, read_provenance
from data.example import serialize
from data.readers import Images
from pipeline.config import Config
from pipeline.definition import STEPS
from pipeline.exit_codes import FAILED, MODEL_REFUSED, PUSHED
from pipeline.runs.records import Run as Record
from pipeline.runs.root import RunRoot
from serving.client import Client
from serving.launch import model_server, wait_until_available
from tests.conftest import Outcome, infra_server, last_run, states, versions
from tests.pipeline import test_history
from tests.pipeline.few_digits import SMALL
from tests.pipeline.test_history import Roots

pytestmark = pytest.mark.slow
roots = test_history.roots
Run = Callable[..., Outcome]

COMPUTING = [step for step in STEPS if step != "Baseline"]


def model_of(run: Record) -> str:
    """The id of the model that a run trained: a digest of its weights and graph."""
    model = run.output("Trainer", "model")
    assert model is not None
    return model_id(path_utils.serving_model_path(model.uri))


def executed(root: Path) -> set[str]:
    return {step for step, state in states(root).items() if state == "COMPLETE" and step != "Baseline"}


@pytest.fixture
def root(roots: Roots) -> Path:
    """The run root as its first run left it, for each test anew, always under the same path."""
    return roots.restore(roots.after_one)


def test_a_first_run_executes_every_step_and_pushes(root: Path, roots: Roots) -> None:
    outcome = roots.outcomes[0]
    assert outcome.code == PUSHED, outcome.text
    assert states(root) == dict.fromkeys(STEPS, "COMPLETE")
    (version,) = versions(root)
    assert f"version {version} to" in outcome.text
    for words in ("epoch 3/3", "Test accuracy", "of 1,000 examples", "Worst class", "accuracy of class 9", "run.log"):
        assert words in outcome.text
    assert "There is no baseline: no other model was pushed" in outcome.text
    assert f"by {infra_server()}" in outcome.text
    assert "Baseline           none" in outcome.text
    assert "calibration error: " not in outcome.text  # off unless the profile sets a bar
    assert "INFO" not in outcome.text and "Warning" not in outcome.text


def test_what_was_pushed_answers_as_the_evaluator_said(
    root: Path, digits: dict[str, Images], small_mnist: Path
) -> None:
    folder = root / "serving_models" / "mnist" / versions(root)[0]
    assert {"saved_model.pb", "variables", "assets.extra"} <= {path.name for path in folder.iterdir()}
    signatures = tf.saved_model.load(str(folder)).signatures
    images = digits["test"]
    records = [serialize(p, y) for p, y in zip(images.pixels, images.labels, strict=True)]
    answer = signatures["serving_default"](examples=tf.constant(records))
    accuracy = (answer["class_ids"].numpy() == images.labels).mean()
    metrics = last_run(root).evaluation()
    assert accuracy == pytest.approx(metrics.accuracy, abs=1e-6)
    provenance = read_provenance(str(folder))
    assert provenance["run"] == last_run(root).id and provenance["evaluation"]["accuracy"] == metrics.accuracy
    assert provenance["settings"]["training"]["epochs"] == 3 and len(provenance["gates"]) == 11
    assert set(provenance["fingerprints"]) == set(STEPS) - {"Baseline", "Pusher"}
    for name, digest in provenance["data"]["files"].items():
        assert hashlib.sha256((small_mnist / name).read_bytes()).hexdigest() == digest
    for label in range(10):
        mask = images.labels == label
        share = (answer["class_ids"].numpy() == label)[mask].mean()
        assert metrics.class_accuracy[label] == pytest.approx(share, abs=1e-6)
    pairs = zip(images.labels.tolist(), answer["class_ids"].numpy().tolist(), strict=True)
    assert metrics.confusion == Counter(pairs)
    truth = answer["probabilities"].numpy()[np.arange(1000), images.labels]
    assert metrics.cross_entropy == pytest.approx(-np.log(truth).mean(), rel=1e-3)
    by_image = signatures["predict_images"](images=tf.constant(images.pixels))["probabilities"]
    by_row = signatures["predict_rows"](images=tf.constant(images.pixels))["probabilities"]
    np.testing.assert_allclose(by_image, answer["probabilities"], atol=1e-5)
    np.testing.assert_allclose(by_row[:, -1], answer["probabilities"], atol=1e-5)
    assert metrics.calibration_error == pytest.approx(expected_calibration_error(answer, images), abs=1e-4)


def expected_calibration_error(answer: dict[str, tf.Tensor], images: Images) -> float:
    confidence = answer["probabilities"].numpy().max(axis=1)
    correct = answer["class_ids"].numpy() == images.labels
    bins = np.minimum((confidence * 10).astype(int), 9)
    gaps = [abs(correct[bins == b].sum() - confidence[bins == b].sum()) for b in range(10)]
    return sum(gaps) / len(confidence)


def test_an_unchanged_run_is_fully_cached_and_says_so(run: Run, root: Path, small_mnist: Path) -> None:
    before = versions(root)
    outcome = run(root, small_mnist)
    assert outcome.code == PUSHED
    assert {states(root)[step] for step in COMPUTING} == {"CACHED"}
    assert "Nothing has changed: every step came from the cache." in outcome.text
    assert "by an earlier run" in outcome.text
    assert versions(root) == before


def test_each_stricter_gate_refuses_and_only_the_judges_run_again(run: Run, root: Path, small_mnist: Path) -> None:
    before, found = versions(root), last_run(root).evaluation()
    worst, error = found.worst_class, found.calibration_error
    gates = (
        "gates.accuracy=0.999",
        f"gates.class_accuracy={worst[1] + 0.001}",  # one weak digit is enough
        f"gates.max_calibration_error={error - 0.001:.4f}",
    )
    outcome = run(root, small_mnist, *gates)
    assert outcome.code == MODEL_REFUSED, outcome.text
    assert executed(root) == {"Evaluator", "InfraValidator", "Pusher"}
    assert versions(root) == before
    # A model the Evaluator refused is not served, and said to be refused once.
    assert "Infra check" not in outcome.text and "Pushed             nothing" in outcome.text
    assert f"✗ accuracy: {found.accuracy:.4f}, at least 0.9990" in outcome.text
    assert f"✗ accuracy of class {worst[0]}: {worst[1]:.4f}, at least" in outcome.text
    assert f"✗ calibration error: {error:.4f}, at most {error - 0.001:.4f}" in outcome.text
    assert outcome.text.count("✗") == 3 and outcome.text.count("✓ accuracy of class") == 9
    # And again: a refusal from the cache is still a refusal.
    assert run(root, small_mnist, *gates).code == MODEL_REFUSED
    assert executed(root) == set()
    # The thresholds that TFMA compared with, read from what it wrote.
    evaluations = sorted((root / "artifacts" / "Evaluator" / "evaluation").iterdir(), key=lambda path: int(path.name))
    config = json.loads((evaluations[0] / "eval_config.json").read_text())["evalConfig"]
    overall, per_class = config["metricsSpecs"][0]["metrics"][0]["perSliceThresholds"]
    assert overall["threshold"]["valueThreshold"]["lowerBound"] == pytest.approx(0.75, abs=1e-5)
    assert per_class["threshold"]["valueThreshold"]["lowerBound"] == pytest.approx(0.4, abs=1e-5)
    assert config["modelSpecs"][0]["signatureName"] == "serving_default"


def test_a_model_worse_than_the_baseline_is_refused_unless_a_drop_is_allowed(
    run: Run, roots: Roots, small_mnist: Path
) -> None:
    """The second run trained the model. There a drop was allowed, so it was pushed as a second version."""
    root = roots.restore(roots.after_three)
    before = versions(root)
    assert roots.outcomes[1].code == PUSHED and len(before) == 2, roots.outcomes[1].text
    outcome = run(root, small_mnist, "training.epochs=2", "gates.class_accuracy=0.0")
    assert outcome.code == MODEL_REFUSED, outcome.text
    assert executed(root) == {"Evaluator", "InfraValidator", "Pusher"}
    assert versions(root) == before
    assert f"The baseline is version {before[0]}, the newest other model in {root}" in outcome.text
    assert f"Baseline           version {before[0]}: " in outcome.text
    assert outcome.text.count("✗") == 1 and "✗ accuracy against the baseline" in outcome.text
    history = RunRoot(root, Config()).history()
    second = history.run(history.ids()[1])
    assert model_of(second) == model_of(last_run(root)) != model_of(history.run(history.ids()[0]))
    assert second.figures["accuracy"] == last_run(root).figures["accuracy"]


def test_nothing_is_pushed_if_the_baseline_cannot_be_looked_up(
    run: Run, root: Path, small_mnist: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TFX itself goes on after a resolver failed; without a baseline its Evaluator would compare with nothing."""

    def fail(*_: object) -> None:
        raise OSError("the folder cannot be read")

    before = versions(root)
    monkeypatch.setattr("components.baseline.find_baseline", fail)
    outcome = run(root, small_mnist)
    assert outcome.code == FAILED, outcome.text
    assert "Baseline failed: RuntimeError: TFX could not run the step" in outcome.text
    assert "Evaluator" not in states(root)
    assert "Traceback" not in outcome.text
    assert versions(root) == before and "Pushed" not in outcome.text


def test_the_chain_can_end_early(run: Run, root: Path, small_mnist: Path) -> None:
    outcome = run(root, small_mnist, "model.units=32", options=("--to", "Transform"))
    assert outcome.code == PUSHED
    assert "Trainer" not in states(root) and "Test accuracy" not in outcome.text


def test_a_pushed_model_that_was_deleted_is_pushed_again(run: Run, small_mnist: Path, root: Path) -> None:
    newest = root / "serving_models" / "mnist" / versions(root)[-1]
    newest.rename(root / "elsewhere")
    outcome = run(root, small_mnist)
    assert outcome.code == PUSHED, outcome.text
    assert f"{newest} is gone or has changed: the cache does not use it." in outcome.text
    assert executed(root) == {"Pusher"}
    (version,) = versions(root)
    assert f"Pushed             version {version} to" in outcome.text
    # A version that lacks a file is not served by TensorFlow Serving: the model becomes another one.
    folder = root / "serving_models" / "mnist" / version
    next((folder / "variables").glob("variables.data*")).unlink()
    outcome = run(root, small_mnist)
    assert outcome.code == PUSHED and f"{folder} is gone or has changed" in outcome.text
    assert executed(root) == {"Pusher"} and versions(root)[:-1] == [version]
    pushed = folder.with_name(versions(root)[-1])
    assert {path.name for path in (pushed / "variables").iterdir()} >= {"variables.data-00000-of-00001"}
    assert f"Pushed             version {pushed.name} to" in outcome.text


def test_a_step_whose_artifact_lacks_a_file_runs_again(run: Run, small_mnist: Path, root: Path) -> None:
    (graph,) = (root / "artifacts" / "Transform" / "transform_graph").iterdir()
    (graph / "transform_fn" / "saved_model.pb").unlink()
    outcome = run(root, small_mnist, options=("--to", "Transform"))
    assert outcome.code == PUSHED, outcome.text
    assert f"{graph} is gone or has changed: the cache does not use it." in outcome.text
    assert executed(root) == {"Transform"}


def test_a_model_that_does_not_answer_as_it_must_is_not_pushed(run: Run, root: Path, small_mnist: Path) -> None:
    before = versions(root)
    outcome = run(root, small_mnist, "infra.max_mebibytes=0.001")
    assert outcome.code == MODEL_REFUSED, outcome.text
    assert executed(root) == {"InfraValidator", "Pusher"}
    assert versions(root) == before
    infra = last_run(root).infra
    assert not infra.blessed and infra.reason.startswith("size of the model: ")
    assert "Gates              passed" in outcome.text
    assert f"Infra check        refused: {infra.reason}" in outcome.text
    assert "# Infra check: not blessed" in Path(infra.report).read_text()


def test_what_was_pushed_answers_over_grpc_and_was_warmed_up(
    root: Path, digits: dict[str, Images], tmp_path: Path
) -> None:
    flags = ["--model_name=mnist", f"--model_base_path={root / 'serving_models' / 'mnist'}"]
    with model_server(flags, tmp_path / "log") as server:
        wait_until_available(server, "mnist")
        with Client(server.address) as client:
            prediction = client.predict(digits["test"].pixels)
    newest = versions(root)[-1]
    assert prediction.versions == (int(newest),)
    signatures = tf.saved_model.load(str(root / "serving_models" / "mnist" / newest)).signatures
    in_process = signatures["predict_images"](images=tf.constant(digits["test"].pixels))
    np.testing.assert_array_equal(prediction.class_ids, in_process["class_ids"])
    np.testing.assert_allclose(prediction.probabilities, in_process["probabilities"], atol=1e-5)
    assert "Warmed up" in (tmp_path / "log").read_text()


def test_any_metadata_connection_will_do_and_is_kept_out_of_the_log(
    run: Run, tmp_path: Path, small_mnist: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_DATABASE", str(tmp_path / "pa55word.db"))
    text = "sqlite { filename_uri: '$SECRET_DATABASE' connection_mode: READWRITE_OPENCREATE }"
    options = ("--to", "CuratedSchema")
    assert run(tmp_path / "root", small_mnist, f'metadata.connection="{text}"', options=options).code == PUSHED
    assert (tmp_path / "pa55word.db").exists() and not (tmp_path / "root" / "metadata.db").exists()
    (log,) = (tmp_path / "root" / "logs").glob("*/run.log")
    assert "CuratedSchema" in log.read_text() and "pa55word" not in log.read_text()


def test_another_data_set_in_the_same_run_root_needs_its_profile_and_no_code(
    run: Run, root: Path, tmp_path: Path
) -> None:
    """scikit-learn's 8 × 8 digits, 1,797 of them, of which only 0 … 7 are kept, in folders with names."""
    from PIL import Image
    from sklearn.datasets import load_digits

    from data.build import main as build

    names = ("eight-less", "one", "two", "three", "four", "five", "six", "seven")
    bunch = load_digits()
    for index, (pixels, label) in enumerate(zip(bunch.images, bunch.target, strict=True)):
        if label < 8:
            folder = tmp_path / "images" / names[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.round(pixels * 255 / 16).astype(np.uint8)).save(folder / f"{index}.png")
    options = ["--folder", str(tmp_path / "images"), "--out", str(tmp_path / "small"), "--seed", "1"]
    assert build([*options, "--eval", "100", "--test", "300"]) == 0

    profile = ("--profile", str(tmp_path / "small" / "profile.toml"))
    outcome = run(root, tmp_path / "small", SMALL, "training.epochs=6", options=profile)
    assert outcome.code == PUSHED, outcome.text
    for words in (
        "accuracy of class seven: ",
        "accuracy of class eight-less: ",
        "Pipeline small",
        "Baseline           none",
    ):
        assert words in outcome.text
    assert "accuracy of class 7" not in outcome.text
    true, predicted = re.search(r"Most confused +(\S+) taken for (\S+),", outcome.text).groups()
    assert {true, predicted} <= {*names} and true != predicted
    again = run(root, tmp_path / "small", SMALL, "training.epochs=7", options=(*profile, "--from", "Pusher"))
    assert again.code == PUSHED, again.text
    assert "The steps before Pusher are taken as they are, without training.epochs = 7." in again.text
    table = re.compile(r"^(Test accuracy|Worst class|Most confused|Baseline) .*$", re.MULTILINE)
    assert [match[0] for match in table.finditer(again.text)] == [match[0] for match in table.finditer(outcome.text)]
    (version,) = (root / "serving_models" / "small").iterdir()
    signatures = tf.saved_model.load(str(version)).signatures
    images = tf.zeros([3, 8, 8], tf.uint8)
    assert signatures["predict_rows"](images=images)["probabilities"].shape == (3, 8, 8)
    classes = signatures["classify_examples"](inputs=tf.constant([serialize(np.zeros((8, 8), np.uint8), 0)]))["classes"]
    assert [name.decode() for name in classes.numpy()[0]] == sorted(names)
