"""Client interceptors that log what a client asks and is answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc

from serving.request_log.record import METHODS, REQUEST_ID, Add


class LogInterceptor(grpc.UnaryUnaryClientInterceptor):
    """Logs the answers to blocking calls, and to futures when their result is taken, of a `grpc` channel."""

    def __init__(self, add: Add) -> None:
        self._add = add

    def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        call = continuation(details, request)
        if details.method not in METHODS:
            return call
        return _Logged(call, lambda response: self._add(*_entry(details, request, response)))


class AsyncLogInterceptor(grpc.aio.UnaryUnaryClientInterceptor):
    """Logs the answers to the calls of a `grpc.aio` channel."""

    def __init__(self, add: Add) -> None:
        self._add = add

    async def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        call = await continuation(details, request)
        if _text(details.method) in METHODS:
            self._add(*_entry(details, request, await call))
        return call


class _Logged:
    """A call that logs its response before it hands it over. A callback would come after that."""

    def __init__(self, call: Any, log: Callable[[Any], None]) -> None:
        self._call, self._log, self._logged = call, log, False

    def result(self, timeout: float | None = None) -> Any:
        response = self._call.result(timeout)
        if not self._logged:
            self._logged = True
            self._log(response)
        return response

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


def request_id(metadata: Any) -> str | None:
    """The id of a request in its metadata, if the caller gave one."""
    return next((value for key, value in metadata or () if key == REQUEST_ID), None)


def _entry(details: Any, request: Any, response: Any) -> tuple[str, bytes, bytes, str | None]:
    method = METHODS[_text(details.method)]
    return method, request.SerializeToString(), response.SerializeToString(), request_id(details.metadata)


def _text(method: str | bytes) -> str:
    return method.decode() if isinstance(method, bytes) else method  # grpc.aio gives bytes
