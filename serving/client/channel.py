"""The gRPC channel: retries, keepalive, message sizes, and why it has no connection."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Sequence
from typing import Any

import grpc

from serving.errors import ConfigError
from serving.tls import Tls

_MAX_MESSAGE_BYTES = 256 * 2**20
_PROBE = "/grpc.health.v1.Health/Check"
_PROBE_SECONDS = 0.2
BACKOFF = [0.3, 0.75, 1.9, 4.0]
"""The seconds between the attempts of a call, without jitter. A server has time to restart."""

OPTIONS: dict[str, str | int] = {
    # `Attempts` retries: gRPC's own retries lose the reason when the deadline comes, and stop once an answer has begun.
    "grpc.enable_retries": 0,
    "grpc.max_send_message_length": _MAX_MESSAGE_BYTES,
    "grpc.max_receive_message_length": _MAX_MESSAGE_BYTES,
    "grpc.initial_reconnect_backoff_ms": 200,
    "grpc.max_reconnect_backoff_ms": 1_000,
    "grpc.keepalive_time_ms": 60_000,
    "grpc.keepalive_timeout_ms": 20_000,
}
"""The options of every channel."""
# It connects to all addresses, and again at once to one that closes the connection.
_ROUND_ROBIN = ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]}))


class Attempts:
    """The attempts of one call: at most five within the timeout, with exponential backoff and jitter.

    `left` is the number of seconds until the deadline.
    """

    def __init__(self, timeout: float) -> None:
        self._end = time.monotonic() + timeout
        self._waits = iter(BACKOFF)
        self._unavailable: Any = None

    @property
    def left(self) -> float:
        return self._end - time.monotonic()

    def wait(self, error: Any) -> float | None:
        """The seconds until the next attempt after this RpcError; None if there is none."""
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            return None
        self._unavailable = error
        wait = next(self._waits, math.inf) * random.uniform(0.8, 1.2)
        return wait if wait < self.left else None

    def told(self, error: Any) -> Any:
        """The error that is told after the last attempt: that there is no time left is not the reason for a retry."""
        late = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        return self._unavailable or error if late else error


def open_channel(
    library: Any, target: str, tls: Tls | None, compression: grpc.Compression | None, interceptors: Sequence[Any]
) -> tuple[Any, Any]:
    """A channel to `target` of `library`, which is grpc or grpc.aio, and the channel with its interceptors.

    Raises:
        ConfigError: the target, the compression or an interceptor is of a wrong type.
    """
    options: list[tuple[str, Any]] = list(OPTIONS.items())
    if tls is not None and tls.server_name is not None:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    if str(target).startswith("dns:"):
        options.append(_ROUND_ROBIN)
    arguments: dict[str, Any] = {"options": options, "compression": compression}
    if library is grpc.aio:
        arguments["interceptors"] = interceptors
    try:
        if tls is None:
            channel = library.insecure_channel(target, **arguments)
        else:
            credentials = grpc.ssl_channel_credentials(tls.ca, tls.key, tls.cert)
            channel = library.secure_channel(target, credentials, **arguments)
        return channel, channel if library is grpc.aio else grpc.intercept_channel(channel, *interceptors)
    except (TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"There is no channel to {target!r} with these arguments: {error}.") from None


def why_not_connected(channel: grpc.Channel) -> str | None:
    """The reason in gRPC's words why `channel` is not connected; None if it is connected."""
    ready = grpc.channel_ready_future(channel)
    try:
        return ready.result(_PROBE_SECONDS)
    except grpc.FutureTimeoutError:
        ready.cancel()
    try:
        channel.unary_unary(_PROBE)(b"", timeout=_PROBE_SECONDS)
    except grpc.RpcError as error:
        return _reason(error)
    return None


async def why_not_connected_async(channel: grpc.aio.Channel) -> str | None:
    """`why_not_connected` for a channel of grpc.aio."""
    if channel.get_state() is grpc.ChannelConnectivity.READY:
        return None
    try:
        await channel.unary_unary(_PROBE)(b"", timeout=_PROBE_SECONDS)
    except grpc.RpcError as error:
        return _reason(error)
    return None


def _reason(error: Any) -> str | None:
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return "the connection was not ready within the timeout"
    return str(error.details()) if error.code() is grpc.StatusCode.UNAVAILABLE else None
