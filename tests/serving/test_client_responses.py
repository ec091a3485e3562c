"""Responses that do not fit their request: both clients raise a ServerError, whatever the server answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis.classification_pb2 import ClassificationResponse
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataResponse, SignatureDefMap
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusResponse
from tensorflow_serving.apis.predict_pb2 import PredictResponse

from serving import errors
from serving.client.results import parse_statuses
from tests.serving.clients import Connect, numbered
from tests.serving.conftest import Fake, listening, refuse
from tests.serving.rpc import fill


def outputs(**arrays: np.ndarray) -> Callable[[Any, Any], Any]:
    """An answer with these outputs, whatever the request."""

    def answer(request: Any, context: Any) -> Any:
        response = PredictResponse()
        for name, array in arrays.items():
            fill(response.outputs[name], array)
        return response

    return answer


def probabilities(*shape: int, dtype: str = "f4") -> np.ndarray:
    return np.full(shape, 0.1, dtype)


def test_a_server_that_answers_fewer_images_than_it_got_is_caught(connect: Connect) -> None:
    one = outputs(probabilities=probabilities(1, 10), class_ids=np.zeros(1, "i8"))
    with listening(Fake(one)) as address, connect(address) as client:
        for call in (
            lambda: client.predict(numbered(*range(6)), chunk=2),
            lambda: client.predict(numbered(1, 2)),
            lambda: list(client.stream(numbered(*range(6)), chunk=2)),
            lambda: client.predict_examples([b"", b""]),
        ):
            with pytest.raises(errors.ServerError, match=r"is float32 \[1, 10\], but .* needs float32 \[2, classes\]"):
                call()


IDS = np.zeros(2, "i8")
RIGHT = {"probabilities": probabilities(2, 10), "class_ids": IDS}
WRONG = {
    r"probabilities is float32 \[3, 10\]": {"probabilities": probabilities(3, 10), "class_ids": np.zeros(3, "i8")},
    r"class_ids is int64 \[1\]": {"probabilities": probabilities(2, 10), "class_ids": np.zeros(1, "i8")},
    r"class_ids is int64 \[2, 1\]": {"probabilities": probabilities(2, 10), "class_ids": np.zeros((2, 1), "i8")},
    r"class_ids is int32 \[2\]": {"probabilities": probabilities(2, 10), "class_ids": np.zeros(2, "i4")},
    r"probabilities is float64 \[2, 10\]": {"probabilities": probabilities(2, 10, dtype="f8"), "class_ids": IDS},
    r"probabilities is float32 \[2\]": {"probabilities": probabilities(2), "class_ids": IDS},
    r"probabilities is float32 \[\]": {"probabilities": probabilities(), "class_ids": IDS},
    r"probabilities is float32 \[2, 28, 10\]": {"probabilities": probabilities(2, 28, 10), "class_ids": IDS},
    r"probabilities is object \[2\]": {"probabilities": np.array([b"a", b"b"], object), "class_ids": IDS},
    r"classes is object \[1, 10\]": {**RIGHT, "classes": np.full((1, 10), b"a", object)},
    r"classes is object \[2\]": {**RIGHT, "classes": np.full(2, b"a", object)},
    r"classes is float32 \[2, 10\]": {**RIGHT, "classes": probabilities(2, 10)},
    r"has the outputs probabilities, but not class_ids": {"probabilities": probabilities(2, 10)},
}


@pytest.mark.parametrize("message", WRONG)
def test_a_wrong_count_dtype_or_shape_of_a_prediction_is_named(message: str, connect: Connect) -> None:
    with listening(Fake(outputs(**WRONG[message]))) as address, connect(address) as client:
        for call in (lambda: client.predict(numbered(1, 2)), lambda: client.predict_examples([b"a", b"b"])):
            with pytest.raises(errors.ServerError, match=message):
                call()


@pytest.mark.parametrize("class_id", [-1, 10, 2**40])
def test_a_class_id_that_is_no_class_is_caught(class_id: int, connect: Connect) -> None:
    answer = outputs(probabilities=probabilities(2, 10), class_ids=np.array([3, class_id]))
    with listening(Fake(answer)) as address, connect(address) as client:
        for call in (lambda: client.predict(numbered(1, 2)), lambda: client.predict_examples([b"a", b"b"])):
            with pytest.raises(errors.ServerError, match=f"has the class id {class_id}, but 10 classes, 0 to 9"):
                call()


def test_names_of_classes_that_differ_from_row_to_row_are_caught(connect: Connect) -> None:
    names = np.array([[b"cat", b"dog"], [b"dog", b"cat"]], object)
    answer = outputs(probabilities=probabilities(2, 2), class_ids=IDS, classes=names)
    with (
        listening(Fake(answer)) as address,
        connect(address) as client,
        pytest.raises(errors.ServerError, match="names in the output classes differ"),
    ):
        client.predict(numbered(1, 2))


def test_of_many_outputs_only_those_asked_for_are_read(connect: Connect) -> None:
    many = {f"o{number}": np.ones((1, 8), "f4") for number in range(20_000)}
    few = {"probabilities": probabilities(1, 10), "class_ids": np.zeros(1, "i8")}
    answers = [outputs(**many, **few), outputs(**many, **few), outputs(**many), outputs(**many)]
    with listening(Fake(*answers)) as address, connect(address, timeout=60) as client:
        assert client.predict(numbered(1)).labels == ()
        assert list(client.call("any", {}, ["o7"])) == ["o7"]
        with pytest.raises(errors.ServerError, match=r"has 20000 outputs, more than 1000\. Name those .*output_filter"):
            client.call("any", {})
        with pytest.raises(errors.ServerError, match="o10004 and 19990 more, but not probabilities"):
            client.predict(numbered(1))


def test_a_model_need_not_name_its_classes(connect: Connect) -> None:
    with listening(Fake(outputs(**RIGHT))) as address, connect(address) as client:
        assert client.predict(numbered(1, 2)).labels == ()


@pytest.mark.parametrize("shape", [(1, 28, 10), (2, 27, 10), (2, 10), (3, 28, 10)], ids=str)
def test_rows_must_be_those_of_the_images(shape: tuple[int, ...], connect: Connect) -> None:
    with (
        listening(Fake(outputs(probabilities=probabilities(*shape)))) as address,
        connect(address) as client,
        pytest.raises(errors.ServerError, match=r"needs float32 \[2, 28, classes\]"),
    ):
        client.predict_rows(numbered(1, 2))


def test_chunks_with_different_numbers_of_classes_do_not_merge(connect: Connect) -> None:
    ten = outputs(probabilities=probabilities(1, 10), class_ids=np.zeros(1, "i8"))
    eleven = outputs(probabilities=probabilities(1, 11), class_ids=np.zeros(1, "i8"))
    with (
        listening(Fake(ten, eleven)) as address,
        connect(address) as client,
        pytest.raises(errors.ServerError, match=r"different numbers of classes: \[10, 11\]"),
    ):
        client.predict(numbered(1, 2), chunk=1)


def test_chunks_with_different_names_of_classes_do_not_merge(connect: Connect) -> None:
    one = {"probabilities": probabilities(1, 2), "class_ids": np.zeros(1, "i8")}
    cats, shirts = (
        outputs(**one, classes=np.array([names], object)) for names in ([b"cat", b"dog"], [b"shirt", b"shoe"])
    )
    with (
        listening(Fake(cats, shirts)) as address,
        connect(address) as client,
        pytest.raises(errors.ServerError, match="different names of classes: cat, dog; shirt, shoe"),
    ):
        client.predict(numbered(1, 2), chunk=1)


def test_an_output_filter_must_be_answered(connect: Connect) -> None:
    with (
        listening(Fake(outputs(y=probabilities(2)))) as address,
        connect(address) as client,
        pytest.raises(errors.ServerError, match="has the outputs y, but not z"),
    ):
        client.call("serving_default", {"x": np.float32([1])}, ["z"])


class Other(Fake):
    """Its other answers are those of the test."""

    def __init__(self, answer: Any) -> None:
        super().__init__(refuse(grpc.StatusCode.FAILED_PRECONDITION, "no such signature"))
        self.other = answer

    def Classify(self, request: Any, context: Any) -> Any:
        return self.other

    GetModelMetadata = GetModelStatus = Classify


def classifications(*sizes: int) -> ClassificationResponse:
    response = ClassificationResponse()
    for size in sizes:
        one = response.result.classifications.add()
        for _ in range(size):
            one.classes.add(label="a", score=0.5)
    return response


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((), "0 classifications for 2 examples"),
        ((10,), "1 classifications for 2 examples"),
        ((10, 10, 10), "3 classifications for 2 examples"),
        ((10, 9), r"different numbers of classes: \[9, 10\]"),
    ],
    ids=str,
)
def test_classifications_must_be_those_of_the_examples(sizes: tuple[int, ...], message: str, connect: Connect) -> None:
    with (
        listening(Other(classifications(*sizes))) as address,
        connect(address) as client,
        pytest.raises(errors.ServerError, match=message),
    ):
        client.classify_examples([b"", b""])


def test_metadata_and_status_that_say_nothing_are_wrong(connect: Connect) -> None:
    garbage = GetModelMetadataResponse()
    garbage.metadata["signature_def"].value = b"\xff\xff\xff"
    for answer, message in (
        (GetModelMetadataResponse(), "has no signature_def"),
        (garbage, "is not a SignatureDefMap"),
    ):
        with (
            listening(Other(answer)) as address,
            connect(address) as client,
            pytest.raises(errors.ServerError, match=message),
        ):
            client.metadata()
    with (
        listening(Other(GetModelStatusResponse())) as address,
        connect(address) as client,
        pytest.raises(errors.ServerError, match="the status of no version"),
    ):
        client.status()


def test_a_state_of_a_newer_server_is_unknown() -> None:
    response = GetModelStatusResponse()
    response.model_version_status.add(version=3, state=99)
    assert parse_statuses(response)[0].state == "UNKNOWN"


def test_a_shape_that_is_not_given_is_any_rank(connect: Connect) -> None:
    signatures = SignatureDefMap()
    inputs = signatures.signature_def["predict_images"].inputs
    inputs["none"].dtype = inputs["unknown"].dtype = inputs["scalar"].dtype = 1
    inputs["unknown"].tensor_shape.unknown_rank = True
    inputs["scalar"].tensor_shape.SetInParent()
    inputs["images"].dtype = 4
    answer = GetModelMetadataResponse()
    answer.metadata["signature_def"].Pack(signatures)
    with listening(Other(answer)) as address, connect(address) as client:
        found = client.metadata().signatures["predict_images"].inputs
        assert {name: spec.shape for name, spec in found.items()} == {
            "none": None, "unknown": None, "scalar": (), "images": None,
        }  # fmt: skip
        with pytest.raises(errors.ConfigError, match="no fixed size"):
            client.predict(["seven.png"])
