"""Why a channel has no connection.

gRPC retries a call until its deadline while a server cannot be reached. Then the call ends with DEADLINE_EXCEEDED, and
gRPC does not say why. The channel still knows: a call without retries fails at once, with the reason.
"""

from __future__ import annotations

import threading
from typing import Any

import grpc

PROBE_SERVICE = "grpc.health.v1.Health"
"""The service config of the channel must not retry the calls of this service."""
_PROBE = f"/{PROBE_SERVICE}/Check"
_SECONDS = 0.2
_STILL_CONNECTING = "the connection was not ready within the timeout"


def why_not_connected(channel: grpc.Channel) -> str | None:
    """The reason in gRPC's words why `channel` is not connected; None if it is connected."""
    if _state(channel) is grpc.ChannelConnectivity.READY:
        return None
    try:
        channel.unary_unary(_PROBE)(b"", timeout=_SECONDS)
    except grpc.RpcError as error:
        return _reason(error)
    return None


async def why_not_connected_async(channel: grpc.aio.Channel) -> str | None:
    """`why_not_connected` for a channel of grpc.aio."""
    if channel.get_state() is grpc.ChannelConnectivity.READY:
        return None
    try:
        await channel.unary_unary(_PROBE)(b"", timeout=_SECONDS)
    except grpc.RpcError as error:
        return _reason(error)
    return None


def _state(channel: grpc.Channel) -> grpc.ChannelConnectivity:
    """The state of a blocking channel, which passes it only to a callback."""
    states, received = [], threading.Event()

    def on_state(state: grpc.ChannelConnectivity) -> None:
        states.append(state)
        received.set()

    channel.subscribe(on_state)
    received.wait(_SECONDS)
    channel.unsubscribe(on_state)
    return states[0] if states else grpc.ChannelConnectivity.IDLE


def _reason(error: Any) -> str | None:
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return str(error.details())
    return _STILL_CONNECTING if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED else None
