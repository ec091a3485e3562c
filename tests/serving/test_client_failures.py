"""The errors and the retries of both clients when a server fails, hangs or does not run."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
import tensorflow as tf

from serving import errors
from serving.client import AsyncClient, Client
from serving.client.channel import BACKOFF
from serving.client.client import TIMEOUT
from serving.launch import ModelServer, free_port
from tests.conftest import suspend
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
    assert sum(BACKOFF) > 5 and 1.2 * sum(BACKOFF) < TIMEOUT  # with up to 20 % jitter


@pytest.mark.parametrize("timeout", [0.2, 1])
def test_nobody_listening_is_unavailable_whatever_the_timeout(timeout: float, connect: Connect) -> None:
    began = time.monotonic()
    with (
        connect(f"localhost:{free_port()}", timeout=timeout) as client,
        pytest.raises(errors.UnavailableError, match=r"Connection refused.*Check the address") as raised,
    ):
        client.predict(numbered(1))
    assert raised.value.code is grpc.StatusCode.UNAVAILABLE
    assert time.monotonic() - began < timeout + 2


def test_a_stream_to_nobody_is_unavailable(connect: Connect) -> None:
    with (
        connect(f"localhost:{free_port()}", timeout=0.3) as client,
        pytest.raises(errors.UnavailableError, match="Connection refused"),
    ):
        list(client.stream(numbered(1, 2, 3), chunk=1))


def test_what_accepts_connections_and_says_nothing_is_not_connected(connect: Connect) -> None:
    with socket.create_server(("localhost", 0)) as silent:
        address = f"localhost:{silent.getsockname()[1]}"
        with (
            connect(address, timeout=0.3) as client,
            pytest.raises(errors.UnavailableError, match="the connection was not ready within the timeout"),
        ):
            client.predict(numbered(1))


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
    assert len(fake.requests) == 3 and fake.requests[0] == fake.requests[2]


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


def test_a_connected_server_that_stands_still_is_a_deadline_error(connect: Connect, server: ModelServer) -> None:
    assert server.process is not None
    with connect(server.address, timeout=1.0) as client:
        client.predict(numbered(1), timeout=30)
        suspend(server.process)
        try:
            with pytest.raises(errors.DeadlineError, match="is connected, but slow"):
                client.predict(numbered(1))
        finally:
            server.process.send_signal(signal.SIGCONT)
        assert client.predict(numbered(1), timeout=30).class_ids.shape == (1,)


def test_a_server_that_hangs_is_a_deadline_error_after_the_timeout(connect: Connect) -> None:
    release = threading.Event()
    with listening(Fake(lambda request, context: release.wait(20))) as address:
        try:
            with connect(address, timeout=0.4) as client:
                for call in (lambda: client.predict(numbered(1)), lambda: list(client.stream(numbered(1, 2), chunk=1))):
                    began = time.monotonic()
                    with pytest.raises(errors.DeadlineError, match=r"is connected, but slow\. Use a longer") as raised:
                        call()
                    assert 0.35 < time.monotonic() - began < 5
                    assert raised.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
        finally:
            release.set()


def test_a_closed_client_says_so(connect: Connect) -> None:
    with listening(Fake(by_field)) as address, connect(address) as client:
        assert client.predict(numbered(1)).class_ids.tolist() == [1]
        client.close()
        for call in (
            lambda: client.predict(numbered(1)),
            lambda: list(client.stream(numbered(1))),
            lambda: client.predict(["seven.png"]),
            lambda: client.call("any", {}),
            lambda: client.predict_examples([b""]),
            lambda: client.classify_examples([b""]),
            client.metadata,
            client.status,
            lambda: client.reload("model_config_list {}"),
        ):
            with pytest.raises(errors.ClosedError, match=f"The client of {address} is closed"):
                call()
        client.close()


def test_a_call_under_way_when_the_client_is_closed_says_so() -> None:
    started, release = threading.Event(), threading.Event()

    def hang(request: Any, context: Any) -> None:
        started.set()
        release.wait(20)

    async def close_meanwhile(address: str) -> None:
        client = AsyncClient(address)
        call = asyncio.ensure_future(client.predict(numbered(1)))
        while not started.is_set() and not call.done():
            await asyncio.sleep(0.01)
        await client.close()
        await call

    with listening(Fake(hang)) as address, ThreadPoolExecutor(1) as threads:
        try:
            client = Client(address)
            call = threads.submit(client.predict, numbered(1))
            assert started.wait(20)
            client.close()
            with pytest.raises(errors.ClosedError):
                call.result(20)
            started.clear()
            with pytest.raises(errors.ClosedError):
                asyncio.run(close_meanwhile(address))
        finally:
            release.set()
