"""Both clients behind the same methods, and what their tests share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from serving import errors
from serving.client import AsyncClient

Connect = Callable[..., Any]


class Awaited:
    """An AsyncClient with its event loop, used as a Client is, so that each test tries both."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.loop = asyncio.new_event_loop()
        self.unfetched: list[dict[str, Any]] = []
        self.loop.set_exception_handler(self._note)
        try:
            self.client = self.loop.run_until_complete(self._made(*arguments, **options))
        except errors.ServingError:
            self.loop.close()
            raise

    def _note(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Keeps complaints of tasks; gRPC has its own, harmless, where one loop follows another."""
        if context.keys() & {"task", "future"}:
            self.unfetched.append(context)

    async def _made(self, *arguments: Any, **options: Any) -> AsyncClient:
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

    def __enter__(self) -> Awaited:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
        self.loop.close()
        assert not self.unfetched


def numbered(*first_pixels: int) -> np.ndarray:
    images = np.zeros((len(first_pixels), 28, 28), np.uint8)
    images[:, 0, 0] = first_pixels
    return images
