"""How the client reaches a server: TLS, retries, keepalive, message sizes."""

from __future__ import annotations

import json
import re
import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from serving.errors import ConfigError

MAX_MESSAGE_BYTES = 256 * 2**20

# gRPC's own retries (gRFC A6): exponential backoff with jitter, and a budget that keeps them from becoming a storm.
# Five attempts, the most gRPC makes, spread over some seconds, so that a server may start again meanwhile.
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
        }
    ],
    "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1},
}

OPTIONS: list[tuple[str, str | int]] = [
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    ("grpc.enable_retries", 1),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Only while a call waits: servers answer pings on an idle connection with GOAWAY.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 0),
]


@dataclass(frozen=True)
class Tls:
    """PEM texts. `ca` None trusts the system's; `cert` and `key` are the client's own, for mutual TLS.

    Raises:
        ConfigError: a certificate without its key, or a text that is not the PEM of what it should be.
    """

    ca: bytes | None = None
    cert: bytes | None = None
    key: bytes | None = None

    def __post_init__(self) -> None:
        # gRPC ends the process for a certificate without its key, and waits out the timeout for what is no PEM.
        if (self.cert is None) != (self.key is None):
            raise ConfigError("Mutual TLS takes the client's certificate and its key: give both, or neither.")
        for name, kind in (("ca", "CERTIFICATE"), ("cert", "CERTIFICATE"), ("key", "PRIVATE KEY")):
            pem = getattr(self, name)
            if pem is not None and not re.search(f"-----BEGIN (?!ENCRYPTED)([A-Z0-9]+ )*{kind}-----".encode(), pem):
                raise ConfigError(f"The TLS {name} must be PEM text with -----BEGIN {kind}-----, not encrypted.")

    @classmethod
    def from_files(
        cls, ca: str | Path | None = None, cert: str | Path | None = None, key: str | Path | None = None
    ) -> Tls:
        """Reads the PEM files.

        Raises:
            ConfigError: a file that cannot be read or is no PEM, or a certificate without its key.
        """
        tls = cls(*(None if path is None else _read(path) for path in (ca, cert, key)))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            if ca is not None:
                context.load_verify_locations(ca)
            if cert is not None:
                context.load_cert_chain(cert, key)
        except ssl.SSLError as error:
            files = ", ".join(str(path) for path in (ca, cert, key) if path is not None)
            raise ConfigError(f"The PEM files {files} cannot be used: {error.reason or error}.") from None
        return tls

    def credentials(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(self.ca, self.key, self.cert)


def _read(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"The PEM file {path} cannot be read: {error.strerror}.") from None
