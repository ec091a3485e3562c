"""Where a gRPC server listens, with or without TLS."""

from __future__ import annotations

import errno
import socket
from pathlib import Path
from typing import Any

import grpc

from serving import textformat
from serving.errors import ConfigError
from serving.protos import SSLConfig


def listen(server: Any, host: str, port: int, ssl_config: Path | None) -> int:
    """The port on which a server of grpc or grpc.aio then listens; port 0 is any.

    Args:
        ssl_config: a file with TensorFlow Serving's SSLConfig in text format. None means no TLS.

    Raises:
        ConfigError: the port is in use, the address is not of this machine, or the file is not valid.
    """
    address = f"{host}:{port}"
    credentials = _credentials(ssl_config) if ssl_config else None
    try:
        _check_free(host, port)
        if credentials is None:
            return int(server.add_insecure_port(address))
        return int(server.add_secure_port(address, credentials))
    except (RuntimeError, OSError):
        certificate = "" if credentials is None else ", or a valid key and certificate in --ssl_config_file"
        raise ConfigError(
            f"The server cannot listen on {address}: the port is in use, or the address is not of this machine."
            f" Choose another port or host{certificate}."
        ) from None


def _check_free(host: str, port: int) -> None:
    """gRPC is content if one address of a host is free, so localhost could lead to another server."""
    for family, *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        try:
            socket.create_server(address[:2], family=family).close()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise


def _credentials(file: Path) -> grpc.ServerCredentials:
    config = textformat.parse(file, SSLConfig())
    if not config.server_key or not config.server_cert:
        raise ConfigError(f"{file} must hold the PEM texts server_key and server_cert.")
    if config.client_verify and not config.custom_ca:
        raise ConfigError(f"{file} requires client certificates (client_verify) but has no custom_ca to check them.")
    return grpc.ssl_server_credentials(
        [(config.server_key.encode(), config.server_cert.encode())],
        root_certificates=config.custom_ca.encode() or None,
        require_client_auth=config.client_verify,
    )
