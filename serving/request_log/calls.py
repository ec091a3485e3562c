"""Reads gRPC calls out of the two byte streams of an HTTP/2 connection (RFC 9113), which it does not change."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import hpack

from serving.request_log.record import METHODS, REQUEST_ID, Add

_PREFACE_BYTES, _HEAD_BYTES = 24, 9
_DATA, _HEADERS, _RST_STREAM, _CONTINUATION = 0x0, 0x1, 0x3, 0x9
_END_STREAM, _END_HEADERS, _PADDED, _PRIORITY = 0x1, 0x4, 0x8, 0x20
_INDEXED = 0x80  # a byte of HPACK that stands for a header in its table
_MAX_HEADERS = 2**24
_MAX_MESSAGE = 2**28
# zlib's way to say: with the header of gzip or of zlib.
_ANY_HEADER = 32 + zlib.MAX_WBITS


@dataclass
class _Call:
    method: str
    request_id: str
    request: list[bytes] = field(default_factory=list)
    response: list[bytes] = field(default_factory=list)


class _Side:
    """One direction of a connection: frames, and whole header blocks."""

    def __init__(self, skip: int) -> None:
        self._rest, self._skip = b"", skip
        self._block, self._ends = b"", False
        self._known: dict[bytes, dict[bytes, bytes]] = {}
        self._decoder = hpack.Decoder(max_header_list_size=_MAX_HEADERS)
        self._decoder.max_allowed_table_size = _MAX_HEADERS  # the two ends agree on the size themselves

    @property
    def between_frames(self) -> bool:
        return not self._rest and not self._skip and not self._block

    def frames(self, data: bytes) -> Iterator[tuple[int, int, bool, bytes]]:
        """The kind, the stream, whether the stream ends in this direction, and the content of each whole frame."""
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip, data = self._skip - skipped, data[skipped:]
        data, at = self._rest + data if self._rest else data, 0
        while len(data) >= at + _HEAD_BYTES:
            end = at + _HEAD_BYTES + int.from_bytes(data[at : at + 3])
            if len(data) < end:
                break
            kind, flags = data[at + 3], data[at + 4]
            stream = int.from_bytes(data[at + 5 : at + 9])
            content = data[at + _HEAD_BYTES : end]
            at = end
            if kind in (_DATA, _HEADERS):
                if flags & _PADDED:
                    content = content[1 : len(content) - content[0]]
                if kind == _HEADERS and flags & _PRIORITY:
                    content = content[5:]
            if kind in (_HEADERS, _CONTINUATION):
                self._block += content
                self._ends |= kind == _HEADERS and bool(flags & _END_STREAM)
                if flags & _END_HEADERS:
                    content, ends = self._block, self._ends
                    self._block, self._ends = b"", False
                    yield _HEADERS, stream, ends, content
            elif kind in (_DATA, _RST_STREAM):
                yield kind, stream, kind == _DATA and bool(flags & _END_STREAM), content
        self._rest = data[at:]

    def headers(self, block: bytes) -> dict[bytes, bytes]:
        """The headers of a block. Every block must come, in order, because they refer to one another."""
        if (headers := self._known.get(block)) is None:
            headers = dict(self._decoder.decode(block, raw=True))
            if all(byte & _INDEXED for byte in block):
                self._known[block] = headers
            else:  # it may have changed the table to which the others refer
                self._known.clear()
        return headers


class Calls:
    """The calls of one connection, from the bytes of both directions.

    Args:
        add: gets the short name of the method, the request, the response and the id of each call of METHODS that was
            answered with the status OK; as `RequestLog.add`.
        drop: is called instead if a message cannot be read.

    `open` has the streams that have begun and not ended. If what comes is no HTTP/2, the methods that take bytes raise
    some exception, and the connection can be read no further.
    """

    def __init__(self, add: Add, drop: Callable[[], None]) -> None:
        self.open: dict[int, _Call | None] = {}
        self._add, self._drop = add, drop
        self._client, self._server = _Side(_PREFACE_BYTES), _Side(0)

    @property
    def between_answers(self) -> bool:
        """Whether the server has not begun a frame, or a header block, that has not ended."""
        return self._server.between_frames

    def from_client(self, data: bytes) -> None:
        """The next bytes of the client."""
        for kind, stream, _, content in self._client.frames(data):
            if kind == _HEADERS:
                headers = self._client.headers(content)
                if stream not in self.open:  # else they are trailers
                    method = METHODS.get(headers.get(b":path", b"").decode())
                    name = headers.get(REQUEST_ID.encode(), b"").decode("utf-8", "replace")
                    self.open[stream] = _Call(method, name) if method else None
            elif kind == _RST_STREAM:
                self.open.pop(stream, None)
            elif call := self.open.get(stream):
                call.request.append(content)

    def from_server(self, data: bytes) -> None:
        """The next bytes of the server."""
        for kind, stream, ends, content in self._server.frames(data):
            call = self.open.get(stream)
            if kind == _HEADERS:
                headers = self._server.headers(content)
                if call and ends and headers.get(b"grpc-status") == b"0":
                    self._end(call)
            elif kind == _DATA and call:
                call.response.append(content)
            if ends or kind == _RST_STREAM:
                self.open.pop(stream, None)

    def _end(self, call: _Call) -> None:
        try:
            messages = _message(call.request), _message(call.response)
        except (ValueError, zlib.error):
            self._drop()
        else:
            self._add(call.method, *messages, call.request_id)


def _message(parts: list[bytes]) -> bytes:
    """The one message of a direction: a flag for its compression, its length, and its content."""
    data = b"".join(parts)
    content = data[5:]
    if len(content) != int.from_bytes(data[1:5]) or len(data) < 5:
        raise ValueError("a call of one message has another number of messages")
    if not data[0]:
        return content
    inflate = zlib.decompressobj(_ANY_HEADER)
    content = inflate.decompress(content, _MAX_MESSAGE)
    if not inflate.eof:
        raise ValueError("a message is compressed in another way than by gzip or deflate, or too large")
    return content
