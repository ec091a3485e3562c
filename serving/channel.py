"""How the client reaches a server: TLS, retries, keepalive, message sizes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import grpc

from serving.errors import ConfigError

MAX_MESSAGE_BYTES = 256 * 2**20

# gRPC's own retries (gRFC A6): exponential backoff with jitter, and a budget that keeps them from becoming a storm.
_SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.2s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
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
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # Only while a call waits: servers answer pings on an idle connection with GOAWAY.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 0),
]


@dataclass(frozen=True)
class Tls:
    """PEM texts. `ca` None trusts the system's; `cert` and `key` are the client's own, for mutual TLS."""

    ca: bytes | None = None
    cert: bytes | None = None
    key: bytes | None = None

    @classmethod
    def from_files(
        cls, ca: str | Path | None = None, cert: str | Path | None = None, key: str | Path | None = None
    ) -> Tls:
        """Reads the PEM files.

        Raises:
            ConfigError: a file that cannot be read, or a certificate without its key.
        """
        if bool(cert) != bool(key):
            raise ConfigError("Mutual TLS takes the client's certificate and its key: give both files, or neither.")
        return cls(*(None if path is None else _read(path) for path in (ca, cert, key)))

    def credentials(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(self.ca, self.key, self.cert)


def _read(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"The PEM file {path} cannot be read: {error.strerror}.") from None
