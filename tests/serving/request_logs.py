"""The proxy of serving.request_log as a process, and a server of bytes whose answers the metadata choose."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from serving.protos import PredictRequest, PredictResponse
from tests.conftest import ROOT
from tests.serving.rpc import until

PREDICT = "/tensorflow.serving.PredictionService/Predict"
LIMITS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def request(name: str = "m") -> bytes:
    return PredictRequest(model_spec={"name": name}).SerializeToString()


RESPONSE: bytes = PredictResponse(model_spec={"name": "m", "version": {"value": 3}}).SerializeToString()


@dataclass
class Proxy:
    """A running proxy and what it prints."""

    process: subprocess.Popen[bytes]
    output: Path
    out: Path
    address: str = ""

    def stop(self) -> str:
        """Sends SIGTERM, and returns what it has printed."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0
        return self.output.read_text()


@contextmanager
def proxy(target: str, out: Path, *flags: str) -> Iterator[Proxy]:
    """`python -m serving.request_log` before `target`, on a free port. It is killed at the end, if it runs."""
    output = out.with_name(f"{out.name}.output")
    command = [sys.executable, "-m", "serving.request_log", "--listen=0", f"--target={target}", f"--out={out}", *flags]
    with output.open("wb") as file:
        process = subprocess.Popen(command, stderr=file, cwd=ROOT)
    running = Proxy(process, output, out)
    try:
        until(lambda: "Passing on" in output.read_text() or process.poll() is not None)
        (port,) = re.findall(r"Passing on from 127\.0\.0\.1:(\d+) to", output.read_text())
        running.address = f"localhost:{port}"
        yield running
    finally:
        process.kill()
        process.wait()


@dataclass
class Bytes(grpc.GenericRpcHandler):
    """Answers Predict with RESPONSE, or as the metadata say: `fail`, `stall`, `hold`. Its method Chat is a stream."""

    seen: list[dict[str, Any]] = field(default_factory=list)
    remaining: list[float | None] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    cancelled: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        if details.method == PREDICT:
            return grpc.unary_unary_rpc_method_handler(self._predict)
        return grpc.stream_stream_rpc_method_handler(self._chat) if details.method == "/a.B/Chat" else None

    def _predict(self, content: bytes, context: grpc.ServicerContext) -> bytes:
        metadata = dict(context.invocation_metadata())
        self.remaining.append(context.time_remaining())
        self.sizes.append(len(content))
        self.seen.append(metadata)
        context.send_initial_metadata((("first", "1"),))
        context.set_trailing_metadata((("last-bin", b"\0\xff"), ("last", "2")))
        if "fail" in metadata:
            context.abort(grpc.StatusCode.DATA_LOSS, "a ü\nand more")
        if "stall" in metadata:
            context.add_callback(self.cancelled.set)
            self.cancelled.wait(30)
        if "hold" in metadata:
            self.release.wait(30)
        return RESPONSE

    def _chat(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        context.send_initial_metadata((("first", "1"),))
        context.set_trailing_metadata((("last", "2"),))
        for content in requests:
            if content == b"end":
                context.abort(grpc.StatusCode.ABORTED, "ended")
            yield content * 2


@contextmanager
def serving(handler: grpc.GenericRpcHandler, credentials: grpc.ServerCredentials | None = None) -> Iterator[str]:
    """A server with this handler; its address."""
    server = grpc.server(ThreadPoolExecutor(16), options=LIMITS)
    server.add_generic_rpc_handlers((handler,))
    port = (
        server.add_secure_port("localhost:0", credentials) if credentials else server.add_insecure_port("localhost:0")
    )
    server.start()
    try:
        yield f"localhost:{port}"
    finally:
        server.stop(0).wait()
