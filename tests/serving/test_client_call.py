"""`call`, which calls any signature of any model, and the options of a call and of a channel."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest

from serving import errors
from serving.client import AsyncClient, Client
from serving.launch import ModelServer
from serving.tensors import strings
from tests.serving.clients import Connect, numbered
from tests.serving.conftest import Fake, by_field, listening, refuse


def test_any_signature_of_any_model_is_called_by_name(connect: Connect, server: ModelServer) -> None:
    with connect(server.address, model="half_plus_two") as client:
        outputs = client.call("serving_default", {"x": np.float32([1, 2])})
        assert list(outputs) == ["y"] and outputs["y"].dtype == np.float32 and outputs["y"].tolist() == [2.5, 3.0]
    with connect(server.address, model="odd") as client:
        added = client.call("add", {"a": np.float32([1, 2]), "b": np.float32([10, 20])})
        assert added["sum"].tolist() == [11, 22]
        assert client.call("serving_default", {"x": np.float32(3)})["y"] == np.float32(3.5)  # a scalar
        joined = client.call("join", {"words": strings([b"a", b"\xff\0"])})
        assert joined["joined"].item() == b"a\xff\0" and joined["lengths"].tolist() == [1, 2]
        types = client.call("types", {"x": np.float32([[1, 2]])})
        assert {name: array.dtype.name for name, array in types.items()} == {
            "float64": "float64", "int32": "int32", "int64": "int64", "uint8": "uint8", "float16": "float16",
            "bool": "bool", "string": "object",
        }  # fmt: skip
        assert list(client.call("types", {"x": np.float32([[1, 2]])}, ["int64"])) == ["int64"]


def test_the_calls_of_this_project_s_model_are_the_same_call(
    connect: Connect, server: ModelServer, images: np.ndarray
) -> None:
    with connect(server.address) as client:
        prediction = client.predict(images[:3])
        outputs = client.call("predict_images", {"images": images[:3]})
        rows = client.call("predict_rows", {"images": images[:3]}, ["probabilities"])
        np.testing.assert_array_equal(rows["probabilities"], client.predict_rows(images[:3]))
    np.testing.assert_array_equal(outputs["probabilities"], prediction.probabilities)
    np.testing.assert_array_equal(outputs["class_ids"], prediction.class_ids)


def test_what_the_server_refuses_or_the_client_cannot_encode_is_a_request_error(
    connect: Connect, server: ModelServer
) -> None:
    x = np.float32([1])
    with connect(server.address, model="half_plus_two") as client:
        for call, message in (
            (lambda: client.call("none", {"x": x}), "INVALID_ARGUMENT: The signature none is not one of"),
            (lambda: client.call("serving_default", {"z": x}), "the inputs are x, not z"),
            (lambda: client.call("serving_default", {"x": x}, ["z"]), "the outputs are y, and not z"),
            (lambda: client.call("serving_default", {"x": np.int32([1])}), "the input x is float32, not int32"),
            (lambda: client.call("serving_default", {"x": np.array(["a"])}), "dtype <U1 has no TensorFlow type"),
            (
                lambda: client.call("serving_default", {"x": np.array(["a", 3], object)}),
                "must hold bytes, not int, str",
            ),
            (lambda: client.call("serving_default", {"x": [[1], [2, 3]]}), "cannot be encoded"),
            (lambda: client.call("serving_default", {5: x}), "cannot be encoded"),
            (lambda: client.call("serving_default", x), "cannot be encoded"),
            (lambda: client.call(5, {"x": x}), "cannot be encoded"),
            (lambda: client.call("serving_default", {"x": x}, [5]), "cannot be encoded"),
        ):
            with pytest.raises(errors.RequestError, match=message):
                call()


Method = Callable[..., Any]


def calls(client: Any) -> list[Method]:
    """Every method of a client that sends a request."""
    return [
        lambda **options: client.call("any", {"x": np.float32(1)}, **options),
        lambda **options: client.predict(numbered(1), **options),
        lambda **options: list(client.stream(numbered(1), **options)),
        lambda **options: client.predict_rows(numbered(1), **options),
        lambda **options: client.predict_examples([b""], **options),
        lambda **options: client.classify_examples([b""], **options),
        client.metadata,
        client.status,
        lambda **options: client.reload("model_config_list {}", **options),
    ]


class Noting(Fake):
    """Notes the time that remains and the metadata of each request, and refuses it."""

    def __init__(self) -> None:
        super().__init__(refuse(grpc.StatusCode.INVALID_ARGUMENT))
        self.seen: list[tuple[float, dict[str, Any]]] = []

    def note(self, request: Any, context: Any) -> Any:
        self.seen.append((context.time_remaining(), dict(context.invocation_metadata())))
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "noted")

    Predict = Classify = GetModelMetadata = GetModelStatus = HandleReloadConfigRequest = note


def test_every_call_takes_a_timeout_and_metadata_of_its_own(connect: Connect) -> None:
    fake = Noting()
    metadata = [("authorization", "Bearer abc"), ("trace-bin", b"\x00\xff")]
    with listening(fake) as address, connect(address, timeout=50) as client:
        for call in calls(client):
            for options, least, most in (({}, 40, 51), ({"timeout": 5, "metadata": metadata}, 3, 6)):
                fake.seen.clear()
                with pytest.raises(errors.RequestError, match="noted"):
                    call(**options)
                for remaining, sent in fake.seen:
                    assert least < remaining < most
                    expected = dict(metadata) if options else {}
                    assert {key: value for key, value in sent.items() if key in dict(metadata)} == expected
                assert fake.seen


def test_each_chunk_has_the_timeout_and_the_metadata(connect: Connect) -> None:
    fake, tokens = Fake(by_field), []

    def answer(request: Any, context: Any) -> Any:
        tokens.append(dict(context.invocation_metadata())["token"])
        return by_field(request, context)

    fake.answers = [answer]
    with listening(fake) as address, connect(address) as client:
        assert client.predict(numbered(1, 2, 3), chunk=1, timeout=60, metadata=[("token", "t")]).class_ids.size == 3
    assert tokens == ["t"] * 3 and min(fake.remaining) > 50


@pytest.mark.parametrize(
    "metadata",
    [
        [("Upper", "x")], [("a b", "x")], [("", "x")], [(5, "x")], [("a", 5)], [("a", None)], [("a", b"x")],
        [("a", "é")], [("a", "x\n")], [("a-bin", "x")], [("a",)], "abc", 5, {"a": "b"}, [("a", "b", "c")],
    ],
    ids=repr,
)  # fmt: skip
def test_metadata_that_grpc_cannot_send_is_refused_without_its_value(metadata: Any, connect: Connect) -> None:
    with connect("localhost:1") as client:
        for call in calls(client):
            with pytest.raises(errors.ConfigError, match="metadata"):
                call(metadata=metadata)
        with pytest.raises(errors.ConfigError) as raised:
            client.status(metadata=[("token", "sécret")])
    assert "cret" not in str(raised.value)


class Adding(grpc.UnaryUnaryClientInterceptor, grpc.aio.UnaryUnaryClientInterceptor):
    """Adds metadata to each call and notes its method, for both kinds of clients."""

    def __init__(self, name: str, noted: list[tuple[str, str]]) -> None:
        self.name, self.noted = name, noted

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        method = details.method.decode() if isinstance(details.method, bytes) else details.method
        self.noted.append((self.name, method.rpartition("/")[2]))
        metadata = [*(details.metadata or ()), (self.name, "added")]
        if isinstance(details, grpc.aio.ClientCallDetails):
            return self.go_on(continuation, details._replace(metadata=grpc.aio.Metadata(*metadata)), request)
        return continuation(Details(details.method, details.timeout, metadata, details.credentials), request)

    async def go_on(self, continuation: Any, details: Any, request: Any) -> Any:
        return await continuation(details, request)


class Details(grpc.ClientCallDetails):
    """The details of a call of the blocking client."""

    def __init__(self, method: str, timeout: float, metadata: Any, credentials: Any) -> None:
        self.method, self.timeout, self.metadata, self.credentials = method, timeout, metadata, credentials


def test_interceptors_see_every_call_the_first_one_first(connect: Connect) -> None:
    fake, noted = Noting(), []
    both = [Adding("outer", noted), Adding("inner", noted)]
    with listening(fake) as address, connect(address, interceptors=both) as client:
        for call in calls(client):
            noted.clear()
            fake.seen.clear()
            with pytest.raises(errors.RequestError, match="noted"):
                call(metadata=[("own", "x")])
            assert [name for name, _ in noted[:2]] == ["outer", "inner"]
            assert all(
                {"own": "x", "outer": "added", "inner": "added"}.items() <= sent.items() for _, sent in fake.seen
            )
    with listening(Fake(by_field)) as address, connect(address, interceptors=both) as client:
        assert client.predict(numbered(3, 4), chunk=1).class_ids.tolist() == [3, 4]


class Broken(grpc.UnaryUnaryClientInterceptor, grpc.aio.UnaryUnaryClientInterceptor):
    """Raises an error of its own."""

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        raise KeyError("no token")


def test_an_error_of_an_interceptor_stays_what_it_is(connect: Connect) -> None:
    with listening(Fake(by_field)) as address, connect(address, interceptors=[Broken()]) as client:
        with pytest.raises(KeyError, match="no token"):
            client.predict(numbered(1))
        with pytest.raises(KeyError, match="no token"):
            list(client.stream(numbered(1)))


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compression_makes_requests_small(compression: grpc.Compression, connect: Connect) -> None:
    sizes: dict[Any, int] = {}
    for choice in (None, compression):
        fake = Fake(by_field)
        with (
            Counting() as counting,
            listening(fake) as address,
            connect(counting.to(address), compression=choice) as client,
        ):
            assert client.predict(numbered(*range(200))).class_ids.tolist() == list(range(200))
        sizes[choice] = counting.bytes
    assert sizes[None] > 200 * 784 and sizes[compression] < sizes[None] / 10


class Counting:
    """A proxy on a free port that counts the bytes from the client to the server."""

    def __enter__(self) -> Counting:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.bytes = 0
        return self

    def to(self, address: str) -> str:
        host, _, port = address.rpartition(":")

        async def pipe(reader: Any, writer: Any, count: bool) -> None:
            while data := await reader.read(2**16):
                self.bytes += len(data) if count else 0
                writer.write(data)
            writer.close()

        async def accept(reader: Any, writer: Any) -> None:
            back, forth = await asyncio.open_connection(host, int(port))
            await asyncio.gather(pipe(reader, forth, True), pipe(back, writer, False))

        async def listen() -> int:
            server = await asyncio.start_server(accept, "localhost", 0)
            return int(server.sockets[0].getsockname()[1])

        return f"localhost:{asyncio.run_coroutine_threadsafe(listen(), self.loop).result()}"

    def __exit__(self, *error: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()


def test_both_clients_have_the_same_methods_and_arguments() -> None:
    for name, method in vars(Client).items():
        if callable(method) and not name.startswith("_"):
            own, other = (inspect.signature(getattr(kind, name)).parameters for kind in (Client, AsyncClient))
            assert own == other, name
