"""The error that ends an RPC with a status."""

from __future__ import annotations

import grpc


class StatusError(Exception):
    """An RPC ends with `code` and this message."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def invalid(message: str) -> StatusError:
    """A StatusError with INVALID_ARGUMENT."""
    return StatusError(grpc.StatusCode.INVALID_ARGUMENT, message)
