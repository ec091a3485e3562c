"""Both clients with a server of tensorflow-serving-api, which parses the requests and sends the answer of a test."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from serving import errors
from tests.serving.clients import Connect, numbered
from tests.serving.conftest import Fake, by_content, by_field, listening, refuse


@pytest.mark.parametrize("answer", [by_field, by_content])
def test_tensorflow_servings_own_stubs_read_our_requests_and_we_their_answers(
    answer: Callable[[Any, Any], Any], connect: Connect
) -> None:
    fake = Fake(answer)
    images = np.random.default_rng(1).integers(0, 256, (5, 28, 28), np.uint8)
    with listening(fake) as address, connect(address, model="other", version=3, timeout=7) as client:
        found = client.predict(images)
        assert client.predict(images[:0]).class_ids.shape == (0,)
    np.testing.assert_array_equal(found.class_ids, images[:, 0, 0])
    np.testing.assert_array_equal(found.probabilities, np.eye(256)[images[:, 0, 0]])
    assert found.versions == (5,)
    request = fake.requests[0]
    assert request.model_spec.name == "other" and request.model_spec.signature_name == "predict_images"
    assert request.model_spec.version.value == 3 and not request.model_spec.HasField("version_label")
    assert list(request.inputs) == ["images"] and not request.output_filter
    tensor = request.inputs["images"]
    assert tensor.tensor_content == images.tobytes() and not tensor.int_val
    assert [dim.size for dim in tensor.tensor_shape.dim] == [5, 28, 28]
    assert 5 < (fake.remaining[0] or 0) < 7.5


def test_each_call_names_its_signature_and_only_the_version_asked_for(connect: Connect) -> None:
    fake = Fake(refuse(grpc.StatusCode.INVALID_ARGUMENT))
    with listening(fake) as address:
        with connect(address, label="stable") as client:
            assert client.metadata().signatures == {}
            with contextlib.suppress(errors.RequestError):
                client.predict_rows(numbered(1))
        with connect(address) as client, contextlib.suppress(errors.RequestError):
            client.predict_examples([b"a", b""])
    metadata, rows, examples = fake.requests
    assert list(metadata.metadata_field) == ["signature_def"] and metadata.model_spec.version_label == "stable"
    assert rows.model_spec.signature_name == "predict_rows" and rows.model_spec.version_label == "stable"
    assert examples.model_spec.signature_name == "serving_default"
    assert examples.model_spec.WhichOneof("version_choice") is None
    assert tf.make_ndarray(examples.inputs["examples"]).tolist() == [b"a", b""]


def test_chunks_come_back_in_order_though_a_later_one_is_ready_first(connect: Connect) -> None:
    def answer(request: Any, context: Any) -> Any:
        first = tf.make_ndarray(request.inputs["images"])[0, 0, 0]
        time.sleep(0.1 if first in (0, 4) else 0)
        return by_field(request, context)

    fake = Fake(answer)
    with listening(fake) as address, connect(address) as client:
        found = client.predict(numbered(*range(11)), chunk=2)
    assert found.class_ids.tolist() == list(range(11)) and found.versions == (5,)
    assert len(fake.requests) == 6


def test_inputs_of_another_kind_need_another_check_only(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork with inputs float32 [N, T, F] replaces serving/client/images.py."""
    monkeypatch.setattr("serving.client.calls.check_images", lambda array: array)
    sequences = np.random.default_rng(2).normal(size=(3, 5, 4)).astype(np.float32)
    fake = Fake(refuse(grpc.StatusCode.INVALID_ARGUMENT))
    with listening(fake) as address, connect(address) as client, contextlib.suppress(errors.RequestError):
        list(client.stream(sequences))
    np.testing.assert_array_equal(tf.make_ndarray(fake.requests[0].inputs["images"]), sequences)


def test_an_answer_that_is_not_this_projects_says_so(connect: Connect) -> None:
    def other(request: Any, context: Any) -> Any:
        response = predict_pb2.PredictResponse()
        response.outputs["y"].CopyFrom(tf.make_tensor_proto([1.0]))
        return response

    def broken(request: Any, context: Any) -> Any:
        response = by_content(request, context)
        response.outputs["probabilities"].tensor_content = b"odd"
        return response

    with listening(Fake(other, broken)) as address, connect(address) as client:
        with pytest.raises(errors.ServerError, match="has the outputs y, but not probabilities"):
            client.predict(numbered(1, 2))
        with pytest.raises(errors.ServerError, match=r"probabilities is not a valid tensor: shape .* needs 2048 bytes"):
            client.predict(numbered(1, 2))
