"""Calls that are read out of the bytes of HTTP/2, in the forms that the tests with gRPC do not make."""

from __future__ import annotations

import zlib
from typing import Any

import hpack
import pytest

from serving.request_log.calls import Calls
from tests.serving.peers import frame

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = frame(4, b"", stream=0)
DATA, HEADERS, RST_STREAM, CONTINUATION = 0, 1, 3, 9
END_STREAM, END_HEADERS, PADDED, PRIORITY = 1, 4, 8, 32
REQUEST = {":method": "POST", ":path": "/tensorflow.serving.PredictionService/Predict", "x-request-id": "a"}


def message(content: bytes, compressed: bool = False) -> bytes:
    return bytes([compressed]) + len(content).to_bytes(4, "big") + content


class Conversation:
    """A client's and a server's side of one connection, and what is read in it."""

    def __init__(self) -> None:
        self.client, self.server = hpack.Encoder(), hpack.Encoder()
        self.found: list[tuple[Any, ...]] = []
        self.dropped = 0
        self.calls = Calls(lambda *call: self.found.append(call), self.drop)

    def drop(self) -> None:
        self.dropped += 1

    def ask(self, stream: int, content: bytes, headers: dict[str, str] = REQUEST) -> bytes:
        block = self.client.encode(list(headers.items()))
        return frame(HEADERS, block, END_HEADERS, stream) + frame(DATA, content, END_STREAM, stream)

    def answer(self, stream: int, content: bytes, status: str = "0") -> bytes:
        begin = frame(HEADERS, self.server.encode([(":status", "200")]), END_HEADERS, stream)
        end = frame(HEADERS, self.server.encode([("grpc-status", status)]), END_HEADERS | END_STREAM, stream)
        return begin + frame(DATA, content, 0, stream) + end


@pytest.mark.parametrize("size", [1, 7, 10**6])
def test_calls_that_arrive_in_pieces_and_side_by_side(size: int) -> None:
    talk = Conversation()
    asked = PREFACE + SETTINGS + b"".join(talk.ask(stream, message(b"q%d" % stream)) for stream in (1, 3, 5))
    answered = SETTINGS + talk.answer(3, message(b"a3")) + talk.answer(5, message(b"no"), "5")
    answered += talk.answer(1, message(b"a1"))
    for begin in range(0, len(asked), size):
        talk.calls.from_client(asked[begin : begin + size])
    assert list(talk.calls.open) == [1, 3, 5]
    for begin in range(0, len(answered), size):
        talk.calls.from_server(answered[begin : begin + size])
    assert talk.found == [("Predict", b"q3", b"a3", "a"), ("Predict", b"q1", b"a1", "a")]
    assert not talk.calls.open and talk.calls.between_answers


def test_padding_priorities_and_header_blocks_in_parts() -> None:
    talk = Conversation()
    block, content = talk.client.encode(list(REQUEST.items())), message(b"q")
    first = bytes([3]) + b"\0\0\0\0\x10" + block[:9] + b"\0" * 3
    talk.calls.from_client(
        PREFACE
        + frame(HEADERS, first, PADDED | PRIORITY, 1)
        + frame(CONTINUATION, block[9:20], 0, 1)
        + frame(CONTINUATION, block[20:], END_HEADERS, 1)
        + frame(DATA, bytes([2]) + content[:3] + b"\0\0", PADDED, 1)
        + frame(DATA, content[3:], END_STREAM, 1)
    )
    talk.calls.from_server(talk.answer(1, message(b"a")))
    assert talk.found == [("Predict", b"q", b"a", "a")]


def test_what_is_cancelled_or_cannot_be_read_is_not_logged() -> None:
    talk = Conversation()
    other = {**REQUEST, ":path": "/tensorflow.serving.PredictionService/Regress"}
    talk.calls.from_client(
        PREFACE
        + talk.ask(1, message(b"q"))
        + frame(RST_STREAM, b"\0\0\0\x08", 0, 1)
        + talk.ask(3, message(b"q"), other)
        + talk.ask(5, message(zlib.compress(b"q")), REQUEST)
        + talk.ask(7, message(b"not compressed as it says", compressed=True))
        + talk.ask(9, message(zlib.compress(b"q"), compressed=True))
        + talk.ask(11, message(b"q") * 2)
    )
    for stream in (1, 3, 5, 7, 9, 11):
        talk.calls.from_server(talk.answer(stream, message(b"a")))
    assert [request for _, request, _, _ in talk.found] == [zlib.compress(b"q"), b"q"]
    assert talk.dropped == 2 and not talk.calls.open
