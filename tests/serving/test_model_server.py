"""The answers and errors of the stand-in. No test changes the server."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import classification_pb2, get_model_metadata_pb2, predict_pb2, regression_pb2

from serving.launch import ModelServer
from tests.serving.models import CLASSIFY, LABELS, serialize
from tests.serving.rpc import PREDICTION, Rpc, fill, model_spec, predict_request, refusal, rss

INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND


@pytest.fixture(scope="module")
def rpc(server: ModelServer) -> Iterator[Rpc]:
    with Rpc(server.address) as rpc:
        yield rpc


def test_predict_says_who_answered_and_takes_values_in_every_form(rpc: Rpc) -> None:
    response = rpc.predict({"x": [1.0, 2.0, -4.0]})
    assert tf.make_ndarray(response.outputs["y"]).tolist() == [2.5, 3.0, 0.0]
    assert response.model_spec == model_spec(version=7)
    request = predict_request({})
    fill(request.inputs["x"], np.float32([2, 4, 6]))  # in the field of its type
    assert tf.make_ndarray(rpc.prediction.Predict(request).outputs["y"]).tolist() == [3, 4, 5]


def test_every_type_and_a_scalar_string_and_no_rows_at_all(rpc: Rpc) -> None:
    outputs = rpc.predict({"x": [[1.0, 2.0], [3.0, 0.0]]}, name="odd", signature_name="types").outputs
    assert set(outputs) == {"float64", "int32", "uint8", "int64", "bool", "string", "float16"}
    for name, proto in outputs.items():
        array = tf.make_ndarray(proto)
        assert proto.dtype == tf.as_dtype(name).as_datatype_enum
        kind = "?" if name == "bool" else "f4"
        np.testing.assert_array_equal(array.astype(kind), np.array([[1, 2], [3, 0]], kind))
    outputs = rpc.predict({"words": np.array([b"ab", b"\xff"], object)}, name="odd", signature_name="join").outputs
    assert list(outputs["joined"].string_val) == [b"ab\xff"]
    none = rpc.predict({"words": np.array([], "S")}, name="odd", signature_name="join").outputs
    assert list(none["joined"].string_val) == [b""] and none["lengths"].tensor_shape.dim[0].size == 0
    assert rpc.predict({"x": np.zeros((0, 3), "f4")}, name="odd").outputs["y"].tensor_shape.dim[1].size == 3


def test_the_digit_model_s_signatures_agree(rpc: Rpc, images: np.ndarray) -> None:
    pixels = images[:5]
    examples = [serialize(image) for image in pixels]
    by_image = rpc.predict({"images": pixels}, name="mnist", signature_name="predict_images", version_label="stable")
    default = rpc.predict({"examples": np.array(examples, object)}, name="mnist", version=1)
    expected = tf.make_ndarray(by_image.outputs["probabilities"])
    np.testing.assert_allclose(expected, tf.make_ndarray(default.outputs["probabilities"]), atol=1e-6)
    assert tf.make_ndarray(by_image.outputs["class_ids"]).tolist() == expected.argmax(axis=1).tolist()
    rows = rpc.predict({"images": pixels}, name="mnist", signature_name="predict_rows", version=1).outputs
    np.testing.assert_allclose(tf.make_ndarray(rows["probabilities"])[:, -1], expected, atol=1e-6)
    parsed = [tf.train.Example.FromString(item) for item in examples]
    classified = rpc.classify(parsed, name="mnist", signature_name="classify_examples", version=1)
    for scores, one in zip(expected, classified.result.classifications, strict=True):
        assert [entry.label for entry in one.classes] == [*LABELS]
        np.testing.assert_allclose([entry.score for entry in one.classes], scores, atol=1e-6)


def test_versions_labels_and_the_newest(rpc: Rpc, images: np.ndarray) -> None:
    inputs, name = {"images": images[:20]}, {"name": "mnist", "signature_name": "predict_images"}
    choices = ({"version": 1}, {"version_label": "stable"}, {"version": 2}, {"version_label": "canary"}, {})
    answers = [rpc.predict(inputs, **name, **which) for which in choices]
    assert [answer.model_spec.version.value for answer in answers] == [1, 1, 2, 2, 2]
    first, _, second, *_ = [tf.make_ndarray(answer.outputs["probabilities"]) for answer in answers]
    assert np.abs(first - second).max() > 1e-3
    assert rpc.status(name="mnist") == {1: ("AVAILABLE", ""), 2: ("AVAILABLE", "")}
    assert list(rpc.status(name="mnist", version=1)) == [1]
    assert list(rpc.status(name="mnist", version_label="stable")) == [1, 2]  # as in TensorFlow Serving
    assert set(rpc.predict(inputs, ["class_ids"], **name).outputs) == {"class_ids"}
    for name in ("", "PredictionService", "ModelService"):
        assert rpc.health(name) == "SERVING"
    assert refusal(lambda: rpc.health("tensorflow.serving.PredictionService"))[0] == NOT_FOUND


def test_metadata(rpc: Rpc) -> None:
    response = rpc.metadata()
    assert response.model_spec == model_spec(version=7)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    default = signatures.signature_def["serving_default"]
    assert default.method_name == "tensorflow/serving/predict"
    assert default.inputs["x"].dtype == tf.float32.as_datatype_enum and set(default.outputs) == {"y"}
    assert signatures.signature_def[CLASSIFY].method_name == "tensorflow/serving/classify"


def test_who_is_not_there(rpc: Rpc) -> None:
    for spec, code, words in (
        ({"name": "no"}, NOT_FOUND, "The model no is not available"),
        ({"name": ""}, NOT_FOUND, "The model  is not available"),
        ({"version": 8}, NOT_FOUND, "Version 8 of the model half_plus_two is not available"),
        ({"version": 0}, NOT_FOUND, "Version 0 of the model half_plus_two is not available"),
        ({"version_label": "x"}, INVALID, "The model half_plus_two has no label x; the labels of its versions: none"),
        (
            {"name": "mnist", "version_label": ""},
            INVALID,
            "The model mnist has no label ; the labels of its versions: stable of version 1, canary of version 2",
        ),
        (
            {"signature_name": "no"},
            INVALID,
            f"The signature no is not one of the model's: {CLASSIFY}, serving_default",
        ),
    ):
        assert refusal(lambda spec=spec: rpc.predict({"x": [1.0]}, **spec)) == (code, words)
    assert refusal(lambda: rpc.metadata(name="no"))[0] == NOT_FOUND
    assert refusal(lambda: rpc.status(name="no")) == (NOT_FOUND, "The model no is not known")
    other = refusal(lambda: rpc.status(name="mnist", version=3))
    assert other == (NOT_FOUND, "Version 3 of the model mnist is not known")
    regress = regression_pb2.RegressionRequest(model_spec=model_spec())
    assert refusal(lambda: rpc.prediction.Regress(regress))[0] == grpc.StatusCode.UNIMPLEMENTED


PIXELS = "Shape of tensor images {} is not compatible with expected shape [?,28,28]."


@pytest.mark.parametrize(
    ("model", "signature", "inputs", "details"),
    [
        ("half_plus_two", "", {}, "the inputs are x, not none"),
        ("half_plus_two", "", {"x": [1.0], "z": [1.0]}, "the inputs are x, not x, z"),
        ("mnist", "predict_images", {"images": np.zeros((2, 28, 28), "f4")}, "the input images is uint8, not float32"),
        ("mnist", "predict_images", {"images": np.array([b"a"])}, "the input images is uint8, not string"),
        ("mnist", "predict_images", {"images": np.zeros((2, 28, 28, 1), "u1")}, PIXELS.format("[2,28,28,1]")),
        ("mnist", "predict_images", {"images": np.uint8(1)}, PIXELS.format("[]")),
        ("mnist", "predict_rows", {"images": np.zeros((2, 14, 56), "u1")}, PIXELS.format("[2,14,56]")),
        ("mnist", "", {"examples": np.array([b"\xff\xffjunk"])}, "Could not parse example input, value: '��junk'"),
        (
            "mnist",
            "",
            {"examples": np.array([[b""]])},
            "Expected serialized to be a scalar or vector, got shape: [1,1]",
        ),
        ("odd", "add", {"a": [1.0], "b": np.array([1], "i4")}, "the input b is float32, not int32"),
        ("odd", "add", {"a": [1.0, 2.0], "b": [1.0, 2.0, 3.0]}, "Incompatible shapes: [2] vs. [3]"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_inputs_that_do_not_fit_are_one_sentence(
    rpc: Rpc, model: str, signature: str, inputs: dict[str, object], details: str
) -> None:
    found = refusal(lambda: rpc.predict(inputs, name=model, signature_name=signature))
    assert found == (INVALID, f"{signature or 'serving_default'}: {details}")


def test_outputs_and_tensors_that_do_not_fit(rpc: Rpc, images: np.ndarray) -> None:
    spec = {"name": "mnist", "signature_name": "predict_images"}
    words = "predict_images: the outputs are class_ids, classes, probabilities, and not class_id"
    assert refusal(lambda: rpc.predict({"images": images[:1]}, ["class_id"], **spec)) == (INVALID, words)
    request = predict_request({"x": [1.0, 2.0]})
    request.inputs["x"].tensor_shape.dim[0].size = 1
    words = "serving_default: the input x is not a valid tensor: shape [1] of float32 needs 4 bytes"
    code, found = refusal(lambda: rpc.prediction.Predict(request))
    assert code == INVALID and found.startswith(words)
    long = refusal(lambda: rpc.predict({"x": [1.0]}, name="🔥" * 100_000))  # longer than a header may be
    assert long[0] == NOT_FOUND and long[1].startswith("The model 🔥🔥🔥")


def test_what_cannot_be_classified(rpc: Rpc) -> None:
    spec = {"name": "mnist", "signature_name": "classify_examples"}
    empty = refusal(lambda: rpc.classify([], **spec))
    assert empty == (INVALID, "classify_examples: there is no example in the request's example_list")
    code, words = refusal(lambda: rpc.classify([tf.train.Example()], **spec))
    assert code == INVALID and "Feature: image (data type: string) is required but could not be found" in words
    other = refusal(lambda: rpc.classify([tf.train.Example()]))
    assert other == (INVALID, "serving_default: Classify needs the input inputs, and the outputs classes and scores")


def test_damaged_requests_end_and_the_server_lives(rpc: Rpc, server: ModelServer) -> None:
    """Flipped bits, in batches that arrive together."""
    generator, codes = random.Random(20161), Counter[str]()
    tensor = {"x": [[1.0, 2.0], [3.0, 4.0]]}
    whole = predict_request(tensor, name="odd", signature_name="types").SerializeToString()
    call = rpc.channel.unary_unary(
        f"/{PREDICTION}/Predict", response_deserializer=predict_pb2.PredictResponse.FromString
    )
    for _ in range(8):
        futures = []
        for _ in range(50):
            content = bytearray(whole)
            for _ in range(generator.randrange(1, 4)):
                content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
            futures.append(call.future(bytes(content), timeout=60))
        codes.update(future.code().name for future in futures)
    # gRPC answers what is not a PredictRequest with INTERNAL.
    assert set(codes) == {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "INTERNAL"}, codes
    assert rpc.half(1.0) == (2.5, 7) and rpc.health() == "SERVING"


@pytest.mark.parametrize("kind", ["model", "input", "example"])
def test_refused_large_requests_are_freed(kind: str, rpc: Rpc, server: ModelServer) -> None:
    large = np.ones(20 * 2**18, np.float32)  # 20 MB
    classify = classification_pb2.ClassificationRequest(
        model_spec=model_spec("mnist", signature_name="classify_examples")
    )
    feature = classify.input.example_list.examples.add().features.feature["y"]
    feature.bytes_list.value.append(large.tobytes())
    method, request = {
        "model": (rpc.prediction.Predict, predict_request({"x": large}, name="no")),
        "input": (rpc.prediction.Predict, predict_request({"z": large})),
        "example": (rpc.prediction.Classify, classify),
    }[kind]
    held = []
    for _ in range(2):
        for _ in range(6):
            assert refusal(lambda: method(request))[0] in (INVALID, NOT_FOUND)
        held.append(rss(server))
    assert held[1] - held[0] < 60, held  # six requests that are kept would be 120 MB
