"""The errors of the client, the server and the configuration. Each message says what to do."""

from __future__ import annotations

import re
import unicodedata

import grpc

_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_JOINERS = "\u200c\u200d"


def printable(text: str) -> str:
    """The text with control characters and surrogates as escapes, so that no server's words command a terminal."""
    hidden = {c for c in text if unicodedata.category(c) in _HIDDEN} - {*_JOINERS}
    return text.translate({ord(c): repr(c)[1:-1] for c in hidden})


class ServingError(Exception):
    """The base class. `code` is the gRPC status code; None if no request was sent. The message is `printable`."""

    code: grpc.StatusCode | None = None

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class ImageError(ServingError):
    """Images of a wrong dtype, rank or size, or image files that cannot be read."""


class ConfigError(ServingError):
    """A configuration of the client or the server is not valid."""


class LogError(ServingError):
    """A request log that cannot be written or read."""


class ClosedError(ServingError):
    """The client was closed before the answer came."""


class UnavailableError(ServingError):
    """UNAVAILABLE: there is no connection, or the server is overloaded. The client has retried already, if in time."""


class DeadlineError(ServingError):
    """DEADLINE_EXCEEDED: the server is connected, but its answer did not come within the timeout."""


class NotFoundError(ServingError):
    """NOT_FOUND: the server has no such model or version."""


class RequestError(ServingError):
    """The client cannot encode the request, or the server refuses it: INVALID_ARGUMENT or FAILED_PRECONDITION."""


class TooLargeError(ServingError):
    """RESOURCE_EXHAUSTED or a proxy's HTTP 413: a message is above a size limit, or the server is out of memory."""


class AuthenticationError(ServingError):
    """UNAUTHENTICATED or PERMISSION_DENIED."""


class UnsupportedError(ServingError):
    """UNIMPLEMENTED: the server does not have this method."""


class ServerError(ServingError):
    """Any other failure of the server, or a response that does not fit the request."""


_REQUEST = (RequestError, "metadata() lists the model's signatures and inputs, status() the available versions.")
# In the words of TensorFlow Serving and of the stand-in.
_LABEL = re.compile(r"\bversion label\b|\blabel\b.*\bversions?\b")
_OF_LABELS = (
    "Give the version itself, which status() lists, or set the label: version_labels in the server's"
    " ModelServerConfig, with reload() or --model_config_file. The version of a label must be available."
)
# gRPC says it for HTTP/2 and for HTTP/1, with the code UNKNOWN.
_HTTP_413 = re.compile(r"\bstatus:? 413\b")
_CERTIFICATE = (AuthenticationError, "Give the client a certificate that the server accepts.")
_KINDS: dict[grpc.StatusCode, tuple[type[ServingError], str]] = {
    grpc.StatusCode.UNAVAILABLE: (
        UnavailableError,
        "Check the address and that the server runs. Either both sides use TLS and trust each other's certificate, or"
        " neither side uses TLS.",
    ),
    grpc.StatusCode.DEADLINE_EXCEEDED: (
        DeadlineError,
        "The server is connected, but slow. Use a longer timeout or smaller batches, or see whether it is overloaded.",
    ),
    grpc.StatusCode.NOT_FOUND: (NotFoundError, "Check the model's name and version; status() lists the versions."),
    grpc.StatusCode.INVALID_ARGUMENT: _REQUEST,
    grpc.StatusCode.FAILED_PRECONDITION: _REQUEST,
    grpc.StatusCode.RESOURCE_EXHAUSTED: (
        TooLargeError,
        "Send smaller chunks, or raise the limits on message size on both sides.",
    ),
    grpc.StatusCode.UNAUTHENTICATED: _CERTIFICATE,
    grpc.StatusCode.PERMISSION_DENIED: _CERTIFICATE,
    grpc.StatusCode.UNIMPLEMENTED: (
        UnsupportedError,
        "The server does not have this method. Is it TensorFlow Serving?",
    ),
}


def from_rpc(error: grpc.RpcError, target: str, not_connected: str | None = None) -> ServingError:
    """The ServingError for a failed RPC to `target`; `not_connected` says why there is no connection, if so."""
    code, details = error.code(), error.details() or ""
    if not_connected is not None:
        code, details = grpc.StatusCode.UNAVAILABLE, not_connected
    details = " ".join(details.split()).rstrip(".!")
    kind, remedy = _KINDS.get(code, (ServerError, "See the server's log."))
    if code is grpc.StatusCode.UNKNOWN and _HTTP_413.search(details):
        kind, remedy = _KINDS[grpc.StatusCode.RESOURCE_EXHAUSTED]
    if kind is RequestError and _LABEL.search(details):
        remedy = _OF_LABELS
    raised = kind(f"{target}: {code.name}: {details}. {remedy}")
    raised.code = code
    return raised
