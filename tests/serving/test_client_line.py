"""What both clients say of the line: why there is no answer, how often they try, and what a proxy has answered."""

from __future__ import annotations

import threading
import time
from typing import Any

import grpc
import pytest

from serving import errors
from serving.client import Client
from serving.client.client import TIMEOUT
from tests.serving.clients import Connect, numbered
from tests.serving.conftest import Fake, by_field, ids_of, listening, refuse
from tests.serving.peers import frame, http_status, message, peer
from tests.serving.rpc import fill

BUSY = refuse(grpc.StatusCode.UNAVAILABLE, "the queue is full")


@pytest.mark.parametrize("timeout", [0.2, 1.0])
def test_the_reason_of_the_last_answer_survives_the_deadline(timeout: float, connect: Connect) -> None:
    fake, began = Fake(BUSY), time.monotonic()
    with listening(fake) as address, connect(address, timeout=timeout) as client:
        for call in (lambda: client.predict(numbered(1)), lambda: list(client.stream(numbered(1, 2), chunk=1))):
            with pytest.raises(errors.UnavailableError, match="UNAVAILABLE: the queue is full") as raised:
                call()
            assert raised.value.code is grpc.StatusCode.UNAVAILABLE
    assert time.monotonic() - began < 2 * timeout + 1


def test_a_server_that_was_busy_and_then_hangs_was_busy(connect: Connect, fast_retries: None) -> None:
    release = threading.Event()
    fake = Fake(BUSY, lambda request, context: release.wait(20))
    with listening(fake) as address, connect(address, timeout=0.5) as client:
        with pytest.raises(errors.UnavailableError, match="the queue is full"):
            client.predict(numbered(1))
        release.set()
    assert len(fake.requests) == 2


def test_five_attempts_each_with_what_is_left_of_the_timeout(connect: Connect, fast_retries: None) -> None:
    fake = Fake(BUSY)
    with listening(fake) as address, connect(address) as client:
        for timeout in (10, 0.9):
            fake.remaining.clear()
            with pytest.raises(errors.UnavailableError):
                client.predict(numbered(1), timeout=timeout)
            assert len(fake.remaining) == 5 or timeout < 1
    assert (fake.remaining[-1] or 0) < (fake.remaining[0] or 0) - 0.05  # gRPC rounds a longer timeout


def test_a_slow_reader_of_a_stream_loses_no_attempt(fast_retries: None) -> None:
    def second_is_busy_once(request: Any, context: Any) -> Any:
        busy = request.inputs["images"].tensor_content[:1] == b"\2" and len(fake.requests) < 3
        return (BUSY if busy else by_field)(request, context)

    fake = Fake(second_is_busy_once)
    with listening(fake) as address, Client(address, timeout=0.5) as client:
        found = []
        for part in client.stream(numbered(1, 2), chunk=1):
            found += part.class_ids.tolist()
            time.sleep(0.7)
    assert found == [1, 2] and len(fake.requests) == 3


def test_a_client_that_is_closed_between_two_attempts_says_so_at_once() -> None:
    fake = Fake(BUSY)
    with listening(fake) as address:
        client = Client(address)
        threading.Timer(0.7, client.close).start()  # before the third attempt
        began = time.monotonic()
        with pytest.raises(errors.ClosedError):
            client.predict(numbered(1))
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("answer", [None, frame(7, bytes(8), stream=0)], ids=["close", "GOAWAY"])
def test_a_peer_that_closes_after_its_settings_gets_five_attempts(
    answer: bytes | None, connect: Connect, fast_retries: None
) -> None:
    with peer(answer) as closing, connect(closing.address, timeout=2) as client:
        with pytest.raises(errors.UnavailableError):
            client.predict(numbered(1))
        time.sleep(0.2)
        # gRPC connects again for a request that it has not sent yet.
        assert 5 <= closing.connections <= 20


def test_an_answer_that_is_cut_is_asked_for_again(connect: Connect, fast_retries: None) -> None:
    with peer(message(b"abc" * 1000)[:500]) as cutting, connect(cutting.address) as client:
        began = time.monotonic()
        with pytest.raises(errors.UnavailableError, match=r"Socket closed|reset by peer"):
            client.predict(numbered(1))
    assert cutting.connections == 5 and time.monotonic() - began < TIMEOUT / 2


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (http_status(413), errors.TooLargeError),
        (b"HTTP/1.1 413 Payload Too Large\r\n\r\n", errors.TooLargeError),
        (http_status(401), errors.AuthenticationError),
        (http_status(502), errors.UnavailableError),
        (http_status(418), errors.ServerError),
    ],
    ids=["413", "413 of HTTP/1", "401", "502", "418"],
)
def test_what_a_proxy_answers(
    answer: bytes, kind: type[errors.ServingError], connect: Connect, fast_retries: None
) -> None:
    with peer(answer) as proxy, connect(proxy.address) as client, pytest.raises(errors.ServingError) as raised:
        client.predict(numbered(1))
    assert type(raised.value) is kind


def test_no_control_character_of_a_server_is_in_a_message(connect: Connect) -> None:
    fake = Fake(refuse(grpc.StatusCode.INTERNAL, "\x1b]0;owned\x07 \x9b2J \u202elia \u200cنمی"))

    def odd(request: Any, context: Any) -> Any:
        response = ids_of(request, fill)
        response.outputs["\x1b[2J"].CopyFrom(response.outputs.pop("class_ids"))
        return response

    with listening(fake) as address, connect(address) as client:
        with pytest.raises(errors.ServerError) as raised:
            client.predict(numbered(1))
        assert r"\x1b]0;owned\x07 \x9b2J \u202elia " in str(raised.value) and "\u200cنمی" in str(raised.value)
        fake.answers = [odd]
        with pytest.raises(errors.ServerError) as raised:
            client.predict(numbered(1))
        assert r"\x1b[2J" in str(raised.value)
