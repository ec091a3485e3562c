"""The blocking client and the asyncio client."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from serving.client.calls import METHODS, Call, Calls, chunks
from serving.client.channel import Tls, open_channel
from serving.client.images import image_size, read_images
from serving.client.results import Classification, Metadata, Prediction, VersionStatus, merge_predictions
from serving.errors import from_rpc

TIMEOUT = 10.0
"""Seconds until the deadline of a request."""
CHUNK = 256
"""Images in one request. More images go into several requests."""
IN_FLIGHT = 2
"""Requests that a stream sends before it waits for an answer."""

Images = np.ndarray | Sequence[str | Path]


class _BaseClient:
    """The model's address, one channel, and one stub for each gRPC method."""

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
        self._channel = open_channel(self._library, target, tls)
        self._stubs = {
            method: self._channel.unary_unary(
                method,
                request_serializer=lambda request: request.SerializeToString(),
                response_deserializer=response.FromString,
            )
            for method, response in METHODS.items()
        }


class Client(_BaseClient):
    """A client with blocking calls. Threads may share it.

    A client keeps one channel. Create it once and use it for all calls.

    Args:
        target: `host:port`, or another gRPC name. With `dns:///host:port` the client uses all addresses in turn.
        model: the name of the served model.
        version: a version number. None means the newest available version.
        label: a version label, such as "stable", instead of a version.
        timeout: seconds until the deadline of each request.
        tls: the certificates. None means no TLS.

    Raises:
        ConfigError: both a version and a label.
        ServingError: from every method. `serving.errors` has one class for each kind of failure.
    """

    _library = grpc

    def predict(self, images: Images, *, chunk: int = CHUNK) -> Prediction:
        """Classifies images.

        Args:
            images: uint8 [N, rows, columns], or the paths of image files of the model's size.
            chunk: the number of images in one request. More images go into several requests.

        Raises:
            ImageError: another dtype or rank, or a file that is not an image of the model's size.
            ServingError: the request failed.
        """
        array = self._array(images)
        if len(array) <= chunk:
            return self._invoke(self._calls.predict_images(array))
        return merge_predictions(list(self.stream(array, chunk=chunk)))

    def stream(
        self, images: np.ndarray | Iterable[np.ndarray], *, chunk: int = CHUNK, in_flight: int = IN_FLIGHT
    ) -> Iterator[Prediction]:
        """Classifies batches of images and yields the predictions in the order of the images.

        Args:
            images: uint8 [N, rows, columns], or an iterable of such arrays.
            chunk: the largest number of images in one request.
            in_flight: the largest number of requests on their way at a time.

        Raises:
            ImageError: another dtype or rank.
            ConfigError: a chunk below 1.
            ServingError: a request failed.
        """
        pending: deque[tuple[Any, Call]] = deque()
        try:
            for part in chunks(images, chunk):
                call = self._calls.predict_images(part)
                pending.append((self._stubs[call.method].future(call.request, timeout=self.timeout), call))
                if len(pending) >= in_flight:
                    yield self._result(*pending.popleft())
            while pending:
                yield self._result(*pending.popleft())
        finally:
            for future, _ in pending:
                future.cancel()

    def predict_rows(self, images: Images) -> np.ndarray:
        """The class probabilities after each row of the images, float32 [N, rows, classes].

        Args:
            images: uint8 [N, rows, columns], or the paths of image files of the model's size.

        Raises:
            ImageError: as `predict`.
            ServingError: the request failed.
        """
        return self._invoke(self._calls.predict_rows(self._array(images)))

    def predict_examples(self, examples: Sequence[bytes]) -> Prediction:
        """Classifies N serialized tf.train.Examples with the signature `serving_default`.

        Raises:
            ServingError: the request failed.
        """
        return self._invoke(self._calls.predict_examples(examples))

    def classify_examples(self, examples: Sequence[bytes]) -> list[Classification]:
        """Classifies N serialized tf.train.Examples with TensorFlow Serving's method Classify.

        Raises:
            ServingError: the request failed.
        """
        return self._invoke(self._calls.classify_examples(examples))

    def metadata(self) -> Metadata:
        """The model's version and signatures.

        Raises:
            ServingError: the request failed.
        """
        return self._invoke(self._calls.metadata())

    def status(self) -> list[VersionStatus]:
        """The states of the model's versions, in the order of their numbers.

        Raises:
            NotFoundError: the server has no such model or version.
            ServingError: the request failed.
        """
        return self._invoke(self._calls.status())

    def reload(self, config: str | Path) -> None:
        """Replaces the server's whole ModelServerConfig. Returns when the server serves it.

        The server gives a label only to a version that it serves already: first load the version, then move the label.

        Args:
            config: a ModelServerConfig in text format, or the Path of a file that holds it.

        Raises:
            ConfigError: the text is not a ModelServerConfig.
            ServingError: the server refuses the config.
        """
        self._invoke(self._calls.reload(config))

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _array(self, images: Images) -> np.ndarray:
        return images if isinstance(images, np.ndarray) else read_images(images, image_size(self.metadata()))

    def _invoke(self, call: Call) -> Any:
        try:
            response = self._stubs[call.method](call.request, timeout=self.timeout)
        except grpc.RpcError as error:
            raise from_rpc(error, self.target) from None
        return call.parse(response)

    def _result(self, future: Any, call: Call) -> Any:
        try:
            response = future.result()
        except grpc.RpcError as error:
            raise from_rpc(error, self.target) from None
        return call.parse(response)


class AsyncClient(_BaseClient):
    """`Client` for asyncio, with the same arguments. Create it inside the event loop that uses it."""

    _library = grpc.aio

    async def predict(self, images: Images, *, chunk: int = CHUNK) -> Prediction:
        """See `Client.predict`."""
        array = await self._array(images)
        if len(array) <= chunk:
            return await self._invoke(self._calls.predict_images(array))
        return merge_predictions([part async for part in self.stream(array, chunk=chunk)])

    async def stream(
        self, images: np.ndarray | Iterable[np.ndarray], *, chunk: int = CHUNK, in_flight: int = IN_FLIGHT
    ) -> AsyncIterator[Prediction]:
        """See `Client.stream`."""
        pending: deque[asyncio.Task[Prediction]] = deque()
        try:
            for part in chunks(images, chunk):
                pending.append(asyncio.ensure_future(self._invoke(self._calls.predict_images(part))))
                if len(pending) >= in_flight:
                    yield await pending.popleft()
            while pending:
                yield await pending.popleft()
        finally:
            for task in pending:
                task.cancel()

    async def predict_rows(self, images: Images) -> np.ndarray:
        """See `Client.predict_rows`."""
        return await self._invoke(self._calls.predict_rows(await self._array(images)))

    async def predict_examples(self, examples: Sequence[bytes]) -> Prediction:
        """See `Client.predict_examples`."""
        return await self._invoke(self._calls.predict_examples(examples))

    async def classify_examples(self, examples: Sequence[bytes]) -> list[Classification]:
        """See `Client.classify_examples`."""
        return await self._invoke(self._calls.classify_examples(examples))

    async def metadata(self) -> Metadata:
        """See `Client.metadata`."""
        return await self._invoke(self._calls.metadata())

    async def status(self) -> list[VersionStatus]:
        """See `Client.status`."""
        return await self._invoke(self._calls.status())

    async def reload(self, config: str | Path) -> None:
        """See `Client.reload`."""
        await self._invoke(self._calls.reload(config))

    async def close(self) -> None:
        """Closes the channel."""
        await self._channel.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def _array(self, images: Images) -> np.ndarray:
        return images if isinstance(images, np.ndarray) else read_images(images, image_size(await self.metadata()))

    async def _invoke(self, call: Call) -> Any:
        try:
            response = await self._stubs[call.method](call.request, timeout=self.timeout)
        except grpc.RpcError as error:
            raise from_rpc(error, self.target) from None
        return call.parse(response)
