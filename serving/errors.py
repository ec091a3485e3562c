"""What can go wrong between a client and a model server; each message says what to do."""

from __future__ import annotations

import grpc


class ServingError(Exception):
    """Base of all that the client raises. `code` is gRPC's, None for what never left this process."""

    code: grpc.StatusCode | None = None


class ImageError(ServingError):
    """Images that cannot be sent: unreadable, or of a wrong size or type."""


class ConfigError(ServingError):
    """A client or server configuration that cannot work."""


class UnavailableError(ServingError):
    """UNAVAILABLE: nobody answers, or the server is overloaded; what was worth retrying has been retried."""


class DeadlineError(ServingError):
    """DEADLINE_EXCEEDED: no answer within the timeout."""


class NotFoundError(ServingError):
    """NOT_FOUND: the server has no such model, or not in this version."""


class RequestError(ServingError):
    """INVALID_ARGUMENT or FAILED_PRECONDITION: the server refuses what was asked."""


class TooLargeError(ServingError):
    """RESOURCE_EXHAUSTED: a message above one side's limit, or a server out of memory."""


class AuthenticationError(ServingError):
    """UNAUTHENTICATED or PERMISSION_DENIED."""


class UnsupportedError(ServingError):
    """UNIMPLEMENTED: this server does not offer the call."""


class ServerError(ServingError):
    """Any other failure inside the server."""


_KINDS: dict[grpc.StatusCode, tuple[type[ServingError], str]] = {
    grpc.StatusCode.UNAVAILABLE: (
        UnavailableError,
        "Check the address, that the server runs, and that both sides use TLS, each with a certificate the other"
        " trusts, or neither does.",
    ),
    grpc.StatusCode.DEADLINE_EXCEEDED: (
        DeadlineError,
        "Raise the timeout, send smaller batches, or check that the server can be reached and is not overloaded.",
    ),
    grpc.StatusCode.NOT_FOUND: (
        NotFoundError,
        "Check the model's name and version; status() tells what is served.",
    ),
    grpc.StatusCode.INVALID_ARGUMENT: (
        RequestError,
        "metadata() tells which signatures and inputs the model has.",
    ),
    grpc.StatusCode.FAILED_PRECONDITION: (
        RequestError,
        "metadata() tells which signatures the model has, status() which versions are available.",
    ),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (
        TooLargeError,
        "Send smaller chunks, or raise the limits on message size on both sides.",
    ),
    grpc.StatusCode.UNAUTHENTICATED: (AuthenticationError, "Give the client the certificate the server asks for."),
    grpc.StatusCode.PERMISSION_DENIED: (AuthenticationError, "Give the client the certificate the server asks for."),
    grpc.StatusCode.UNIMPLEMENTED: (
        UnsupportedError,
        "This server does not offer the call: is it a TensorFlow Serving at all?",
    ),
}


def from_rpc(error: grpc.RpcError, target: str) -> ServingError:
    """The typed exception of an RPC to `target` that failed."""
    code, details = error.code(), " ".join((error.details() or "").split()).rstrip(".!")
    kind, remedy = _KINDS.get(code, (ServerError, "The server's log has the cause."))
    raised = kind(f"{target}: {code.name}: {details}. {remedy}")
    raised.code = code
    return raised
