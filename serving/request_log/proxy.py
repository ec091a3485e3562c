"""A gRPC proxy that passes bytes on, and logs what was answered."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator
from typing import Any

import grpc

from serving.channel import open_channel
from serving.listening import listen
from serving.request_log.interceptors import request_id
from serving.request_log.log import RequestLog
from serving.request_log.record import METHODS
from serving.tls import Tls

_OPTIONS = [
    # The limits are those of the server behind.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.so_reuseport", 0),
]
_DRAIN_SECONDS = 15.0
_REPORT_SECONDS = 60.0
_OF_THE_CONNECTION = {"user-agent"}
log = logging.getLogger(__name__)


class Proxy(grpc.GenericRpcHandler):
    """Passes every call of a server on to `channel` and the answer back: messages, deadline, metadata and status.

    A call is cancelled when its caller cancels it.
    """

    def __init__(self, channel: grpc.aio.Channel, request_log: RequestLog) -> None:
        self._channel, self._log = channel, request_log
        self._handlers = {method: self._logged(method) for method in METHODS}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        method = handler_call_details.method
        return self._handlers.get(method) or self._other(method)

    def _logged(self, method: str) -> grpc.RpcMethodHandler:
        """A handler for a method with one request and one response."""
        forward, name = self._channel.unary_unary(method), METHODS[method]

        async def answer(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
            metadata = context.invocation_metadata()
            call = forward(request, timeout=context.time_remaining(), metadata=_passed_on(metadata))
            try:
                response = await call
            except grpc.aio.AioRpcError as error:
                return await _fail(context, error)
            await _begin(context, await call.initial_metadata())
            context.set_trailing_metadata(await call.trailing_metadata())
            self._log.add(name, request, response, request_id(metadata))
            return response

        return grpc.unary_unary_rpc_method_handler(answer)

    def _other(self, method: str) -> grpc.RpcMethodHandler:
        """A handler for any number of requests and responses."""
        forward = self._channel.stream_stream(method)

        async def answer(requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
            metadata = _passed_on(context.invocation_metadata())
            call = forward(requests, timeout=context.time_remaining(), metadata=metadata)
            try:
                await _begin(context, await call.initial_metadata())
                async for response in call:
                    yield response
                context.set_trailing_metadata(await call.trailing_metadata())
            except grpc.aio.AioRpcError as error:
                await _fail(context, error)

        return grpc.stream_stream_rpc_method_handler(answer)


async def serve(options: argparse.Namespace, tls: Tls | None) -> None:
    """Passes calls on until SIGTERM or SIGINT. Then the running calls finish, and the log's file is completed.

    Args:
        options: the values of the flags.
        tls: the certificates for the server behind. None means no TLS.

    Raises:
        ConfigError: the port is in use, or a file or the target is not valid.
        LogError: the log's folder cannot be written.
    """
    end, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end.set)
    server = grpc.aio.server(options=_OPTIONS)
    port = listen(server, options.host, options.listen, options.ssl_config_file)
    channel, _ = open_channel(grpc.aio, options.target, tls, None, ())
    with RequestLog(
        options.out,
        sample=options.sample,
        redact=options.redact,
        max_mb=options.max_mb,
        max_days=options.max_days,
    ) as request_log:
        server.add_generic_rpc_handlers((Proxy(channel, request_log),))
        await server.start()
        log.info("Passing on from %s:%d to %s, logging to %s ...", options.host, port, options.target, options.out)
        told = request_log.counts
        while not end.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(end.wait(), _REPORT_SECONDS)
            if told != (told := request_log.counts) and not end.is_set():
                log.info("%s", told)
        log.info("Stopping. Running requests have %.0f seconds.", _DRAIN_SECONDS)
        await server.stop(_DRAIN_SECONDS)
    log.info("%s", request_log.counts)


def _passed_on(metadata: Any) -> list[tuple[str, str | bytes]]:
    """The caller's metadata without those that gRPC makes for each connection itself."""
    return [(key, value) for key, value in metadata or () if key not in _OF_THE_CONNECTION]


async def _begin(context: grpc.aio.ServicerContext, metadata: Any) -> None:
    if metadata:
        await context.send_initial_metadata(metadata)


async def _fail(context: grpc.aio.ServicerContext, error: grpc.aio.AioRpcError) -> Any:
    await _begin(context, error.initial_metadata())
    await context.abort(error.code(), error.details() or "", tuple(error.trailing_metadata() or ()))
