"""Peers on raw sockets, which do what no gRPC server does: they close early, or answer as a proxy."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

SETTINGS = b"\0\0\0\4\0\0\0\0\0"
HEADERS = b"\x88\x0f\x10\x10application/grpc"  # :status 200 and the content-type, in HPACK


def frame(kind: int, content: bytes, flags: int = 0, stream: int = 1) -> bytes:
    """A frame of HTTP/2."""
    return len(content).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + content


def http_status(code: int) -> bytes:
    """An answer of HTTP/2 that is nothing but a status."""
    return frame(1, b"\x48\x03" + str(code).encode(), flags=5)


def message(content: bytes) -> bytes:
    """The headers of an answer and its message, without the trailers."""
    return frame(1, HEADERS, flags=4) + frame(0, b"\0" + len(content).to_bytes(4, "big") + content)


@dataclass
class Peer:
    """Its address, and how many connections it has had."""

    address: str
    connections: int = 0


@contextmanager
def peer(answer: bytes | None) -> Iterator[Peer]:
    """Answers each first request with these bytes and closes; with None it closes after its SETTINGS."""

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.sendall(SETTINGS)
            received = b""
            while answer is not None and b"/tensorflow.serving." not in received:
                if not (data := connection.recv(2**16)):
                    return
                received += data
            connection.sendall(answer or b"")
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(2**16):
                pass

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                found.connections += 1
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        found = Peer(f"localhost:{listener.getsockname()[1]}")
        threading.Thread(target=accept, daemon=True).start()
        yield found
        listener.shutdown(socket.SHUT_RDWR)  # else accept() would keep the port
