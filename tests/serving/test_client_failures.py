"""What both clients raise, and what they try again, when a server fails, hangs or is not there."""

from __future__ import annotations

import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf

from serving import errors
from serving.launch import free_port
from tests.serving.clients import Connect, numbered
from tests.serving.conftest import Fake, by_field, listening, refuse


@pytest.mark.slow
def test_nobody_listening_is_unavailable_after_a_bounded_time(connect: Connect) -> None:
    began = time.monotonic()
    port = free_port()
    with connect(f"localhost:{port}") as client, pytest.raises(errors.UnavailableError) as raised:
        client.predict(numbered(1))
    assert 1 < time.monotonic() - began < 9  # five attempts, and not the whole timeout
    assert raised.value.code is grpc.StatusCode.UNAVAILABLE
    assert f"localhost:{port}" in str(raised.value) and "refused" in str(raised.value)
    assert "Check the address" in str(raised.value) and "\n" not in str(raised.value)


def test_a_server_that_comes_up_meanwhile_answers(connect: Connect) -> None:
    fake, port = Fake(by_field), free_port()
    called, done = threading.Event(), threading.Event()

    def come_up() -> None:
        called.wait()
        time.sleep(1)
        with listening(fake, port):
            done.wait(20)

    with ThreadPoolExecutor(1) as threads, connect(f"localhost:{port}") as client:
        threads.submit(come_up)
        called.set()
        try:
            assert client.predict(numbered(3)).class_ids.tolist() == [3]
        finally:
            done.set()


def test_unavailable_is_tried_again(connect: Connect) -> None:
    busy = refuse(grpc.StatusCode.UNAVAILABLE, "the queue is full")
    fake = Fake(busy, busy, by_field)
    with listening(fake) as address, connect(address) as client:
        assert client.predict(numbered(3)).class_ids.tolist() == [3]
    assert fake.attempts == ["0", "1", "2"] and fake.requests[0] == fake.requests[2]


def test_requests_behind_the_one_that_failed_are_not_complained_of(connect: Connect) -> None:
    def fail(request: Any, context: Any) -> Any:
        number = tf.make_ndarray(request.inputs["images"])[0, 0, 0]
        time.sleep(0.3 if number == 1 else 0)
        context.abort(grpc.StatusCode.INTERNAL, f"image {number}")

    fake = Fake(fail)
    with listening(fake) as address, connect(address) as client:  # asyncio must not log what nobody fetched
        with pytest.raises(errors.ServerError, match="image 1"):
            list(client.stream(numbered(1, 2, 3), chunk=1, in_flight=3))
        gc.collect()
    assert len(fake.requests) == 3


CODES = {
    grpc.StatusCode.INVALID_ARGUMENT: (errors.RequestError, r"metadata\(\) tells"),
    grpc.StatusCode.FAILED_PRECONDITION: (errors.RequestError, r"status\(\) which versions"),
    grpc.StatusCode.NOT_FOUND: (errors.NotFoundError, r"status\(\) tells what is served"),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (errors.TooLargeError, "Send smaller chunks"),
    grpc.StatusCode.UNAUTHENTICATED: (errors.AuthenticationError, "certificate the server asks for"),
    grpc.StatusCode.PERMISSION_DENIED: (errors.AuthenticationError, "certificate the server asks for"),
    grpc.StatusCode.UNIMPLEMENTED: (errors.UnsupportedError, "is it a TensorFlow Serving at all"),
    grpc.StatusCode.INTERNAL: (errors.ServerError, "The server's log has the cause"),
    grpc.StatusCode.ABORTED: (errors.ServerError, "The server's log has the cause"),
}


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
def test_every_other_code_is_raised_at_once_by_its_kind(code: grpc.StatusCode, connect: Connect) -> None:
    kind, remedy = CODES[code]
    fake = Fake(refuse(code, "Something\n\t is wrong."))
    with listening(fake) as address, connect(address) as client:
        with pytest.raises(errors.ServingError) as raised:
            client.predict(numbered(1))
        with pytest.raises(kind):
            list(client.stream(numbered(1, 2, 3), chunk=1, in_flight=1))
    assert type(raised.value) is kind and raised.value.code is code
    assert raised.match(f"^{address}: {code.name}: Something is wrong\\. .*{remedy}")
    assert len(fake.requests) == 2  # one attempt each, and nothing after the first failure


def test_a_server_of_something_else_is_unsupported(connect: Connect) -> None:
    unsupported = pytest.raises(errors.UnsupportedError, match=r"UNIMPLEMENTED: Method not .* TensorFlow Serving")
    with listening(Fake(by_field)) as address, connect(address) as client, unsupported:
        client.status()


def test_a_server_that_hangs_is_a_deadline_error_after_the_timeout(connect: Connect) -> None:
    release = threading.Event()
    with listening(Fake(lambda request, context: release.wait(20))) as address:
        try:
            with connect(address, timeout=0.4) as client:
                for call in (lambda: client.predict(numbered(1)), lambda: list(client.stream(numbered(1, 2), chunk=1))):
                    began = time.monotonic()
                    with pytest.raises(errors.DeadlineError, match="Raise the timeout") as raised:
                        call()
                    assert 0.35 < time.monotonic() - began < 5
                    assert raised.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
        finally:
            release.set()


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((28, 28), np.uint8), r"not uint8 \[28, 28\]: .* one image is image\[None\]"),
        (np.zeros((2, 28, 28), np.float32), r"not float32 \[2, 28, 28\]: scale to 0 … 255"),
        (np.zeros((2, 28, 28, 1), np.uint8), r"not uint8 \[2, 28, 28, 1\]"),
        (np.zeros((2, 28, 28), np.int64), "not int64"),
        (np.zeros(0, np.uint8), r"not uint8 \[0\]"),
    ],
    ids=["one image", "float32", "channels", "int64", "flat"],
)
def test_arrays_that_are_no_images_are_refused_before_anything_is_sent(
    images: np.ndarray, message: str, connect: Connect
) -> None:
    fake = Fake(by_field)
    with listening(fake) as address, connect(address) as client:
        for call in (client.predict, client.predict_rows, lambda images: list(client.stream(images))):
            with pytest.raises(errors.ImageError, match=message) as raised:
                call(images)
            assert raised.value.code is None
    assert fake.requests == []
