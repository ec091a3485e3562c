"""The errors and the retries of both clients when a server fails, hangs or does not run."""

from __future__ import annotations

import gc
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf

from serving import errors
from serving.client.channel import OPTIONS
from serving.client.client import TIMEOUT
from serving.launch import free_port
from tests.serving.clients import Connect, numbered
from tests.serving.conftest import Fake, by_field, listening, refuse


def test_nobody_listening_is_unavailable_after_a_bounded_time(connect: Connect, fast_retries: None) -> None:
    port = free_port()
    began = time.monotonic()
    with connect(f"localhost:{port}") as client, pytest.raises(errors.UnavailableError) as raised:
        client.predict(numbered(1))
    assert time.monotonic() - began < TIMEOUT / 2
    assert raised.value.code is grpc.StatusCode.UNAVAILABLE
    assert f"localhost:{port}" in str(raised.value) and "refused" in str(raised.value)
    assert "Check the address" in str(raised.value) and "\n" not in str(raised.value)


def test_the_retries_take_some_seconds_and_end_before_the_timeout() -> None:
    (method,) = json.loads(str(OPTIONS["grpc.service_config"]))["methodConfig"]
    policy = method["retryPolicy"]
    first, longest = (float(policy[name].rstrip("s")) for name in ("initialBackoff", "maxBackoff"))
    waits = [min(longest, first * policy["backoffMultiplier"] ** retry) for retry in range(policy["maxAttempts"] - 1)]
    assert sum(waits) > 5 and 1.2 * sum(waits) < TIMEOUT  # gRPC adds up to 20 % jitter


def test_a_server_that_comes_up_meanwhile_answers(connect: Connect) -> None:
    fake, port = Fake(by_field), free_port()
    called, done = threading.Event(), threading.Event()

    def come_up() -> None:
        called.wait()
        time.sleep(0.4)
        with listening(fake, port):
            done.wait(20)

    with ThreadPoolExecutor(1) as threads, connect(f"localhost:{port}") as client:
        threads.submit(come_up)
        called.set()
        try:
            assert client.predict(numbered(3)).class_ids.tolist() == [3]
        finally:
            done.set()


def test_unavailable_is_tried_again(connect: Connect, fast_retries: None) -> None:
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
    with listening(fake) as address, connect(address) as client:  # asyncio must not log the other errors
        with pytest.raises(errors.ServerError, match="image 1"):
            list(client.stream(numbered(1, 2, 3), chunk=1, in_flight=3))
        gc.collect()
    assert len(fake.requests) == 3


CODES = {
    grpc.StatusCode.INVALID_ARGUMENT: (errors.RequestError, r"metadata\(\) lists"),
    grpc.StatusCode.FAILED_PRECONDITION: (errors.RequestError, r"status\(\) the available versions"),
    grpc.StatusCode.NOT_FOUND: (errors.NotFoundError, r"status\(\) lists the versions"),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (errors.TooLargeError, "Send smaller chunks"),
    grpc.StatusCode.UNAUTHENTICATED: (errors.AuthenticationError, "certificate that the server accepts"),
    grpc.StatusCode.PERMISSION_DENIED: (errors.AuthenticationError, "certificate that the server accepts"),
    grpc.StatusCode.UNIMPLEMENTED: (errors.UnsupportedError, "Is it TensorFlow Serving"),
    grpc.StatusCode.INTERNAL: (errors.ServerError, "See the server's log"),
    grpc.StatusCode.ABORTED: (errors.ServerError, "See the server's log"),
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
    assert len(fake.requests) == 2  # one attempt each, and no request after the first failure


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
                    with pytest.raises(errors.DeadlineError, match="Use a longer timeout") as raised:
                        call()
                    assert 0.35 < time.monotonic() - began < 5
                    assert raised.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
        finally:
            release.set()


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((28, 28), np.uint8), r"not uint8 \[28, 28\]\. .*For one image, use image\[None\]"),
        (np.zeros((2, 28, 28), np.float32), r"not float32 \[2, 28, 28\]\. Scale the pixels to 0 … 255"),
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
