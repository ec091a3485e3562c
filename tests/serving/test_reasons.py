"""Why the stand-in serves no version, and why a label is refused: in words that lead to the remedy."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import model_pb2, prediction_log_pb2

from serving import errors
from serving.model_server.manager import Manager
from serving.model_server.servable import StatusError
from tests.serving.conftest import Writer
from tests.serving.models import write_warmup
from tests.serving.rpc import config_of, model_of, parsed, predict_request

NAME = "half_plus_two"
LATEST = model_pb2.ModelSpec(name=NAME)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / NAME).mkdir()
    return tmp_path / NAME


def itself(base: Path, model: Path) -> None:
    shutil.copytree(model, base, dirs_exist_ok=True)


def named(*names: str) -> Callable[[Path, Path], None]:
    def copy(base: Path, model: Path) -> None:
        for name in names:
            shutil.copytree(model, base / name)

    return copy


@pytest.mark.parametrize(
    ("make", "policy", "reason"),
    [
        (itself, "", "the base path {base} is itself a version, and not the folder of the versions: move its files to"),
        (named("v0.1"), "", "the name of a version is a number such as 1, and {base} has v0.1: rename the folder"),
        (named("a", "b", "c", "d"), "", "{base} has a, b, c and 1 more: rename the folder"),
        (named("inner/3"), "", "there is no version in {base}, but in {base}/inner: give that as the base path"),
        (lambda base, model: (base / "7").mkdir(), "", "there is no saved_model.pb in 7 of {base}"),
        (lambda base, model: base.rmdir(), "", "there is no version in {base}, which does not exist"),
        (lambda base, model: (base.rmdir(), base.touch()), "", "the base path {base} cannot be read: Not a directory"),
        (named("1", "2"), "specific { versions: 5 }", "its policy wants the versions 5, and {base} has 1, 2"),
        (lambda base, model: None, "", "there is no version in {base}"),
    ],
)
def test_a_base_path_without_versions_has_its_reason(
    base: Path,
    half_plus_two: Writer,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    make: Callable[[Path, Path], object],
    policy: str,
    reason: str,
) -> None:
    make(base, half_plus_two(tmp_path / "source", 1))
    manager = Manager()
    text = f"model_version_policy {{ {policy} }}" if policy else ""
    manager.apply(parsed(config_of(model_of(NAME, base, text))), start=True)
    words = reason.format(base=base)
    assert words in caplog.messages[-1]
    for ask in (manager.find, manager.versions):
        with pytest.raises(StatusError) as raised:
            ask(LATEST)
        assert raised.value.code is grpc.StatusCode.NOT_FOUND and words in str(raised.value)


def test_a_version_folder_as_the_base_path_names_the_folder_above(base: Path, half_plus_two: Writer) -> None:
    manager = Manager()
    folder = half_plus_two(base, 1)
    with pytest.raises(StatusError, match=f"is itself a version, and not the folder of the versions: give {base}$"):
        manager.apply(parsed(config_of(model_of(NAME, folder))))


def refused(details: str, code: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT) -> str:
    error = grpc.RpcError()
    error.code, error.details = lambda: code, lambda: details  # type: ignore[attr-defined]
    return str(errors.from_rpc(error, "localhost:8500"))


def test_a_label_has_its_own_remedy(base: Path, half_plus_two: Writer) -> None:
    half_plus_two(base, 3)
    manager = Manager()
    manager.apply(parsed(config_of(model_of(NAME, base, 'version_labels { key: "stable" value: 3 }'))))
    assert manager.find(model_pb2.ModelSpec(name=NAME, version_label="stable"))[0] == 3
    with pytest.raises(StatusError, match="has no label canary; the labels of its versions: stable of version 3") as no:
        manager.find(model_pb2.ModelSpec(name=NAME, version_label="canary"))
    remedy = "or set the label: version_labels in the server's ModelServerConfig"
    assert remedy in refused(str(no.value))
    assert remedy in refused("Unrecognized servable version label: canary")  # TensorFlow Serving's words
    with pytest.raises(StatusError, match="The label next names version 4") as early:
        manager.apply(parsed(config_of(model_of(NAME, base, 'version_labels { key: "next" value: 4 }'))))
    assert remedy in refused(str(early.value), early.value.code)
    # An input that is called label is another matter.
    assert "metadata() lists" in refused("serving_default: the input label is int64, not float")


def records(*entries: prediction_log_pb2.PredictionLog) -> Callable[[Path], None]:
    def write(file: Path) -> None:
        with tf.io.TFRecordWriter(str(file)) as writer:
            for entry in entries:
                writer.write(entry.SerializeToString())

    return write


REGRESS = prediction_log_pb2.PredictionLog(regress_log=prediction_log_pb2.RegressLog())


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda file: file.write_bytes(b"garbage"), "holds no warm-up request"),
        (lambda file: file.write_bytes(bytes(range(256)) * 10), "is no TFRecord file of PredictionLogs: corrupted"),
        (lambda file: file.write_bytes(file.read_bytes()[:-5]), "is no TFRecord file of PredictionLogs: truncated"),
        (lambda file: file.write_bytes(file.read_bytes() + b"rest"), "has bytes after its last warm-up request"),
        (lambda file: (file.unlink(), file.mkdir()), "is no TFRecord file of PredictionLogs"),
        (records(REGRESS), "record 0: the log type is regress_log, not one of predict_log, classify_log"),
        (records(prediction_log_pb2.PredictionLog()), "record 0: the log type is none"),
    ],
)
def test_warm_up_requests_that_are_none_keep_the_version_from_serving(
    base: Path, half_plus_two: Writer, spoil: Callable[[Path], object], reason: str
) -> None:
    folder = half_plus_two(base, 1)
    write_warmup(folder, predict_request({"x": [1.0]}))
    spoil(folder / "assets.extra" / "tf_serving_warmup_requests")
    with pytest.raises(StatusError) as raised:
        Manager().apply(parsed(config_of(model_of(NAME, base))))
    assert f"Could not load {folder}: {folder}/assets.extra/tf_serving_warmup_requests" in str(raised.value)
    assert reason in str(raised.value)
