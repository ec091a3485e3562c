"""The blocking client, and what it has in common with the asyncio client."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from serving.client.calls import METHODS, Call, CallMetadata, Calls, check_count, check_metadata, check_timeout, chunks
from serving.client.channel import Attempts, open_channel, why_not_connected
from serving.client.images import check_images, read_images, reading_of, unknown_reading
from serving.client.results import Classification, Description, Metadata, Prediction, VersionStatus, merge_predictions
from serving.errors import ClosedError, RequestError, ServingError, from_rpc
from serving.tls import Tls, tls_failure

TIMEOUT = 10.0
"""Seconds until the deadline of a request."""
CHUNK = 256
"""Images in one request. More images go into several requests."""
IN_FLIGHT = 2
"""Requests that a stream sends before it waits for an answer."""

Images = np.ndarray | Sequence[str | Path]


class BaseClient:
    """The model's address, one channel, and one stub for each gRPC method."""

    _library: Any
    _event: Any

    def __init__(
        self,
        target: str = "localhost:8500",
        *,
        model: str = "mnist",
        version: int | None = None,
        label: str | None = None,
        timeout: float = TIMEOUT,
        tls: Tls | None = None,
        compression: grpc.Compression | None = None,
        interceptors: Sequence[Any] = (),
        log: Any = None,
    ) -> None:
        self.target, self.timeout = target, check_timeout(timeout)
        self._calls = Calls(model, version, label)
        self._tls, self._closed = tls, self._event()
        if log is not None:
            interceptors = [*interceptors, log.interceptor(self._library)]
        self._channel, stubs = open_channel(self._library, target, tls, compression, interceptors)
        self._stubs = {
            method: stubs.unary_unary(
                f"/tensorflow.serving.{method}",
                request_serializer=lambda request: request.SerializeToString(),
                response_deserializer=response.FromString,
            )
            for method, response in METHODS.items()
        }

    def _options(self, timeout: float | None, metadata: CallMetadata) -> dict[str, Any]:
        """The timeout and the metadata of one call. A timeout of None is the client's."""
        if self._closed.is_set():
            raise self._closed_error()
        return {
            "timeout": check_timeout(self.timeout if timeout is None else timeout),
            "metadata": check_metadata(metadata),
        }

    def _closed_error(self) -> ClosedError:
        return ClosedError(f"The client of {self.target} is closed. Create another one.")


class Client(BaseClient):
    """A client with blocking calls. Threads may share it.

    A client keeps one channel. Create it once and use it for all calls. Each method also takes `timeout`, the seconds
    until the deadline of its requests instead of the client's, and `metadata`, pairs of a key and a value that are sent
    with its requests, such as [("authorization", "Bearer …")].

    Args:
        target: `host:port`, or another gRPC name. `dns:///host:port` uses all addresses in turn, others the first
            that answers.
        model: the name of the served model.
        version: a version number. None means the newest available version.
        label: a version label, such as "stable", instead of a version.
        timeout: seconds until the deadline of each request; above 0, at most one day.
        tls: the certificates. None means no TLS.
        compression: how requests are compressed, such as grpc.Compression.Gzip. None means not at all.
        interceptors: client interceptors of grpc, or of grpc.aio for `AsyncClient`; the first one is the outermost.
            They see each attempt.
        log: a `serving.request_log.RequestLog`, which several clients may share. It gets every answer to Predict and
            Classify. Close it after the clients.

    Raises:
        ConfigError: both a version and a label, or a value that is not valid.
        ServingError: from every method. `serving.errors` has one class for each kind of failure.
    """

    _library = grpc
    _event = threading.Event

    def call(
        self,
        signature: str,
        inputs: Mapping[str, np.ndarray],
        output_filter: Sequence[str] = (),
        *,
        timeout: float | None = None,
        metadata: CallMetadata = (),
    ) -> dict[str, np.ndarray]:
        """Calls any signature of any model with TensorFlow Serving's method Predict.

        Args:
            signature: the name of the signature, such as "serving_default".
            inputs: an array of the input's dtype for each input. Strings are bytes in an array of dtype object.
            output_filter: the names of the outputs to return. Empty means all.

        Returns:
            An array for each output.

        Raises:
            RequestError: an input has no TensorFlow type, or the server refuses the inputs.
        """
        return self._invoke(self._calls.call(signature, inputs, output_filter), timeout, metadata)

    def predict(
        self,
        images: Images,
        *,
        fit: str | None = None,
        chunk: int = CHUNK,
        timeout: float | None = None,
        metadata: CallMetadata = (),
    ) -> Prediction:
        """Classifies images.

        Args:
            images: uint8 [N, rows, columns], or the paths of picture files, which are read as the model says.
            fit: how files are read, instead: "digit", "letterbox" or "stretch".
            chunk: the number of images in one request. More images go into several requests.

        Raises:
            ImageError: another dtype or rank, or a file that is not a picture.
        """
        array, notes = self._array(images, fit, timeout, metadata)
        check_count("chunk", chunk)
        parts = [*self.stream(array, chunk=chunk, timeout=timeout, metadata=metadata)]
        return replace(merge_predictions(parts), notes=notes)

    def stream(
        self,
        images: np.ndarray | Iterable[np.ndarray],
        *,
        chunk: int = CHUNK,
        in_flight: int = IN_FLIGHT,
        timeout: float | None = None,
        metadata: CallMetadata = (),
    ) -> Iterator[Prediction]:
        """Classifies batches of images and yields the predictions in the order of the images.

        Args:
            images: uint8 [N, rows, columns], or an iterable of such arrays.
            chunk: the largest number of images in one request.
            in_flight: the largest number of requests on their way at a time.

        Raises:
            ImageError: another dtype or rank.
            ConfigError: `chunk` or `in_flight` is below 1.
        """
        check_count("in_flight", in_flight)
        pending: deque[tuple[Call, Any]] = deque()
        try:
            for part in chunks(images, chunk):
                call = self._calls.predict_images(part)
                future = self._stubs[call.method].future(call.request, **self._options(timeout, metadata))
                pending.append((call, future))
                if len(pending) >= in_flight:
                    yield self._answer(*pending.popleft(), timeout, metadata)
            while pending:
                yield self._answer(*pending.popleft(), timeout, metadata)
        finally:
            for _, future in pending:
                future.cancel()

    def predict_rows(self, images: Images, *, timeout: float | None = None, metadata: CallMetadata = ()) -> np.ndarray:
        """The class probabilities after each row of the images, float32 [N, rows, classes].

        Args:
            images: uint8 [N, rows, columns], or the paths of picture files, which are read as the model says.

        Raises:
            ImageError: as `predict`.
        """
        array, _ = self._array(images, None, timeout, metadata)
        return self._invoke(self._calls.predict_rows(array), timeout, metadata)

    def predict_examples(
        self, examples: Sequence[bytes], *, timeout: float | None = None, metadata: CallMetadata = ()
    ) -> Prediction:
        """Classifies N serialized tf.train.Examples with the signature `serving_default`."""
        return self._invoke(self._calls.predict_examples(examples), timeout, metadata)

    def classify_examples(
        self, examples: Sequence[bytes], *, timeout: float | None = None, metadata: CallMetadata = ()
    ) -> list[Classification]:
        """Classifies N serialized tf.train.Examples with TensorFlow Serving's method Classify."""
        return self._invoke(self._calls.classify_examples(examples), timeout, metadata)

    def describe(self, *, timeout: float | None = None, metadata: CallMetadata = ()) -> Description:
        """What the model says of itself: the names of its classes, and how its inputs are made.

        Raises:
            RequestError: the model has no signature `describe`.
        """
        return self._invoke(self._calls.describe(), timeout, metadata)

    def metadata(self, *, timeout: float | None = None, metadata: CallMetadata = ()) -> Metadata:
        """The model's version and signatures."""
        return self._invoke(self._calls.metadata(), timeout, metadata)

    def status(self, *, timeout: float | None = None, metadata: CallMetadata = ()) -> list[VersionStatus]:
        """The states of the model's versions in the order of their numbers: all, or the client's version or label.

        Raises:
            NotFoundError: the server has no such model or version.
        """
        version = self.metadata(timeout=timeout, metadata=metadata).version if self._calls.labelled else None
        return self._invoke(self._calls.status(version), timeout, metadata)

    def reload(self, config: str | Path, *, timeout: float | None = None, metadata: CallMetadata = ()) -> None:
        """Replaces the server's whole ModelServerConfig. Returns when the server serves its new models.

        TensorFlow Serving loads other versions of a model that it has already after that; `status` has their states.
        The server gives a label only to a version that it serves already: first load the version, then move the label.

        Args:
            config: a ModelServerConfig in text format, or the Path of a file that holds it.

        Raises:
            ConfigError: the text is not a ModelServerConfig.
            ServingError: the server refuses the config.
        """
        return self._invoke(self._calls.reload(config), timeout, metadata)

    def close(self) -> None:
        """Closes the channel. Calls under way fail with ClosedError."""
        self._closed.set()
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _array(
        self, images: Images, fit: str | None, timeout: float | None, metadata: CallMetadata
    ) -> tuple[np.ndarray, tuple[str, ...]]:
        """The images, uint8 [N, rows, columns], and a note for each file."""
        if isinstance(images, np.ndarray):
            return check_images(images), ()
        try:
            reading = reading_of(self.describe(timeout=timeout, metadata=metadata))
        except RequestError:  # of another project
            reading = unknown_reading(self.metadata(timeout=timeout, metadata=metadata))
        return read_images(images, reading, fit)

    def _invoke(self, call: Call, timeout: float | None, metadata: CallMetadata) -> Any:
        return self._answer(call, None, timeout, metadata)

    def _answer(self, call: Call, first: Any, timeout: float | None, metadata: CallMetadata) -> Any:
        """The parsed response of the attempt `first` or of the next ones, or a ServingError for an error of gRPC.

        An error of an interceptor stays what it is.
        """
        options = self._options(timeout, metadata)
        attempts = Attempts(options["timeout"])
        while True:
            try:
                response = first.result() if first else self._stubs[call.method](call.request, **options)
                break
            except Exception as error:
                if self._closed.is_set():
                    raise self._closed_error() from None
                if not isinstance(error, grpc.RpcError):
                    raise
                wait = attempts.wait(error)
                if wait is None:
                    raise self._told(attempts.told(error)) from None
            self._closed.wait(wait)
            first, options["timeout"] = None, attempts.left
        return call.parse(response)

    def _told(self, error: Any) -> ServingError:
        late = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        reason = why_not_connected(self._channel) if late else None
        if self._tls and (reason or error.code() is grpc.StatusCode.UNAVAILABLE):
            reason = tls_failure(self.target, self._tls) or reason
        return from_rpc(error, self.target, reason)
