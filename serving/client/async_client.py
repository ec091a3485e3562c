"""The asyncio client."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Any, Concatenate, ParamSpec, TypeVar

import grpc
import numpy as np

from serving.client.calls import Call, CallMetadata, check_count, chunks
from serving.client.channel import Attempts, why_not_connected_async
from serving.client.client import CHUNK, IN_FLIGHT, BaseClient, Client, Images
from serving.client.images import check_images, read_images, reading_of, unknown_reading
from serving.client.results import Prediction, VersionStatus, merge_predictions
from serving.errors import RequestError, ServingError, from_rpc
from serving.tls import tls_failure

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def _awaitable(
    method: Callable[Concatenate[Client, _Arguments], _Result],
) -> Callable[Concatenate[AsyncClient, _Arguments], Awaitable[_Result]]:
    """A method of `Client` that ends with `_invoke`, which is a coroutine here."""
    return method  # type: ignore[return-value]


class AsyncClient(BaseClient):
    """`Client` for asyncio, with the same arguments. Create it inside the event loop that uses it."""

    _library = grpc.aio
    _event = asyncio.Event

    call = _awaitable(Client.call)
    predict_examples = _awaitable(Client.predict_examples)
    classify_examples = _awaitable(Client.classify_examples)
    describe = _awaitable(Client.describe)
    metadata = _awaitable(Client.metadata)
    reload = _awaitable(Client.reload)

    async def predict(
        self,
        images: Images,
        *,
        fit: str | None = None,
        chunk: int = CHUNK,
        timeout: float | None = None,
        metadata: CallMetadata = (),
    ) -> Prediction:
        """See `Client.predict`."""
        array, notes = await self._array(images, fit, timeout, metadata)
        check_count("chunk", chunk)
        parts = self.stream(array, chunk=chunk, timeout=timeout, metadata=metadata)
        return replace(merge_predictions([part async for part in parts]), notes=notes)

    async def stream(
        self,
        images: np.ndarray | Iterable[np.ndarray],
        *,
        chunk: int = CHUNK,
        in_flight: int = IN_FLIGHT,
        timeout: float | None = None,
        metadata: CallMetadata = (),
    ) -> AsyncIterator[Prediction]:
        """See `Client.stream`."""
        check_count("in_flight", in_flight)
        pending: deque[asyncio.Task[Prediction]] = deque()
        try:
            for part in chunks(images, chunk):
                call = self._calls.predict_images(part)
                pending.append(asyncio.ensure_future(self._invoke(call, timeout, metadata)))
                if len(pending) >= in_flight:
                    yield await pending.popleft()
            while pending:
                yield await pending.popleft()
        finally:
            for task in pending:
                task.cancel()

    async def predict_rows(
        self, images: Images, *, timeout: float | None = None, metadata: CallMetadata = ()
    ) -> np.ndarray:
        """See `Client.predict_rows`."""
        array, _ = await self._array(images, None, timeout, metadata)
        return await self._invoke(self._calls.predict_rows(array), timeout, metadata)

    async def status(self, *, timeout: float | None = None, metadata: CallMetadata = ()) -> list[VersionStatus]:
        """See `Client.status`."""
        version = (await self.metadata(timeout=timeout, metadata=metadata)).version if self._calls.labelled else None
        return await self._invoke(self._calls.status(version), timeout, metadata)

    async def close(self) -> None:
        """See `Client.close`."""
        self._closed.set()
        await self._channel.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def _array(
        self, images: Images, fit: str | None, timeout: float | None, metadata: CallMetadata
    ) -> tuple[np.ndarray, tuple[str, ...]]:
        if isinstance(images, np.ndarray):
            return check_images(images), ()
        try:
            reading = reading_of(await self.describe(timeout=timeout, metadata=metadata))
        except RequestError:  # of another project
            reading = unknown_reading(await self.metadata(timeout=timeout, metadata=metadata))
        return read_images(images, reading, fit)

    async def _invoke(self, call: Call, timeout: float | None, metadata: CallMetadata) -> Any:
        options = self._options(timeout, metadata)
        attempts = Attempts(options["timeout"])
        while True:
            try:
                response = await self._stubs[call.method](call.request, **options)
                break
            except asyncio.CancelledError:
                # grpc.aio cancels the calls of a channel that is closed. The task itself may be cancelled too.
                task = asyncio.current_task()
                if (task and task.cancelling()) or not self._closed.is_set():
                    raise
                raise self._closed_error() from None
            except Exception as error:
                if self._closed.is_set():
                    raise self._closed_error() from None
                if not isinstance(error, grpc.RpcError):
                    raise  # of an interceptor
                wait = attempts.wait(error)
                if wait is None:
                    raise await self._told(attempts.told(error)) from None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), wait)
            options["timeout"] = attempts.left
        return call.parse(response)

    async def _told(self, error: Any) -> ServingError:
        late = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        reason = await why_not_connected_async(self._channel) if late else None
        if self._tls and (reason or error.code() is grpc.StatusCode.UNAVAILABLE):
            reason = await asyncio.to_thread(tls_failure, self.target, self._tls) or reason
        return from_rpc(error, self.target, reason)
