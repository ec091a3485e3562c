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

from components.infra_validator.component import InfraValidator, _running_server
from components.infra_validator.settings import Infra
from components.trainer.export import export
from components.trainer.reference import ReferencePredictions, read_reference_predictions
from components.trainer.settings import Model
from components.trainer.signatures import signature_names
from data.errors import UserError
from data.example import ExampleSpec
from tests.components.conftest import Exported
from tests.conftest import ROOT, infra_server

BROAD = Infra(max_latency_ratio=1000)  # other tests may share the machine

pytestmark = pytest.mark.slow  # most start a model server

Check = Callable[..., standard_artifacts.InfraBlessing]


@pytest.fixture(scope="module")
def server() -> Infra:
    """A model server at a configured address, for checks that need none of their own."""
    return Infra(server=infra_server(), max_latency_ratio=1000)


@pytest.fixture
def check(exported: Exported, tmp_path: Path) -> Check:
    """Runs the step's own function: check(model=…, run=…, infra=…, blessed=…, signatures=…)."""

    def check(
        model: Path | None = None,
        run: Path | None = None,
        infra: Infra = BROAD,
        blessed: int = 1,
        signatures: str = ",".join(signature_names(Model())),
    ) -> standard_artifacts.InfraBlessing:
        artifacts = (
            standard_artifacts.Model(),
            standard_artifacts.ModelRun(),
            standard_artifacts.ModelBlessing(),
            standard_artifacts.InfraBlessing(),
        )
        folder = exported.folder
        uris = (model or folder / "model", run or folder / "run", tmp_path / "blessing", tmp_path / "infra")
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


def test_a_good_model_is_blessed_and_its_stamped_copy_is_warmed_up(check: Check, exported: Exported) -> None:
    blessing = check()
    assert blessing.get_int_custom_property("blessed") == 1, blessing.get_string_custom_property("reason")
    assert blessing.get_int_custom_property("has_model") == 1
    folder = Path(blessing.uri)
    assert (folder / "INFRA_BLESSED").read_bytes() == b""
    original, stamped = exported.saved_model, folder / "stamped_model"
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
    assert asked == set(signature_names(Model()))
    report = (folder / "report.md").read_text()
    assert "# Infra check: blessed" in report and "✗" not in report
    assert "describe, classes" in report
    for signature in asked - {"describe"}:
        assert f"{signature}, the Trainer's predictions" in report
    assert "latency of one image" in report and "size of the model" in report


def test_a_model_the_evaluator_refused_is_not_served(check: Check) -> None:
    assert "the Evaluator's verdict: refused" in refused(check(blessed=0))


def test_a_model_that_answers_nan(check: Check, server: Infra, tmp_path: Path) -> None:
    class Unsure(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 28, 28], tf.uint8, "images")], autograph=False)
        def serve(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
            count = tf.shape(images)[0]
            return {
                "probabilities": tf.fill([count, 10], np.float32(np.nan)),
                "class_ids": tf.zeros([count], tf.int64),
                "classes": tf.fill([count, 10], "0"),
            }

    module = Unsure()
    folder = tmp_path / "nan" / "Format-Serving"
    tf.saved_model.save(module, str(folder), signatures={"predict_images": module.serve})
    reason = refused(check(tmp_path / "nan", infra=server, signatures="predict_images"))
    assert "predict_images, values: 640 NaN or infinite; expected: all finite" in reason


def test_a_model_without_one_of_its_signatures(check: Check, server: Infra) -> None:
    reason = refused(check(infra=server, signatures="predict_images,predict_columns"))
    found = "classify_examples, describe, predict_images, predict_rows, serving_default"
    assert f"signatures: predict_columns missing, there are {found}" in reason


def test_a_model_that_answers_otherwise_than_the_trainers_own_network(
    check: Check, exported: Exported, server: Infra, tmp_path: Path
) -> None:
    """Other probabilities, and other names of the classes."""
    inputs, probabilities, _ = read_reference_predictions(str(exported.folder / "run"))
    ReferencePredictions(inputs, probabilities + np.float32(0.01), np.array([*"abcdefghij"])).write(str(tmp_path))
    reason = refused(check(run=tmp_path, infra=server))
    assert "predict_images, the Trainer's predictions: 1.0e-02 apart; expected: at most 1e-03" in reason
    for signature in ("predict_images", "serving_default"):
        assert f"{signature}, classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9; expected: a, b, c, d" in reason


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


def test_a_model_that_does_not_load(check: Check, exported: Exported, tmp_path: Path) -> None:
    folder = tmp_path / "broken" / "Format-Serving"
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"no SavedModel")
    assert "saved_model.pb: it is damaged" in refused(check(tmp_path / "broken"))
    (folder / "saved_model.pb").write_bytes((exported.saved_model / "saved_model.pb").read_bytes())
    assert "mnist could not be served: Could not load" in refused(check(tmp_path / "broken"))


def test_a_model_over_budget(check: Check, server: Infra) -> None:
    slow, large = {"max_latency_ratio": 0.01}, {"max_mebibytes": 0.001}
    for budget, reason in ((slow, "latency of one image"), (large, "size of the model")):
        said = refused(check(infra=server.model_copy(update=budget)))
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
    check: Check, exported: Exported, server: Infra, transform: tft.TFTransformOutput, tmp_path: Path
) -> None:
    blessing = check(infra=server)
    assert blessing.get_int_custom_property("blessed") == 1, blessing.get_string_custom_property("reason")
    assert f"Model server: {server.server}" in (Path(blessing.uri) / "report.md").read_text()
    # The same server is asked about another model the next time, and must not answer with the former.
    other = [weight + 0.5 for weight in exported.network.get_weights()]
    export(other, transform, exported.settings, ExampleSpec(), {}, str(tmp_path / "other" / "Format-Serving"))
    assert "the Trainer's predictions" in refused(check(tmp_path / "other", infra=server))


def test_what_the_surroundings_do_is_an_error_and_no_verdict(
    check: Check, server: Infra, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody answers; the server cannot start; it does not see the folder. The same check then passes."""
    with pytest.raises(UserError, match=r"nothing is known of the model: localhost:9: UNAVAILABLE.* tries again"):
        check(infra=Infra(server="localhost:9"))
    assert not list((tmp_path / "infra").glob("INFRA_*"))
    binary = tmp_path / "tensorflow_model_server"
    binary.write_text("#!/bin/sh\necho the port is taken\nexit 1\n")
    binary.chmod(binary.stat().st_mode | stat.S_IEXEC)
    with monkeypatch.context() as patched:
        patched.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        with pytest.raises(UserError, match=r"did not start: it ended with exit code 1; .*the port is taken"):
            check()
    unseen = pytest.raises(UserError, match=f"{server.server} cannot serve /of/another/machine, which it must see: ")
    with unseen, _running_server("/of/another/machine", "unseen", server):
        pass
    assert check(infra=server).get_int_custom_property("blessed") == 1
