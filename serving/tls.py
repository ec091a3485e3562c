"""TLS: the certificates, and why a server does not speak with us."""

from __future__ import annotations

import re
import socket
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving import textformat
from serving.errors import ConfigError
from serving.protos import SSLConfig

_SECONDS = 1.0
_MEANINGS = {
    "KEY_VALUES_MISMATCH": "the key is not that of the certificate",
    "WRONG_VERSION_NUMBER": "the server does not use TLS",
    "RECORD_LAYER_FAILURE": "the server does not use TLS",
    "UNEXPECTED_EOF_WHILE_READING": "the server closes the connection; does it want another certificate of the client?",
}


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
        # gRPC ends the process when the key is missing. It waits until the deadline when a text cannot be used.
        if (self.cert is None) != (self.key is None):
            raise ConfigError("Mutual TLS needs the client's certificate and its key: give both or neither.")
        for name, kind in (("ca", "CERTIFICATE"), ("cert", "CERTIFICATE"), ("key", "PRIVATE KEY")):
            pem = getattr(self, name)
            if pem is not None and not re.search(f"-----BEGIN (?!ENCRYPTED)([A-Z0-9]+ )*{kind}-----".encode(), pem):
                raise ConfigError(f"The TLS {name} must be PEM text with -----BEGIN {kind}-----, not encrypted.")
        try:
            self.context()
        except (OSError, ValueError) as error:  # SSLError is an OSError
            raise ConfigError(f"The TLS certificates cannot be used: {_words(error)}.") from None

    def context(self) -> ssl.SSLContext:
        """The same certificates for Python's TLS."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.set_alpn_protocols(["h2"])
        if self.ca is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(cadata=self.ca.decode("ascii", "ignore"))
        if self.cert is not None and self.key is not None:
            _load(context, self.cert, self.key)
        return context

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
        try:
            pems = [None if path is None else Path(path).read_bytes() for path in (ca, cert, key)]
            return cls(pems[0], pems[1], pems[2], server_name)
        except (OSError, ConfigError) as error:
            files = ", ".join(str(path) for path in (ca, cert, key) if path is not None)
            raise ConfigError(f"The PEM files {files} cannot be used: {str(error).rstrip('.')}.") from None


def read_ssl_config(file: Path) -> Any:
    """TensorFlow Serving's SSLConfig in a file in text format.

    Raises:
        ConfigError: the file cannot be read, or has no key, no certificate, or no authority of the clients to verify.
    """
    config = textformat.parse(file, SSLConfig())
    if not config.server_key or not config.server_cert:
        raise ConfigError(f"{file} must hold the PEM texts server_key and server_cert.")
    if config.client_verify and not config.custom_ca:
        raise ConfigError(f"{file} requires client certificates (client_verify) but has no custom_ca to check them.")
    return config


def server_context(file: Path) -> ssl.SSLContext:
    """Python's TLS for a server with the SSLConfig in a file.

    Raises:
        ConfigError: as `read_ssl_config`, or the texts are not valid.
    """
    config = read_ssl_config(file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["h2"])
    try:
        _load(context, config.server_cert.encode(), config.server_key.encode())
        if config.custom_ca:
            context.load_verify_locations(cadata=config.custom_ca)
        context.verify_mode = ssl.CERT_REQUIRED if config.client_verify else ssl.CERT_NONE
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} holds no certificates that can be used: {_words(error)}.") from None
    return context


def _load(context: ssl.SSLContext, cert: bytes, key: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:  # Python takes nothing but a file
        paths = Path(folder, "cert"), Path(folder, "key")
        for path, pem in zip(paths, (cert, key), strict=True):
            path.write_bytes(pem)
        context.load_cert_chain(*paths, password="")


def tls_failure(target: str, tls: Tls) -> str | None:
    """Why TLS with `target` fails, in OpenSSL's words; None if it does not. gRPC says less, and of one address."""
    host, _, port = target.removeprefix("dns:///").rpartition(":")
    host = host.strip("[]")
    for address in ("127.0.0.1", "::1") if host == "localhost" else (host,):
        try:
            with (
                socket.create_connection((address, int(port)), _SECONDS) as plain,
                tls.context().wrap_socket(
                    plain, server_hostname=tls.server_name or host, suppress_ragged_eofs=False
                ) as secure,
            ):
                secure.recv(1)  # only now the server has seen the client's certificate
        except (ssl.SSLError, ConnectionResetError) as error:
            return f"TLS with {address}: {_words(error)}"
        except (OSError, ValueError):
            continue
    return None


def _words(error: Exception) -> str:
    """OpenSSL's reason, with a word on those that are not plain."""
    reason = getattr(error, "verify_message", None) or getattr(error, "reason", None) or str(error)
    return f"{_MEANINGS[reason]} ({reason})" if reason in _MEANINGS else str(reason).rstrip(".")
