"""The answers and errors of the stand-in, with the messages of TensorFlow Serving. No test changes the server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    predict_pb2,
    regression_pb2,
    session_service_pb2,
)

from serving.launch import ModelServer
from tests.serving.models import CLASSIFY, LABELS, serialize
from tests.serving.rpc import (
    MODEL,
    PREDICTION,
    Rpc,
    model_spec,
    predict_request,
    refusal,
)

INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
UNIMPLEMENTED = grpc.StatusCode.UNIMPLEMENTED


@pytest.fixture(scope="module")
def rpc(server: ModelServer) -> Iterator[Rpc]:
    with Rpc(server.address) as rpc:
        yield rpc


def test_predict_answers_in_the_field_of_the_type_and_says_who_answered(rpc: Rpc) -> None:
    response = rpc.predict({"x": [1.0, 2.0, -4.0]})
    y = response.outputs["y"]
    assert (y.dtype, [dim.size for dim in y.tensor_shape.dim]) == (tf.float32.as_datatype_enum, [3])
    assert list(y.float_val) == [2.5, 3.0, 0.0] and not y.tensor_content
    assert response.model_spec == model_spec(version=7, signature_name="serving_default")


def test_predict_takes_content_and_values_that_stand_for_the_rest(rpc: Rpc) -> None:
    request = predict_request({})
    request.inputs["x"].dtype = tf.float32.as_datatype_enum
    request.inputs["x"].tensor_shape.dim.add(size=3)
    request.inputs["x"].tensor_content = np.array([2, 4, 6], "<f4").tobytes()
    assert list(rpc.prediction.Predict(request).outputs["y"].float_val) == [3, 4, 5]
    request.inputs["x"].ClearField("tensor_content")
    request.inputs["x"].float_val.extend([2, 8])
    assert list(rpc.prediction.Predict(request).outputs["y"].float_val) == [3, 6, 6]


def test_every_type_has_its_field(rpc: Rpc) -> None:
    outputs = rpc.predict({"x": [[1.0, 2.0], [3.0, 0.0]]}, name="odd", signature_name="types").outputs
    fields = {
        "float64": "double_val",
        "int32": "int_val",
        "uint8": "int_val",
        "int64": "int64_val",
        "bool": "bool_val",
        "string": "string_val",
        "float16": "half_val",
    }
    assert set(outputs) == set(fields)
    for name, field in fields.items():
        values = list(getattr(outputs[name], field))
        assert outputs[name].dtype == tf.as_dtype(name).as_datatype_enum and len(values) == 4, name
        np.testing.assert_array_equal(
            tf.make_ndarray(outputs[name]).astype("f4" if name != "bool" else "?"),
            np.array([[1, 2], [3, 0]], "f4" if name != "bool" else "?"),
        )


def test_a_scalar_string_and_no_rows_at_all(rpc: Rpc) -> None:
    outputs = rpc.predict({"words": np.array([b"ab", b"\xff"], object)}, name="odd", signature_name="join").outputs
    assert list(outputs["joined"].string_val) == [b"ab\xff"] and list(outputs["lengths"].int_val) == [2, 1]
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
    assert list(by_image.outputs["class_ids"].int64_val) == expected.argmax(axis=1).tolist()
    rows = rpc.predict({"images": pixels}, name="mnist", signature_name="predict_rows", version=1).outputs
    np.testing.assert_allclose(tf.make_ndarray(rows["probabilities"])[:, -1], expected, atol=1e-6)
    parsed = [tf.train.Example.FromString(item) for item in examples]
    classified = rpc.classify(parsed, name="mnist", signature_name="classify_examples", version=1)
    for scores, one in zip(expected, classified.result.classifications, strict=True):
        assert [entry.label for entry in one.classes] == [*LABELS]
        np.testing.assert_allclose([entry.score for entry in one.classes], scores, atol=1e-6)


def test_versions_labels_and_the_newest(rpc: Rpc, images: np.ndarray) -> None:
    pixels, name = images[:20], {"name": "mnist", "signature_name": "predict_images"}
    answers = [
        rpc.predict({"images": pixels}, **name, **which)
        for which in ({"version": 1}, {"version_label": "stable"}, {"version": 2}, {"version_label": "canary"}, {})
    ]
    assert [answer.model_spec.version.value for answer in answers] == [1, 1, 2, 2, 2]
    first, _, second, *_ = [list(answer.outputs["probabilities"].float_val) for answer in answers]
    assert first != second


def test_an_output_filter(rpc: Rpc, images: np.ndarray) -> None:
    spec = {"name": "mnist", "signature_name": "predict_images"}
    inputs = {"images": images[:1]}
    assert set(rpc.predict(inputs, ["class_ids"], **spec).outputs) == {"class_ids"}
    assert set(rpc.predict(inputs, ["class_ids", "probabilities"], **spec).outputs) == {"class_ids", "probabilities"}
    assert refusal(lambda: rpc.predict(inputs, ["class_id"], **spec)) == (
        INVALID,
        "output tensor alias not found in signature: class_id"
        " Outputs expected to be in the set {class_ids,classes,probabilities}.",
    )
    twice = refusal(lambda: rpc.predict(inputs, ["class_ids", "class_ids"], **spec))
    assert twice == (INVALID, "duplicate output tensor alias: class_ids")


def test_metadata(rpc: Rpc) -> None:
    response = rpc.metadata("signature_def")
    assert (response.model_spec.name, response.model_spec.version.value) == ("half_plus_two", 7)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    default = signatures.signature_def["serving_default"]
    assert default.method_name == "tensorflow/serving/predict"
    assert default.inputs["x"].dtype == tf.float32.as_datatype_enum and set(default.outputs) == {"y"}
    assert signatures.signature_def[CLASSIFY].method_name == "tensorflow/serving/classify"
    none = refusal(rpc.metadata)
    assert none == (INVALID, "GetModelMetadataRequest must specify at least one metadata_field")
    unknown = refusal(lambda: rpc.metadata("signature_def", "weights"))
    assert unknown == (INVALID, "Metadata field weights is not supported")
    assert refusal(lambda: rpc.metadata("signature_def", name="no"))[0] == NOT_FOUND


def test_status(rpc: Rpc) -> None:
    assert rpc.status(name="mnist") == {1: ("AVAILABLE", ""), 2: ("AVAILABLE", "")}
    assert rpc.status(name="mnist", version=1) == rpc.status(name="mnist", version_label="stable")
    assert list(rpc.status(name="mnist", version=1)) == [1]
    nothing = refusal(lambda: rpc.status(name="no"))
    assert nothing == (NOT_FOUND, "Could not find any versions of model no")
    other = refusal(lambda: rpc.status(name="mnist", version=3))
    assert other == (NOT_FOUND, "Could not find version 3 of model mnist")


def test_who_is_not_there(rpc: Rpc) -> None:
    def error(**spec: object) -> tuple[grpc.StatusCode, str]:
        return refusal(lambda: rpc.predict({"x": [1.0]}, **spec))

    assert error(name="no") == (NOT_FOUND, "Servable not found for request: Latest(no)")
    assert error(version=8) == (NOT_FOUND, "Servable not found for request: Specific(half_plus_two, 8)")
    assert error(version=-1) == (NOT_FOUND, "Servable not found for request: Specific(half_plus_two, -1)")
    assert error(version_label="x") == (INVALID, "Unrecognized servable version label: x")
    assert error(name="mnist", version_label="") == (INVALID, "Unrecognized servable version label: ")
    assert error(name="") == (INVALID, "ModelSpec has no name specified.")
    assert error(signature_name="no") == (
        INVALID,
        f'Serving signature key "no" not found. Signatures: {{{CLASSIFY},serving_default}}.',
    )
    for call, request in (
        (rpc.prediction.Predict, predict_pb2.PredictRequest()),
        (rpc.prediction.Classify, classification_pb2.ClassificationRequest()),
        (rpc.prediction.GetModelMetadata, get_model_metadata_pb2.GetModelMetadataRequest()),
        (rpc.model.GetModelStatus, get_model_status_pb2.GetModelStatusRequest()),
    ):
        assert refusal(lambda call=call, request=request: call(request)) == (INVALID, "Missing ModelSpec")


def test_inputs_that_do_not_fit_are_named(rpc: Rpc) -> None:
    def error(inputs: dict[str, object]) -> str:
        code, details = refusal(lambda: rpc.predict(inputs))
        assert code == INVALID
        return details

    assert error({}) == (
        "input size does not match signature: 0!=1 len({}) != len({x}). Sent extra: {}. Missing but required: {x}."
    )
    assert "2!=1" in error({"x": [1.0], "z": [1.0]}) and "Sent extra: {z}." in error({"x": [1.0], "z": [1.0]})
    assert error({"z": [1.0]}) == (
        "input tensor alias not found in signature: z. Inputs expected to be in the set {x}."
    )
    request = predict_request({"x": [1.0, 2.0]})
    request.inputs["x"].tensor_shape.dim[0].size = 1
    short = refusal(lambda: rpc.prediction.Predict(request))
    why = "shape [1] of float32 needs 4 bytes, tensor_content has 8"
    assert short == (INVALID, f"tensor parsing error: x: {why}")


PIXELS = "Shape of tensor images {} is not compatible with expected shape [?,28,28]."


@pytest.mark.parametrize(
    ("model", "signature", "inputs", "details"),
    [
        ("mnist", "predict_images", {"images": np.zeros((2, 28, 28), "f4")}, "input images was expected to be a uint8"),
        (
            "mnist",
            "predict_images",
            {"images": np.array([b"a"])},
            "expected to be a uint8 tensor but is a string tensor",
        ),
        ("mnist", "predict_images", {"images": np.zeros((28, 28), "u1")}, PIXELS.format("[28,28]")),
        ("mnist", "predict_images", {"images": np.zeros((2, 28, 28, 1), "u1")}, PIXELS.format("[2,28,28,1]")),
        ("mnist", "predict_images", {"images": np.uint8(1)}, PIXELS.format("[]")),
        ("mnist", "predict_rows", {"images": np.zeros((2, 28, 27), "u1")}, PIXELS.format("[2,28,27]")),
        ("mnist", "predict_rows", {"images": np.zeros((2, 14, 56), "u1")}, PIXELS.format("[2,14,56]")),
        (
            "mnist",
            "",
            {"examples": np.array([b"\xff\xffjunk"])},
            "serving_default: Could not parse example input, value: '��junk'",
        ),
        (
            "mnist",
            "",
            {"examples": np.array([[b""]])},
            "Expected serialized to be a scalar or vector, got shape: [1,1]",
        ),
        (
            "odd",
            "add",
            {"a": [1.0], "b": np.array([1], "i4")},
            "input b was expected to be a float tensor but is a int32",
        ),
        (
            "odd",
            "add",
            {"a": np.array([1], "i4"), "b": [1.0]},
            "input a was expected to be a float tensor but is a int32",
        ),
        ("odd", "add", {"a": [1.0, 2.0], "b": [1.0, 2.0, 3.0]}, "Incompatible shapes: [2] vs. [3]"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_dtype_rank_or_size_is_the_translated_error_of_the_function(
    rpc: Rpc, model: str, signature: str, inputs: dict[str, object], details: str
) -> None:
    code, found = refusal(lambda: rpc.predict(inputs, name=model, signature_name=signature))
    assert code == INVALID and found.startswith(f"{signature or 'serving_default'}: ") and details in found
    for word in ("\n", "Graph execution", "stack traces", "{{", "[Op:", "__inference"):
        assert word not in found


def test_a_long_string_does_not_stand_for_many(rpc: Rpc) -> None:
    """A request of 300 kB must not become 300 MB."""
    request = predict_request({"inputs": np.array([b"x" * 300_000], object)}, signature_name=CLASSIFY)
    request.inputs["inputs"].tensor_shape.dim[0].size = 1000
    code, words = refusal(lambda: rpc.prediction.Predict(request))
    assert code == INVALID and "string_val has only 1" in words


def test_bytes_that_are_no_request(rpc: Rpc) -> None:
    for method, message in (
        (f"/{PREDICTION}/Predict", "PredictRequest"),
        (f"/{PREDICTION}/Classify", "ClassificationRequest"),
        (f"/{MODEL}/GetModelStatus", "GetModelStatusRequest"),
        (f"/{MODEL}/HandleReloadConfigRequest", "ReloadConfigRequest"),
    ):
        found = refusal(lambda method=method: rpc.raw(b"\xff\xff garbage", method))
        assert found == (INVALID, f"The request is not a tensorflow.serving.{message}")


@pytest.mark.parametrize(
    "letter", ["x", "é", "🔥", "\n", "%"], ids=["ascii", "two bytes", "four", "newline", "percent"]
)
def test_names_longer_than_headers_allow_come_back_cut(rpc: Rpc, letter: str) -> None:
    code, words = refusal(lambda: rpc.predict({"x": [1.0]}, name=letter * 100_000))
    assert code == NOT_FOUND
    assert words.startswith(f"Servable not found for request: Latest({letter * 100}")


def test_what_the_stand_in_does_not_answer_is_unimplemented(rpc: Rpc) -> None:
    regress = regression_pb2.RegressionRequest(model_spec=model_spec())
    assert refusal(lambda: rpc.prediction.Regress(regress))[0] == UNIMPLEMENTED
    assert refusal(lambda: rpc.prediction.MultiInference(inference_pb2.MultiInferenceRequest()))[0] == UNIMPLEMENTED
    run = session_service_pb2.SessionRunRequest(model_spec=model_spec()).SerializeToString()
    assert refusal(lambda: rpc.raw(run, "/tensorflow.serving.SessionService/SessionRun"))[0] == UNIMPLEMENTED


def test_health(rpc: Rpc) -> None:
    assert [rpc.health(service) for service in ("", PREDICTION, MODEL)] == ["SERVING"] * 3
    assert refusal(lambda: rpc.health("tensorflow.serving.Nothing"))[0] == NOT_FOUND


def test_the_log_says_that_it_is_a_stand_in(server: ModelServer) -> None:
    assert isinstance(server.log, Path)
    assert "This is a stand-in for TensorFlow Serving, for one machine" in server.log.read_text()
