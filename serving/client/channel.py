"""The gRPC channel: TLS, retries, keepalive, message sizes, and why it has no connection."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from serving.errors import ConfigError

_MAX_MESSAGE_BYTES = 256 * 2**20
# gRPC retries a call until its deadline while a server cannot be reached, and the error does not say why. The channel
# still knows: a call of this service, without retries, fails at once, with the reason.
_PROBE_SERVICE = "grpc.health.v1.Health"
_PROBE = f"/{_PROBE_SERVICE}/Check"
_PROBE_SECONDS = 0.2

# gRPC retries UNAVAILABLE with exponential backoff and jitter. The throttling limits retries when many calls fail.
# gRPC allows at most five attempts. They spread over some seconds, so a server has time to restart.
_SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.3s",
                "maxBackoff": "4s",
                "backoffMultiplier": 2.5,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        },
        {"name": [{"service": _PROBE_SERVICE}]},
    ],
    "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1},
}

OPTIONS: dict[str, str | int] = {
    "grpc.service_config": json.dumps(_SERVICE_CONFIG),
    "grpc.max_send_message_length": _MAX_MESSAGE_BYTES,
    "grpc.max_receive_message_length": _MAX_MESSAGE_BYTES,
    "grpc.initial_reconnect_backoff_ms": 200,
    "grpc.max_reconnect_backoff_ms": 1_000,
    "grpc.keepalive_time_ms": 60_000,
    "grpc.keepalive_timeout_ms": 20_000,
}
"""The options of every channel."""


@dataclass(frozen=True)
class Tls:
    """PEM texts for TLS, and the server's name.

    Args:
        ca: the certificates of the authorities to trust. None means the authorities of the system.
        cert: the client's certificate, for mutual TLS.
        key: the private key of `cert`, not encrypted.
        server_name: the name in the server's certificate, if it is not the host of the target.

    Raises:
        ConfigError: a certificate without its key, or a text that is not PEM of the expected kind.
    """

    ca: bytes | None = None
    cert: bytes | None = None
    key: bytes | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        # gRPC ends the process when the key is missing. It waits until the deadline when a text is not PEM.
        if (self.cert is None) != (self.key is None):
            raise ConfigError("Mutual TLS needs the client's certificate and its key: give both or neither.")
        for name, kind in (("ca", "CERTIFICATE"), ("cert", "CERTIFICATE"), ("key", "PRIVATE KEY")):
            pem = getattr(self, name)
            if pem is not None and not re.search(f"-----BEGIN (?!ENCRYPTED)([A-Z0-9]+ )*{kind}-----".encode(), pem):
                raise ConfigError(f"The TLS {name} must be PEM text with -----BEGIN {kind}-----, not encrypted.")

    @classmethod
    def from_files(
        cls,
        ca: str | Path | None = None,
        cert: str | Path | None = None,
        key: str | Path | None = None,
        server_name: str | None = None,
    ) -> Tls:
        """Reads PEM files.

        Raises:
            ConfigError: a file that cannot be read or is not PEM, or a certificate without its key.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            pems = [None if path is None else Path(path).read_bytes() for path in (ca, cert, key)]
            tls = cls(pems[0], pems[1], pems[2], server_name)
            if ca is not None:
                context.load_verify_locations(ca)
            if cert is not None:
                context.load_cert_chain(cert, key)
        except OSError as error:  # SSLError is one
            files = ", ".join(str(path) for path in (ca, cert, key) if path is not None)
            raise ConfigError(
                f"The PEM files {files} cannot be used: {getattr(error, 'reason', None) or error}."
            ) from None
        return tls


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
