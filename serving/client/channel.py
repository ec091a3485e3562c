"""The attempts of a call, and why a channel has no connection."""

from __future__ import annotations

import math
import random
import time
from typing import Any

import grpc

_PROBE = "/grpc.health.v1.Health/Check"
_PROBE_SECONDS = 0.2
BACKOFF = [0.3, 0.75, 1.9, 4.0]
"""The seconds between the attempts of a call, without jitter. A server has time to restart."""


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
