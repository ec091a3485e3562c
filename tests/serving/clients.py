"""`AsyncClient` with the blocking methods of `Client`, so that each test runs with both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from serving import errors
from serving.client import AsyncClient

Connect = Callable[..., Any]


class BlockingAsyncClient:
    """An AsyncClient and its event loop."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.loop = asyncio.new_event_loop()
        self.task_errors: list[dict[str, Any]] = []
        self.loop.set_exception_handler(self._handle)
        try:
            self.client = self.loop.run_until_complete(self._create(*arguments, **options))
        except errors.ServingError:
            self.loop.close()
            raise

    def _handle(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Keeps the errors of tasks. gRPC reports harmless ones of its own when one loop follows another."""
        if context.keys() & {"task", "future"}:
            self.task_errors.append(context)

    async def _create(self, *arguments: Any, **options: Any) -> AsyncClient:
        return AsyncClient(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            return self.loop.run_until_complete(getattr(self.client, name)(*arguments, **options))

        return call

    def stream(self, *arguments: Any, **options: Any) -> Iterator[Any]:
        parts = self.client.stream(*arguments, **options)
        try:
            while True:
                try:
                    yield self.loop.run_until_complete(anext(parts))
                except StopAsyncIteration:
                    return
        finally:
            self.loop.run_until_complete(parts.aclose())

    def __enter__(self) -> BlockingAsyncClient:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
        self.loop.close()
        assert not self.task_errors


def numbered(*first_pixels: int) -> np.ndarray:
    """Images whose first pixels are these numbers, uint8 [N, 28, 28]."""
    images = np.zeros((len(first_pixels), 28, 28), np.uint8)
    images[:, 0, 0] = first_pixels
    return images
