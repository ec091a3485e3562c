"""An error that becomes the status of an RPC."""

from __future__ import annotations

import grpc


class StatusError(Exception):
    """Ends a request with `code` and the message."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def invalid(message: str) -> StatusError:
    """INVALID_ARGUMENT."""
    return StatusError(grpc.StatusCode.INVALID_ARGUMENT, message)


def code_of(number: int) -> grpc.StatusCode:
    """The gRPC code of a google.rpc.Code, which TensorFlow's errors carry."""
    return next((code for code in grpc.StatusCode if code.value[0] == number), grpc.StatusCode.UNKNOWN)
