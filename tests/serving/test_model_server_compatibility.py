"""Models and requests that TensorFlow Serving answers, and what a few bytes may cost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import classification_pb2

from serving.client import Client
from serving.errors import ConfigError
from serving.launch import ModelServer, model_server
from serving.protos import ModelServerConfig
from serving.tensors import strings
from serving.textformat import parse
from tests.serving.models import CLASSIFY, save_classifiers, save_fixed_shapes, save_tf1
from tests.serving.rpc import PREDICTION, Rpc, config_of, model_of, model_spec, predict_request, refusal, rss

INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture(scope="module")
def rpc(server: ModelServer) -> Iterator[Rpc]:
    with Rpc(server.address) as rpc:
        yield rpc


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    """The stand-in with the models `fixed`, `classifiers` and `tf1`."""
    base = tmp_path_factory.mktemp("others")
    save_fixed_shapes(base / "fixed" / "1")
    save_classifiers(base / "classifiers" / "1")
    save_tf1(base / "tf1" / "1")
    config = base / "models.config"
    config.write_text(config_of(*(model_of(name, base / name) for name in ("fixed", "classifiers", "tf1"))))
    with model_server([f"--model_config_file={config}"], base / "log", real=False) as server:
        yield server


@pytest.fixture(scope="module")
def others_rpc(others: ModelServer) -> Iterator[Rpc]:
    with Rpc(others.address) as rpc:
        yield rpc


def example(x: float) -> tf.train.Example:
    return tf.train.Example(features=tf.train.Features(feature={"x": tf.train.Feature(float_list={"value": [x]})}))


def test_classify(rpc: Rpc) -> None:
    response = rpc.classify([example(4), example(-2)], signature_name=CLASSIFY)
    assert [[entry.score for entry in one.classes] for one in response.result.classifications] == [[4.0], [1.0]]
    assert response.model_spec == model_spec(version=7, signature_name=CLASSIFY)
    assert refusal(lambda: rpc.classify([], signature_name=CLASSIFY)) == (INVALID, "Input is empty.")
    other = refusal(lambda: rpc.classify([example(1)]))
    assert other == (INVALID, "No classification inputs found in SignatureDef: serving_default")
    unknown = refusal(lambda: rpc.classify([example(1)], signature_name="no"))
    assert unknown == (INVALID, "No signature was found with the name: no")
    code, words = refusal(lambda: rpc.classify([tf.train.Example()], signature_name=CLASSIFY))
    assert code == INVALID and "x" in words and "is required but could not be found" in words


def test_a_fixed_shape_or_a_scalar_is_answered_and_another_shape_refused(others: ModelServer) -> None:
    """No check of shapes is the server's own: the shape in the metadata of a TF1 model may be a hint only."""
    with Client(others.address, model="fixed") as client:
        for signature, x in (("one", [1.0]), ("three", [1.0, 2.0, 3.0]), ("scalar", 1.0), ("any", [[1.0, 2.0]])):
            found = client.call(signature, {"x": np.float32(x)})["y"]
            np.testing.assert_array_equal(found, np.float32(x) / 2 + 2)
        shapes = {name: entry.inputs["x"].shape for name, entry in client.metadata().signatures.items()}
        assert shapes == {"any": None, "one": (1,), "scalar": (), "three": (3,)}


def test_classify_takes_every_method_name_as_tensorflow_serving_does(others_rpc: Rpc) -> None:
    response = others_rpc.classify([example(4), example(-2)], name="classifiers", signature_name="scores")
    assert [[entry.score for entry in one.classes] for one in response.result.classifications] == [[4.0], [1.0]]
    metadata = others_rpc.metadata("signature_def", name="classifiers").metadata["signature_def"].value
    assert b"tensorflow/serving/predict" in metadata and b"tensorflow/serving/classify" not in metadata


@pytest.mark.parametrize(
    ("signature", "details"),
    [
        ("two_inputs", "Expected one input Tensor."),
        ("three_outputs", "Expected one or two output Tensors, found 3"),
        ("other_input", "No classification inputs found in SignatureDef: other_input"),
        ("other_output", 'contain at least one of "classes" or "scores". Signature was: other_output'),
        ("wrong_classes", "Expected classes Tensor of DT_STRING. Was: float32"),
        ("wrong_scores", "Expected scores Tensor of DT_FLOAT. Was: int64"),
        ("flat", "Expected scores of shape: [batch_size num_classes] but got [1]"),
        ("widths", "Tensors class and score should match in num_classes"),
    ],
)
def test_what_cannot_classify_is_refused_in_tensorflow_servings_words(
    others_rpc: Rpc, signature: str, details: str
) -> None:
    code, found = refusal(lambda: others_rpc.classify([example(1)], name="classifiers", signature_name=signature))
    assert code == INVALID and details in found


def test_a_tf1_saved_model_is_served(others: ModelServer, others_rpc: Rpc) -> None:
    with Client(others.address, model="tf1") as client:
        assert client.call("serving_default", {"x": np.float32([[1], [2]])})["y"].tolist() == [[2.5], [3.0]]
        assert client.call("look_up", {"word": strings([b"b", b"?"])})["id"].tolist() == [1, -1]
    response = others_rpc.classify([example(4)], name="tf1", signature_name="classify")
    assert response.result.classifications[0].classes[0].score == 4.0
    found = refusal(lambda: others_rpc.classify([tf.train.Example()], name="tf1", signature_name="classify"))
    why = "classify: Name: <unknown>, Feature: x (data type: float) is required but could not be found."
    assert found == (INVALID, why)


def test_a_context_is_added_to_each_example(rpc: Rpc) -> None:
    request = classification_pb2.ClassificationRequest(model_spec=model_spec(signature_name=CLASSIFY))
    together = request.input.example_list_with_context
    together.context.CopyFrom(example(4))
    together.examples.add()
    together.examples.add().CopyFrom(example(-2))
    response = rpc.prediction.Classify(request)
    assert [[entry.score for entry in one.classes] for one in response.result.classifications] == [[4.0], [1.0]]
    del together.examples[:]
    assert refusal(lambda: rpc.prediction.Classify(request)) == (INVALID, "Input is empty.")


def test_a_config_that_does_not_parse_is_named_in_tensorflow_servings_words(tmp_path: Path) -> None:
    (tmp_path / "models.config").write_text("model_config_list { config { nome: 'a' } }")
    message = r"models\.config: Error parsing text-format tensorflow\.serving\.ModelServerConfig: 1:30"
    with pytest.raises(ConfigError, match=message):
        parse(tmp_path / "models.config", ModelServerConfig())


def test_a_few_bytes_do_not_become_many_images(server: ModelServer, rpc: Rpc) -> None:
    request = predict_request({}, name="mnist", signature_name="predict_images")
    tensor = request.inputs["images"]
    tensor.dtype = tf.uint8.as_datatype_enum
    for size in (20_000, 28, 28):
        tensor.tensor_shape.dim.add(size=size)
    tensor.int_val.append(1)
    assert request.ByteSize() < 100
    before = rss(server)
    code, details = refusal(lambda: rpc.prediction.Predict(request, timeout=60))
    assert code == INVALID and "needs 15680000 elements, int_val has only 1" in details
    assert rss(server) < before + 20
    tensor.tensor_shape.dim[0].size = 3  # a few are still answered
    assert rpc.prediction.Predict(request, timeout=60).outputs["class_ids"].tensor_shape.dim[0].size == 3


def test_garbage_to_the_health_service_is_refused_and_not_logged(server: ModelServer, rpc: Rpc) -> None:
    assert server.log is not None
    for content in (b"\xff\xff", b"\x0a\x05ab", b"\x08"):
        found = refusal(lambda content=content: rpc.raw(content, "/grpc.health.v1.Health/Check"))
        assert found == (INVALID, "The request is not a HealthCheckRequest")
        watch = rpc.channel.unary_stream("/grpc.health.v1.Health/Watch")(content, timeout=20)
        assert refusal(lambda watch=watch: list(watch)) == (INVALID, "The request is not a HealthCheckRequest")
    unknown = refusal(lambda: rpc.health("nobody"))
    assert unknown == (grpc.StatusCode.NOT_FOUND, "Unknown service nobody")
    assert rpc.health() == rpc.health(PREDICTION) == "SERVING"
    assert "Traceback" not in server.log.read_text()
