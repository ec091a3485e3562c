"""How an RPC ends with the status of an error."""

from __future__ import annotations

from typing import Any

import grpc

# gRPC sends the message as a header of at most 8 KiB. There a byte may become three.
_MAX_DETAILS_BYTES = 2_000


class StatusError(Exception):
    """An RPC ends with `code` and this message."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def invalid(message: str) -> StatusError:
    """A StatusError with INVALID_ARGUMENT."""
    return StatusError(grpc.StatusCode.INVALID_ARGUMENT, message)


def refuse(context: Any, code: grpc.StatusCode, details: str) -> None:
    """Gives the RPC of `context` a status. The handler then returns None.

    `context.abort` would do the same, but it keeps the request in memory for good.
    """
    context.set_code(code)
    context.set_details(details.encode(errors="replace")[:_MAX_DETAILS_BYTES].decode(errors="ignore"))
