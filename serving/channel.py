"""The gRPC channel to a server: keepalive, message sizes, TLS."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import grpc

from serving.errors import ConfigError
from serving.tls import Tls

_MAX_MESSAGE_BYTES = 256 * 2**20

OPTIONS: dict[str, str | int] = {
    # The client retries: gRPC's own retries lose the reason when the deadline comes, and stop once an answer has begun.
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
