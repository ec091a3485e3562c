"""A client of TensorFlow Serving's gRPC API that does not import TensorFlow.

    with Client("localhost:8500", model="mnist") as client:
        prediction = client.predict(images)  # uint8 [N, 28, 28], or paths of image files
        prediction.class_ids, prediction.probabilities

`AsyncClient` is the same with `async` and `await`. One client holds one channel; keep it for as long as you call.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from serving.answers import Classification, Metadata, Prediction, VersionStatus, image_size, joined
from serving.calls import Call, Calls, chunks, connect
from serving.channel import Tls
from serving.errors import ImageError, from_rpc

TIMEOUT = 10.0
"""Seconds each request may take."""
CHUNK = 256
"""Images sent in one request; more are sent in several."""
IN_FLIGHT = 2
"""Requests of one stream that are on their way at a time."""

Images = np.ndarray | Sequence[str | Path]


class _Caller:
    """What both clients hold: the address of a model, one channel, and the requests that go through it."""

    _library: Any

    def __init__(
        self,
        target: str = "localhost:8500",
        *,
        model: str = "mnist",
        version: int | None = None,
        label: str | None = None,
        timeout: float = TIMEOUT,
        tls: Tls | None = None,
    ) -> None:
        self.target, self.timeout = target, timeout
        self._calls = Calls(model, version, label)
        self._channel, self._stubs = connect(self._library, target, tls)


class Client(_Caller):
    """Blocking calls. Every method raises a `serving.errors.ServingError`; threads may share one client.

    Args:
        target: `host:port`, or any gRPC name; with `dns:///host:port` calls go round all its addresses.
        model: the served model's name.
        version: a certain version; None for the newest that is available.
        label: a version's label instead, such as "stable".
        timeout: seconds each request may take.
        tls: None for a connection in the clear.

    Raises:
        ConfigError: both a version and a label.
    """

    _library = grpc

    def predict(self, images: Images, *, chunk: int = CHUNK) -> Prediction:
        """Classifies `images`: uint8 [N, rows, columns], or paths of image files of the model's size.

        More than `chunk` images travel in several requests.
        """
        pixels = self._pixels(images)
        if len(pixels) <= chunk:
            return self._call(self._calls.predict_images(pixels))
        return joined(list(self.stream(pixels, chunk=chunk)))

    def stream(
        self, images: np.ndarray | Iterable[np.ndarray], *, chunk: int = CHUNK, in_flight: int = IN_FLIGHT
    ) -> Iterator[Prediction]:
        """Classifies image batches as they come, in order, at most `in_flight` requests of `chunk` images at a time."""
        waiting: deque[tuple[Any, Call]] = deque()
        try:
            for part in chunks(images, chunk):
                call = self._calls.predict_images(part)
                waiting.append((self._stubs[call.path].future(call.request, timeout=self.timeout), call))
                if len(waiting) >= in_flight:
                    yield self._answer(*waiting.popleft())
            while waiting:
                yield self._answer(*waiting.popleft())
        finally:
            for future, _ in waiting:
                future.cancel()

    def predict_rows(self, images: Images) -> np.ndarray:
        """What the network believes after each row: float32 [N, rows, classes]."""
        return self._call(self._calls.predict_rows(self._pixels(images)))

    def predict_examples(self, examples: Sequence[bytes]) -> Prediction:
        """Classifies serialized tf.Examples by the signature `serving_default`."""
        return self._call(self._calls.predict_examples(examples))

    def classify_examples(self, examples: Sequence[bytes]) -> list[Classification]:
        """Classifies serialized tf.Examples by TensorFlow Serving's Classify."""
        return self._call(self._calls.classify_examples(examples))

    def metadata(self) -> Metadata:
        """The model's signatures."""
        return self._call(self._calls.metadata())

    def status(self) -> list[VersionStatus]:
        """The states of the model's versions, oldest first."""
        return self._call(self._calls.status())

    def reload(self, config: str | Path) -> None:
        """Replaces the server's whole ModelServerConfig by this text, or by this file's, and waits until it serves.

        A label can only be given to a version that is served already: first load it, then move the label.
        """
        self._call(self._calls.reload(config))

    def close(self) -> None:
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _pixels(self, images: Images) -> np.ndarray:
        return images if isinstance(images, np.ndarray) else _from_files(_paths(images), self.metadata())

    def _call(self, call: Call) -> Any:
        try:
            response = self._stubs[call.path](call.request, timeout=self.timeout)
        except grpc.RpcError as error:
            raise from_rpc(error, self.target) from None
        return call.read(response)

    def _answer(self, future: Any, call: Call) -> Any:
        try:
            response = future.result()
        except grpc.RpcError as error:
            raise from_rpc(error, self.target) from None
        return call.read(response)


class AsyncClient(_Caller):
    """`Client` for asyncio, with the same arguments. It must be made inside the event loop that uses it."""

    _library = grpc.aio

    async def predict(self, images: Images, *, chunk: int = CHUNK) -> Prediction:
        """As `Client.predict`."""
        pixels = await self._pixels(images)
        if len(pixels) <= chunk:
            return await self._call(self._calls.predict_images(pixels))
        return joined([part async for part in self.stream(pixels, chunk=chunk)])

    async def stream(
        self, images: np.ndarray | Iterable[np.ndarray], *, chunk: int = CHUNK, in_flight: int = IN_FLIGHT
    ) -> AsyncIterator[Prediction]:
        """As `Client.stream`."""
        waiting: deque[asyncio.Task[Prediction]] = deque()
        try:
            for part in chunks(images, chunk):
                waiting.append(asyncio.ensure_future(self._call(self._calls.predict_images(part))))
                if len(waiting) >= in_flight:
                    yield await waiting.popleft()
            while waiting:
                yield await waiting.popleft()
        finally:
            for task in waiting:
                task.cancel()

    async def predict_rows(self, images: Images) -> np.ndarray:
        """As `Client.predict_rows`."""
        return await self._call(self._calls.predict_rows(await self._pixels(images)))

    async def predict_examples(self, examples: Sequence[bytes]) -> Prediction:
        """As `Client.predict_examples`."""
        return await self._call(self._calls.predict_examples(examples))

    async def classify_examples(self, examples: Sequence[bytes]) -> list[Classification]:
        """As `Client.classify_examples`."""
        return await self._call(self._calls.classify_examples(examples))

    async def metadata(self) -> Metadata:
        """As `Client.metadata`."""
        return await self._call(self._calls.metadata())

    async def status(self) -> list[VersionStatus]:
        """As `Client.status`."""
        return await self._call(self._calls.status())

    async def reload(self, config: str | Path) -> None:
        """As `Client.reload`."""
        await self._call(self._calls.reload(config))

    async def close(self) -> None:
        await self._channel.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def _pixels(self, images: Images) -> np.ndarray:
        return images if isinstance(images, np.ndarray) else _from_files(_paths(images), await self.metadata())

    async def _call(self, call: Call) -> Any:
        try:
            response = await self._stubs[call.path](call.request, timeout=self.timeout)
        except grpc.RpcError as error:
            raise from_rpc(error, self.target) from None
        return call.read(response)


def _paths(images: Sequence[str | Path]) -> list[str | Path]:
    paths: list[str | Path] = [images] if isinstance(images, (str, Path)) else [*images]
    if not all(isinstance(path, (str, Path)) for path in paths):
        raise ImageError("Give the images as one uint8 array [N, rows, columns], or as paths of image files.")
    return paths


def _from_files(paths: Sequence[str | Path], metadata: Metadata) -> np.ndarray:
    from serving.images import read_images  # Pillow is needed for files only

    return read_images(paths, image_size(metadata))


if __name__ == "__main__":
    import sys

    from serving.cli import main

    sys.exit(main())
