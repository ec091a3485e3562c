"""A proxy that passes the bytes of gRPC connections on unchanged, and logs the answers that it reads in them."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import ssl
from typing import Any

from serving.errors import ConfigError
from serving.request_log.calls import Calls
from serving.request_log.log import RequestLog
from serving.tls import Tls, server_context

_DRAIN_SECONDS = 15.0
_REPORT_SECONDS = 60.0
_BUFFER_BYTES = 2**20
# GOAWAY of HTTP/2: the client begins no more calls on this connection, and those that it has begun go on.
_GO_AWAY = b"\0\0\x08\x07\0\0\0\0\0" + (2**31 - 1).to_bytes(4) + b"\0\0\0\0"
# What a client sent before it read that arrives within this time.
_LINGER_SECONDS = 0.2

log = logging.getLogger(__name__)


class Proxy:
    """Connects each connection to a server behind.

    Args:
        target: `host:port` of the server.
        tls: the certificates for it. None means no TLS.
        request_log: gets the answers.

    Raises:
        ConfigError: the target is not `host:port`.
    """

    def __init__(self, target: str, tls: Tls | None, request_log: RequestLog) -> None:
        host, _, port = target.removeprefix("dns:///").rpartition(":")
        if not host or not port.isdecimal():
            raise ConfigError(f"The target {target} must be host:port.")
        self.log, self._target, self._reachable = request_log, target, True
        self.connections: set[Connection] = set()
        self._address = host.strip("[]"), int(port)
        self._tls: dict[str, Any] = {}
        if tls is not None:
            self._tls = {"ssl": tls.context(), "server_hostname": tls.server_name or self._address[0]}

    async def connect(self, end: End) -> None:
        """Connects `end` to the server behind. The first failure of a row is told.

        Raises:
            OSError: the server cannot be reached.
        """
        try:
            await asyncio.get_running_loop().create_connection(lambda: end, *self._address, **self._tls)
        except OSError as error:
            if self._reachable:
                log.warning("%s cannot be reached: %s", self._target, error)
            self._reachable = False
            raise
        self._reachable = True

    async def drain(self) -> None:
        """Tells all clients to begin no more calls, and closes the connections when the running ones have ended."""
        for connection in self.connections:
            connection.go_away()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                await asyncio.sleep(_LINGER_SECONDS)
                while any(connection.calls.open for connection in self.connections):
                    await asyncio.sleep(0.05)
        for connection in list(self.connections):
            connection.client.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                while self.connections:
                    await asyncio.sleep(0.01)


class Connection:
    """A client's connection and the one to the server behind, and the calls in them."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self.calls = Calls(proxy.log.add, proxy.log.drop)
        self._readable, self._going = True, False
        self.client, self.server = End(self, self.from_client), End(self, self.from_server)
        self.client.other, self.server.other = self.server, self.client

    async def begin(self) -> None:
        """Connects to the server behind. If it cannot be reached, the client's connection ends."""
        self._proxy.connections.add(self)
        try:
            await self._proxy.connect(self.server)
        except OSError:
            self.client.close()

    def end(self) -> None:
        self._proxy.connections.discard(self)

    def from_client(self, data: bytes) -> None:
        self.server.write(data)
        self._read(self.calls.from_client, data)

    def from_server(self, data: bytes) -> None:
        # First the log: what a caller has seen is not lost when this process is killed.
        self._read(self.calls.from_server, data)
        self.client.write(data)
        if self._going and self.calls.between_answers:
            self.go_away()

    def go_away(self) -> None:
        """Sends GOAWAY to the client, at once or at the end of what the server is sending."""
        self._going = not self.calls.between_answers
        if not self._going:
            self.client.write(_GO_AWAY)

    def _read(self, read: Any, data: bytes) -> None:
        if not self._readable:
            return
        try:
            read(data)
        except Exception as error:  # whatever it is, the caller gets the answer
            self._readable = False
            self.calls.open.clear()
            log.error("A connection is passed on, but no longer logged, because it is not gRPC: %r", error)


class End(asyncio.Protocol):
    """One end of a connection. What it receives goes to `receive`, and it waits when the other end cannot take more."""

    other: End

    def __init__(self, connection: Connection, receive: Any) -> None:
        self._connection, self._receive = connection, receive
        self._transport: Any = None
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.set_write_buffer_limits(_BUFFER_BYTES)
        if self.other._transport is None:
            transport.pause_reading()
            self._task = asyncio.ensure_future(self._connection.begin())
        elif self.other._transport.is_closing():
            transport.close()
        else:
            self.other._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        self._receive(data)

    def pause_writing(self) -> None:
        self.other._transport.pause_reading()

    def resume_writing(self) -> None:
        self.other._transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self.other.close()
        self._connection.end()

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


async def serve(options: argparse.Namespace, tls: Tls | None) -> None:
    """Passes connections on until SIGTERM or SIGINT. Then the running calls finish, and the log's file is completed.

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
    context = server_context(options.ssl_config_file) if options.ssl_config_file else None
    with RequestLog(
        options.out, sample=options.sample, redact=options.redact, max_mb=options.max_mb, max_days=options.max_days
    ) as request_log:
        proxy = Proxy(options.target, tls, request_log)
        server = await _listen(proxy, options.host, options.listen, context)
        port = server.sockets[0].getsockname()[1]
        log.info("Passing on from %s:%d to %s, logging to %s ...", options.host, port, options.target, options.out)
        told = request_log.counts
        while not end.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(end.wait(), _REPORT_SECONDS)
            if told != (told := request_log.counts) and not end.is_set():
                log.info("%s", told)
        log.info("Stopping. Running requests have %.0f seconds.", _DRAIN_SECONDS)
        server.close()
        await proxy.drain()
    log.info("%s", request_log.counts)


async def _listen(proxy: Proxy, host: str, port: int, context: ssl.SSLContext | None) -> asyncio.Server:
    try:
        loop = asyncio.get_running_loop()
        return await loop.create_server(lambda: Connection(proxy).client, host, port, ssl=context)
    except OSError as error:
        raise ConfigError(
            f"The proxy cannot listen on {host}:{port}: {str(error.strerror).rpartition(': ')[2]}."
            " Choose another --listen or --host."
        ) from None
