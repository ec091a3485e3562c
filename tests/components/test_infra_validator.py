"""The infra check: a good model is blessed and warmed up; every kind of bad one is refused, with the reason."""

import os
import shutil
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_serving.apis import prediction_log_pb2
from tfx.types import standard_artifacts

from components.infra_validator.component import InfraValidator
from components.infra_validator.settings import Infra
from components.trainer.export import export, signature_names
from components.trainer.model import build_model
from components.trainer.reference import write_reference_predictions
from components.trainer.settings import Model
from data.example import ExampleSpec
from serving.launch import model_server
from tests.conftest import ROOT

MODEL, SPEC = Model(units=16), ExampleSpec()
BROAD = Infra(max_latency_ratio=1000)  # other tests may share the machine

pytestmark = pytest.mark.slow  # most start a model server

Check = Callable[..., standard_artifacts.InfraBlessing]


@pytest.fixture(scope="module")
def trained(
    transform: tft.TFTransformOutput, example_files: dict[str, list[str]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """What a Trainer leaves: `model` in TFX's layout, and `run` with its reference predictions."""
    folder = tmp_path_factory.mktemp("trained")
    network = build_model(MODEL, SPEC)
    export(network.get_weights(), transform, MODEL, SPEC, str(folder / "model" / "Format-Serving"))
    (folder / "run").mkdir()
    write_reference_predictions(network, transform, SPEC, example_files["eval"], str(folder / "run"))
    return folder


@pytest.fixture
def check(trained: Path, tmp_path: Path) -> Check:
    """Runs the step's own function: check(model=…, infra=…, blessed=…, signatures=…)."""

    def check(
        model: Path | None = None,
        infra: Infra = BROAD,
        blessed: int = 1,
        signatures: str = ",".join(signature_names(MODEL)),
    ) -> standard_artifacts.InfraBlessing:
        artifacts = (
            standard_artifacts.Model(),
            standard_artifacts.ModelRun(),
            standard_artifacts.ModelBlessing(),
            standard_artifacts.InfraBlessing(),
        )
        uris = (model or trained / "model", trained / "run", tmp_path / "blessing", tmp_path / "infra")
        for artifact, uri in zip(artifacts, uris, strict=True):
            artifact.uri = str(uri)
        shutil.rmtree(tmp_path / "infra", ignore_errors=True)
        (tmp_path / "infra").mkdir()
        artifacts[2].set_int_custom_property("blessed", blessed)
        InfraValidator.test_call(*artifacts, "mnist", signatures, settings=infra.model_dump_json(), server_identity="")
        return artifacts[3]

    return check


def refused(blessing: standard_artifacts.InfraBlessing) -> str:
    """The reason, once it is sure that nothing could be pushed."""
    assert blessing.get_int_custom_property("blessed") == 0
    assert not blessing.get_int_custom_property("has_model")
    left = sorted(path.name for path in Path(blessing.uri).iterdir() if path.name != "served")
    assert left == ["INFRA_NOT_BLESSED", "report.md"]
    reason = blessing.get_string_custom_property("reason")
    assert "✗" in (Path(blessing.uri) / "report.md").read_text()
    return reason


def test_a_good_model_is_blessed_and_its_stamped_copy_is_warmed_up(check: Check, trained: Path) -> None:
    blessing = check()
    assert blessing.get_int_custom_property("blessed") == 1, blessing.get_string_custom_property("reason")
    assert blessing.get_int_custom_property("has_model") == 1
    folder = Path(blessing.uri)
    assert (folder / "INFRA_BLESSED").read_bytes() == b""
    original, stamped = trained / "model" / "Format-Serving", folder / "stamped_model"
    for file in original.rglob("*"):
        if file.is_file():
            assert (stamped / file.relative_to(original)).read_bytes() == file.read_bytes()
    logs = [
        prediction_log_pb2.PredictionLog.FromString(record)
        for record in tf.data.TFRecordDataset(
            str(stamped / "assets.extra" / "tf_serving_warmup_requests")
        ).as_numpy_iterator()
    ]
    asked = {
        (log.predict_log if log.HasField("predict_log") else log.classify_log).request.model_spec.signature_name
        for log in logs
    }
    assert asked == set(signature_names(MODEL))
    report = (folder / "report.md").read_text()
    assert "# Infra check: blessed" in report and "✗" not in report
    for signature in asked:
        assert f"{signature}, the Trainer's predictions" in report
    assert "latency of one image" in report and "size of the model" in report


def test_a_model_the_evaluator_refused_is_not_served(check: Check) -> None:
    assert "the Evaluator's verdict: refused" in refused(check(blessed=0))


def test_a_model_that_answers_nan(check: Check, transform: tft.TFTransformOutput, tmp_path: Path) -> None:
    weights = build_model(MODEL, SPEC).get_weights()
    weights[-1] = np.full_like(weights[-1], np.nan)
    export(weights, transform, MODEL, SPEC, str(tmp_path / "nan" / "Format-Serving"))
    reason = refused(check(tmp_path / "nan"))
    assert "predict_images, values: 640 NaN or infinite; expected: all finite" in reason
    assert "predict_rows, values: 17920 NaN or infinite" in reason


def test_a_model_without_one_of_its_signatures(check: Check, transform: tft.TFTransformOutput, tmp_path: Path) -> None:
    both_ways = Model(units=8, bidirectional=True)
    export(build_model(both_ways, SPEC).get_weights(), transform, both_ways, SPEC, str(tmp_path / "b/Format-Serving"))
    reason = refused(check(tmp_path / "b"))
    assert "signatures: predict_rows missing, there are classify_examples, predict_images, serving_default" in reason


def test_a_model_that_answers_otherwise_than_the_trainers_own_network(
    check: Check, transform: tft.TFTransformOutput, tmp_path: Path
) -> None:
    other = [weight + 0.5 for weight in build_model(MODEL, SPEC).get_weights()]
    export(other, transform, MODEL, SPEC, str(tmp_path / "other" / "Format-Serving"))
    reason = refused(check(tmp_path / "other"))
    assert "predict_images, the Trainer's predictions" in reason and "expected: at most 1e-03" in reason


def test_a_model_with_other_names_of_its_classes(
    check: Check, transform: tft.TFTransformOutput, tmp_path: Path
) -> None:
    named = ExampleSpec(class_names=tuple("abcdefghij"))
    export(build_model(MODEL, SPEC).get_weights(), transform, MODEL, named, str(tmp_path / "n/Format-Serving"))
    reason = refused(check(tmp_path / "n"))
    for signature in ("predict_images", "serving_default"):
        assert f"{signature}, classes: a, b, c, d, e, f, g, h, i, j; expected: 0, 1, 2, 3, 4" in reason


def test_a_model_that_crashes_the_server(check: Check, tmp_path: Path) -> None:
    class Crashing(tf.Module):
        """It answers the warm-up's batches, and aborts at any that is larger."""

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")], autograph=False)
        def serve(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
            def crash() -> tf.Tensor:
                with tf.control_dependencies([tf.raw_ops.Abort(error_msg="a model that aborts")]):
                    return tf.constant(0.0)

            count = tf.shape(examples)[0]
            zero = tf.cond(count > 32, crash, lambda: tf.constant(0.0))
            return {"probabilities": tf.zeros([count, 10]) + zero, "class_ids": tf.zeros([count], tf.int64)}

    module = Crashing()
    folder = tmp_path / "crash" / "Format-Serving"
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
    reason = refused(check(tmp_path / "crash", signatures="serving_default"))
    assert "serving_default: " in reason and "the model server: it ended by signal SIGABRT" in reason


def test_a_model_that_does_not_load(check: Check, trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "broken" / "Format-Serving"
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"no SavedModel")
    assert "saved_model.pb: it is damaged" in refused(check(tmp_path / "broken"))
    (folder / "saved_model.pb").write_bytes((trained / "model" / "Format-Serving" / "saved_model.pb").read_bytes())
    assert "mnist could not be served: Could not load" in refused(check(tmp_path / "broken"))


@pytest.mark.parametrize(
    ("infra", "reason"),
    [
        (Infra(max_latency_ratio=0.01), "latency of one image"),
        (Infra(max_latency_ratio=1000, max_mebibytes=0.001), "size of the model"),
    ],
)
def test_a_model_over_budget(check: Check, infra: Infra, reason: str) -> None:
    said = refused(check(infra=infra))
    assert said.startswith(reason) and "expected: at most 0.0" in said


def test_a_tensorflow_model_server_on_path_is_taken(
    check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The binary here is a script that notes its flags and runs the stand-in."""
    (tmp_path / "bin").mkdir()
    binary = tmp_path / "bin" / "tensorflow_model_server"
    binary.write_text(
        f'#!/bin/sh\necho "$@" > {tmp_path}/flags\nshift\n'
        f'cd {ROOT}\nexec {sys.executable} -m serving.model_server "$@"\n'
    )
    binary.chmod(binary.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{binary.parent}{os.pathsep}{os.environ['PATH']}")
    blessing = check()
    assert blessing.get_int_custom_property("blessed") == 1
    assert f"Model server: {binary}" in (Path(blessing.uri) / "report.md").read_text()
    assert (tmp_path / "flags").read_text().startswith("--max_num_load_retries=0 --port=")


def test_a_model_server_at_a_configured_address_is_taken(
    check: Check, transform: tft.TFTransformOutput, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    flags = ["--model_name=other", f"--model_base_path={tmp_path / 'empty'}"]
    with model_server(flags, tmp_path / "log", real=False) as server:
        infra = Infra(server=server.address, max_latency_ratio=1000)
        blessing = check(infra=infra)
        assert blessing.get_int_custom_property("blessed") == 1, blessing.get_string_custom_property("reason")
        # The same server is asked about another model the next time, and must not answer with the former.
        other = [weight + 0.5 for weight in build_model(MODEL, SPEC).get_weights()]
        export(other, transform, MODEL, SPEC, str(tmp_path / "other" / "Format-Serving"))
        assert "the Trainer's predictions" in refused(check(tmp_path / "other", infra=infra))
    assert f"Model server: {server.address}" in (Path(blessing.uri) / "report.md").read_text()


def test_an_address_where_nobody_answers_is_a_refusal_with_the_reason(check: Check) -> None:
    assert "localhost:9: UNAVAILABLE" in refused(check(infra=Infra(server="localhost:9")))
