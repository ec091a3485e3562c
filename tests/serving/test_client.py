"""Both clients, blocking and asyncio, over real connections: to the stand-in, and to a server whose answers we choose.

The second is made of tensorflow-serving-api's own stubs, which read what we send as TensorFlow Serving would.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
import trustme
from PIL import Image
from tensorflow_serving.apis import predict_pb2

from data.readers import Images
from data.records import serialize
from serving import errors
from serving.answers import TensorSpec, VersionStatus
from serving.channel import Tls
from serving.client import AsyncClient, Client
from serving.launch import ModelServer
from tests.serving.conftest import Fake, by_content, by_field, listening, refuse

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


@pytest.fixture(params=[Client, Awaited], ids=["blocking", "asyncio"])
def connect(request: pytest.FixtureRequest) -> Connect:
    """`Client`, and `AsyncClient` behind the same methods."""
    return request.param


# --- Against the stand-in -------------------------------------------------------------------------------------------


class Truth:
    """A SavedModel in this process."""

    def __init__(self, folder: Path) -> None:
        self.model = tf.saved_model.load(str(folder))

    def __call__(self, signature: str, **inputs: Any) -> dict[str, np.ndarray]:
        outputs = self.model.signatures[signature](**{name: tf.constant(value) for name, value in inputs.items()})
        return {name: tensor.numpy() for name, tensor in outputs.items()}


@pytest.fixture(scope="session")
def truth(models: Path) -> dict[int, Truth]:
    return {version: Truth(models / "mnist" / str(version)) for version in (1, 2)}


@pytest.fixture(scope="session")
def images(digits: dict[str, Images]) -> np.ndarray:
    return digits["test"].pixels


def agree(prediction: Any, wanted: dict[str, np.ndarray], version: int = 2) -> None:
    assert prediction.probabilities.dtype == np.float32 and prediction.class_ids.dtype == np.int64
    np.testing.assert_allclose(prediction.probabilities, wanted["probabilities"], atol=1e-5)
    np.testing.assert_array_equal(prediction.class_ids, wanted["class_ids"])
    assert prediction.versions == (version,)


@pytest.mark.parametrize(("count", "chunk"), [(0, 256), (1, 256), (256, 256), (257, 256), (1000, 64), (1000, 8000)])
def test_predict_answers_as_the_model_does_and_in_order(
    count: int, chunk: int, connect: Connect, server: ModelServer, truth: dict[int, Truth], images: np.ndarray
) -> None:
    with connect(server.address) as client:
        found = client.predict(images[:count], chunk=chunk)
    assert found.probabilities.shape == (count, 10) and found.class_ids.shape == (count,)
    agree(found, truth[2]("predict_images", images=images[:count]))


def test_predict_takes_files(
    connect: Connect, server: ModelServer, truth: dict[int, Truth], images: np.ndarray, tmp_path: Path
) -> None:
    paths = [tmp_path / f"{index}.png" for index in range(3)]
    for path, image in zip(paths, images, strict=False):
        Image.fromarray(image).save(path)
    wanted = truth[2]("predict_images", images=images[:3])
    with connect(server.address) as client:
        agree(client.predict(paths), wanted)
        agree(client.predict([str(path) for path in paths]), wanted)
        assert client.predict(str(paths[1])).class_ids == wanted["class_ids"][1:2]  # not its letters
        assert client.predict_rows(paths).shape == (3, 28, 10)
        assert client.predict([]).probabilities.shape == (0, 10)
        with pytest.raises(errors.ImageError, match="is no image"):
            (tmp_path / "text.png").write_text("text")
            client.predict([paths[0], tmp_path / "text.png"])
        with pytest.raises(errors.ImageError, match=r"one uint8 array .* or as paths of image files"):
            client.predict(list(images[:3]))


def test_rows_examples_and_classes_answer_as_the_model_does(
    connect: Connect, server: ModelServer, truth: dict[int, Truth], digits: dict[str, Images]
) -> None:
    test = digits["test"].take(slice(0, 50))
    records = [serialize(pixels, label) for pixels, label in zip(test.pixels, test.labels, strict=True)]
    with connect(server.address) as client:
        rows = client.predict_rows(test.pixels)
        assert rows.dtype == np.float32 and rows.shape == (50, 28, 10)
        np.testing.assert_allclose(rows, truth[2]("predict_rows", images=test.pixels)["probabilities"], atol=1e-5)
        wanted = truth[2]("serving_default", examples=records)
        agree(client.predict_examples(records), wanted)
        classes = client.classify_examples(records)
    assert {one.labels for one in classes} == {tuple("0123456789")}
    np.testing.assert_allclose(np.stack([one.scores for one in classes]), wanted["probabilities"], atol=1e-5)


def test_metadata_names_the_signatures(connect: Connect, server: ModelServer) -> None:
    with connect(server.address) as client:
        found = client.metadata()
    assert found.version == 2
    assert list(found.signatures) == ["classify_examples", "predict_images", "predict_rows", "serving_default"]
    images = found.signatures["predict_images"]
    assert images.inputs == {"images": TensorSpec("uint8", (-1, 28, 28))}
    assert images.outputs == {
        "class_ids": TensorSpec("int64", (-1,)),
        "probabilities": TensorSpec("float32", (-1, 10)),
    }
    assert found.signatures["serving_default"].inputs == {"examples": TensorSpec("string", (-1,))}
    assert {name: signature.method.rpartition("/")[2] for name, signature in found.signatures.items()} == {
        "classify_examples": "classify",
        "predict_images": "predict",
        "predict_rows": "predict",
        "serving_default": "predict",
    }


def test_a_version_or_a_label_chooses_who_answers(
    connect: Connect, server: ModelServer, truth: dict[int, Truth], images: np.ndarray
) -> None:
    for choice, version in (
        ({"version": 1}, 1),
        ({"version": 2}, 2),
        ({"label": "stable"}, 1),
        ({"label": "canary"}, 2),
    ):
        with connect(server.address, **choice) as client:
            agree(client.predict(images[:20]), truth[version]("predict_images", images=images[:20]), version)
            assert client.metadata().version == version
            assert client.status() == [VersionStatus(version, "AVAILABLE", "")]
    with connect(server.address) as client:
        assert client.status() == [VersionStatus(1, "AVAILABLE", ""), VersionStatus(2, "AVAILABLE", "")]
    with pytest.raises(errors.ConfigError, match="a version or for a label, not for both"):
        connect(server.address, version=1, label="stable")


def test_what_is_not_served_is_not_found(connect: Connect, server: ModelServer, images: np.ndarray) -> None:
    for choice, message in (
        ({"model": "nobody"}, r"Servable not found for request: Latest\(nobody\)"),
        ({"version": 9}, r"Servable not found for request: Specific\(mnist, 9\)"),
    ):
        with connect(server.address, **choice) as client:
            with pytest.raises(errors.NotFoundError, match=f"{message}.*Check the model's name and version"):
                client.predict(images[:1])
            with pytest.raises(errors.NotFoundError, match="Could not find"):
                client.status()
    unknown = pytest.raises(errors.RequestError, match="Unrecognized servable version label: nowhere")
    with connect(server.address, label="nowhere") as client, unknown:
        client.predict(images[:1])
    with connect(server.address, model="half_plus_two") as client:
        with pytest.raises(errors.RequestError, match=r'"predict_images" not found.*metadata\(\) tells'):
            client.predict(images[:1])
        with pytest.raises(errors.ConfigError, match=r"Version 7 has no signature predict_images.*serving_default"):
            client.predict(["image.png"])
    with connect(server.address) as client:
        with pytest.raises(
            errors.RequestError, match=r"must be uint8 \[-1, 28, 28\], not uint8 \[1, 27, 28\]"
        ) as raised:
            client.predict(images[:1, :27])
        assert raised.value.code is grpc.StatusCode.INVALID_ARGUMENT


def test_messages_above_grpcs_four_megabytes_pass_both_ways(
    connect: Connect, server: ModelServer, images: np.ndarray
) -> None:
    many = np.resize(images, (8000, 28, 28))
    with connect(server.address, timeout=60) as client:
        rows = client.predict_rows(many)
        whole = client.predict(many, chunk=8000)
    assert many.nbytes > 6 * 10**6 and rows.nbytes > 8 * 10**6
    np.testing.assert_allclose(rows[7000:, -1], rows[:1000, -1], atol=1e-5)
    np.testing.assert_allclose(whole.probabilities, rows[:, -1], atol=1e-5)


def test_a_stream_keeps_order_and_reads_ahead_no_further_than_what_is_in_flight(
    connect: Connect, server: ModelServer, truth: dict[int, Truth], images: np.ndarray
) -> None:
    consumed, ahead, found = 0, [], []

    def batches() -> Iterator[np.ndarray]:
        nonlocal consumed
        for start in range(0, 400, 20):
            consumed += 1
            yield images[start : start + 20]

    with connect(server.address) as client:
        for part in client.stream(batches(), chunk=20, in_flight=3):
            found.append(part)
            ahead.append(consumed - len(found))
    assert consumed == len(found) == 20 and max(ahead) == 2  # the third has just been answered
    wanted = truth[2]("predict_images", images=images[:400])
    np.testing.assert_allclose(
        np.concatenate([part.probabilities for part in found]), wanted["probabilities"], atol=1e-5
    )


def test_a_stream_cuts_large_batches_and_takes_small_ones_as_they_are(
    connect: Connect, server: ModelServer, truth: dict[int, Truth], images: np.ndarray
) -> None:
    with connect(server.address) as client:
        found = list(client.stream((images[:25], images[25:26], images[26:26], images[26:40]), chunk=10))
        assert list(client.stream(iter(()))) == []
    assert [len(part.class_ids) for part in found] == [10, 10, 5, 1, 0, 10, 4]
    ids = np.concatenate([part.class_ids for part in found])
    np.testing.assert_array_equal(ids, truth[2]("predict_images", images=images[:40])["class_ids"])


def test_a_stream_may_be_left_early_or_fail_and_the_client_lives(
    connect: Connect, server: ModelServer, images: np.ndarray
) -> None:
    def broken() -> Iterator[np.ndarray]:
        yield images[:2]
        yield images[2:4]
        raise OSError("the disk is gone")

    with connect(server.address) as client:
        parts = client.stream(images, chunk=1, in_flight=4)
        assert len(next(parts).class_ids) == 1
        parts.close()
        with pytest.raises(OSError, match="the disk is gone"):
            list(client.stream(broken()))
        with pytest.raises(errors.ImageError, match="must be uint8"):
            list(client.stream(iter([images[:2], images[:2] / 255])))
        with pytest.raises(errors.ConfigError, match="chunk = 0 must be at least 1"):
            list(client.stream(images, chunk=0))
        with pytest.raises(errors.RequestError, match="must be uint8"):
            list(client.stream(iter([images[:2, 1:], images[:2, 1:], images[:2, 1:]]), in_flight=3))
        assert len(client.predict(images[:3]).class_ids) == 3


def test_threads_share_one_client(server: ModelServer, truth: dict[int, Truth], images: np.ndarray) -> None:
    wanted = truth[2]("predict_images", images=images[:80])["probabilities"]
    with Client(server.address) as client, ThreadPoolExecutor(8) as threads:

        def ask(index: int) -> np.ndarray:
            return client.predict(images[index % 80 : index % 80 + 1]).probabilities[0]

        found = list(threads.map(ask, range(400)))
    np.testing.assert_allclose(found, np.tile(wanted, (5, 1)), atol=1e-5)


def test_tasks_share_one_async_client(server: ModelServer, truth: dict[int, Truth], images: np.ndarray) -> None:
    async def ask() -> list[Any]:
        async with AsyncClient(server.address) as client:
            return await asyncio.gather(*(client.predict(images[index : index + 1]) for index in range(100)))

    wanted = truth[2]("predict_images", images=images[:100])["probabilities"]
    np.testing.assert_allclose([part.probabilities[0] for part in asyncio.run(ask())], wanted, atol=1e-5)


@pytest.fixture(scope="module")
def changing(serve: Callable[..., ModelServer], models: Path) -> ModelServer:
    """A server of half_plus_two, for tests that change what is served."""
    return serve("--model_name=half_plus_two", f"--model_base_path={models / 'half_plus_two'}")


def test_reload_replaces_what_is_served_and_waits_for_it(
    connect: Connect, changing: ModelServer, config_text: str, models: Path, images: np.ndarray, tmp_path: Path
) -> None:
    only = f'model_config_list {{ config {{ name: "half_plus_two" base_path: "{models / "half_plus_two"}"'
    only += ' model_platform: "tensorflow" } }'
    unlabelled = "\n".join(line for line in config_text.splitlines() if "version_labels" not in line)
    file = tmp_path / "models.config"
    file.write_text(only)
    with connect(changing.address) as client:
        client.reload(unlabelled)
        assert client.predict(images[:1]).versions == (2,)
        client.reload(config_text)  # a label can be given to what is already served
        with connect(changing.address, label="stable") as labelled:
            assert labelled.predict(images[:1]).versions == (1,)
        client.reload(file)
        with pytest.raises(errors.NotFoundError):
            client.predict(images[:1])
        for config, message in (
            (tmp_path / "nowhere.config", "nowhere.config cannot be read: No such file"),
            ("model_config_list { conf", "the text is no ModelServerConfig in text format: 1:21"),
            (models / "half_plus_two" / "7" / "saved_model.pb", "saved_model.pb is no ModelServerConfig"),
        ):
            with pytest.raises(errors.ConfigError, match=message):
                client.reload(config)
        with pytest.raises(errors.RequestError, match="Only ModelConfigList is currently supported"):
            client.reload("")
        with pytest.raises(errors.ServerError, match=r"Some models did not become available.*mnist") as raised:
            client.reload(unlabelled.replace('/mnist"', '/elsewhere"'))
        assert raised.value.code is grpc.StatusCode.UNKNOWN
    with connect(changing.address, model="half_plus_two") as client:
        assert client.metadata().version == 7


# --- Against a server whose answers we choose -----------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])


def numbered(*first_pixels: int) -> np.ndarray:
    images = np.zeros((len(first_pixels), 28, 28), np.uint8)
    images[:, 0, 0] = first_pixels
    return images


@pytest.mark.parametrize("answer", [by_field, by_content])
def test_tensorflow_servings_own_stubs_read_our_requests_and_we_their_answers(
    answer: Callable[[Any, Any], Any], connect: Connect
) -> None:
    fake = Fake(answer)
    images = np.random.default_rng(1).integers(0, 256, (5, 28, 28), np.uint8)
    with listening(fake) as address, connect(address, model="other", version=3, timeout=7) as client:
        found = client.predict(images)
        assert client.predict(images[:0]).class_ids.shape == (0,)
    np.testing.assert_array_equal(found.class_ids, images[:, 0, 0])
    np.testing.assert_array_equal(found.probabilities, np.eye(10)[images[:, 0, 0] % 10])
    assert found.versions == (5,)
    request = fake.requests[0]
    assert request.model_spec.name == "other" and request.model_spec.signature_name == "predict_images"
    assert request.model_spec.version.value == 3 and not request.model_spec.HasField("version_label")
    assert list(request.inputs) == ["images"] and not request.output_filter
    tensor = request.inputs["images"]
    assert tensor.tensor_content == images.tobytes() and not tensor.int_val
    assert [dim.size for dim in tensor.tensor_shape.dim] == [5, 28, 28]
    assert 5 < (fake.remaining[0] or 0) <= 7


def test_each_call_names_its_signature_and_only_the_version_asked_for(connect: Connect) -> None:
    fake = Fake(refuse(grpc.StatusCode.INVALID_ARGUMENT))
    with listening(fake) as address:
        with connect(address, label="stable") as client:
            assert client.metadata().signatures == {}
            with contextlib.suppress(errors.RequestError):
                client.predict_rows(numbered(1))
        with connect(address) as client, contextlib.suppress(errors.RequestError):
            client.predict_examples([b"a", b""])
    metadata, rows, examples = fake.requests
    assert list(metadata.metadata_field) == ["signature_def"] and metadata.model_spec.version_label == "stable"
    assert rows.model_spec.signature_name == "predict_rows" and rows.model_spec.version_label == "stable"
    assert examples.model_spec.signature_name == "serving_default"
    assert examples.model_spec.WhichOneof("version_choice") is None
    assert tf.make_ndarray(examples.inputs["examples"]).tolist() == [b"a", b""]


def test_chunks_come_back_in_order_though_a_later_one_is_ready_first(connect: Connect) -> None:
    def answer(request: Any, context: Any) -> Any:
        first = tf.make_ndarray(request.inputs["images"])[0, 0, 0]
        time.sleep(0.3 if first in (0, 4) else 0)
        return by_field(request, context)

    fake = Fake(answer)
    with listening(fake) as address, connect(address) as client:
        found = client.predict(numbered(*range(11)), chunk=2)
    assert found.class_ids.tolist() == list(range(11)) and found.versions == (5,)
    assert len(fake.requests) == 6


def test_an_answer_that_is_not_this_projects_says_so(connect: Connect) -> None:
    def other(request: Any, context: Any) -> Any:
        response = predict_pb2.PredictResponse()
        response.outputs["y"].CopyFrom(tf.make_tensor_proto([1.0]))
        return response

    def broken(request: Any, context: Any) -> Any:
        response = by_content(request, context)
        response.outputs["probabilities"].tensor_content = b"odd"
        return response

    with listening(Fake(other, broken)) as address, connect(address) as client:
        with pytest.raises(errors.ServerError, match="answered y but no probabilities: is it this project's"):
            client.predict(numbered(1, 2))
        with pytest.raises(errors.ServerError, match=r"answer's probabilities cannot be read: shape .* takes 80 bytes"):
            client.predict(numbered(1, 2))


# --- Failures -------------------------------------------------------------------------------------------------------


def test_nobody_listening_is_unavailable_after_a_bounded_time(connect: Connect) -> None:
    began = time.monotonic()
    port = free_port()
    with connect(f"localhost:{port}") as client, pytest.raises(errors.UnavailableError) as raised:
        client.predict(numbered(1))
    assert 1 < time.monotonic() - began < 9  # five attempts, and not the whole timeout
    assert raised.value.code is grpc.StatusCode.UNAVAILABLE
    assert f"localhost:{port}" in str(raised.value) and "refused" in str(raised.value)
    assert "Check the address" in str(raised.value) and "\n" not in str(raised.value)


def test_a_server_that_comes_up_meanwhile_answers(connect: Connect) -> None:
    fake, port = Fake(by_field), free_port()
    called, done = threading.Event(), threading.Event()

    def come_up() -> None:
        called.wait()
        time.sleep(1)
        with listening(fake, port):
            done.wait(20)

    with ThreadPoolExecutor(1) as threads, connect(f"localhost:{port}") as client:
        threads.submit(come_up)
        called.set()
        try:
            assert client.predict(numbered(3)).class_ids.tolist() == [3]
        finally:
            done.set()


def test_unavailable_is_tried_again(connect: Connect) -> None:
    busy = refuse(grpc.StatusCode.UNAVAILABLE, "the queue is full")
    fake = Fake(busy, busy, by_field)
    with listening(fake) as address, connect(address) as client:
        assert client.predict(numbered(3)).class_ids.tolist() == [3]
    assert fake.attempts == ["0", "1", "2"] and fake.requests[0] == fake.requests[2]


def test_requests_behind_the_one_that_failed_are_not_complained_of(connect: Connect) -> None:
    def fail(request: Any, context: Any) -> Any:
        number = tf.make_ndarray(request.inputs["images"])[0, 0, 0]
        time.sleep(0.3 if number == 1 else 0)
        context.abort(grpc.StatusCode.INTERNAL, f"image {number}")

    fake = Fake(fail)
    with listening(fake) as address, connect(address) as client:  # asyncio must not log what nobody fetched
        with pytest.raises(errors.ServerError, match="image 1"):
            list(client.stream(numbered(1, 2, 3), chunk=1, in_flight=3))
        gc.collect()
    assert len(fake.requests) == 3


CODES = {
    grpc.StatusCode.INVALID_ARGUMENT: (errors.RequestError, r"metadata\(\) tells"),
    grpc.StatusCode.FAILED_PRECONDITION: (errors.RequestError, r"status\(\) which versions"),
    grpc.StatusCode.NOT_FOUND: (errors.NotFoundError, r"status\(\) tells what is served"),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (errors.TooLargeError, "Send smaller chunks"),
    grpc.StatusCode.UNAUTHENTICATED: (errors.AuthenticationError, "certificate the server asks for"),
    grpc.StatusCode.PERMISSION_DENIED: (errors.AuthenticationError, "certificate the server asks for"),
    grpc.StatusCode.UNIMPLEMENTED: (errors.UnsupportedError, "is it a TensorFlow Serving at all"),
    grpc.StatusCode.INTERNAL: (errors.ServerError, "The server's log has the cause"),
    grpc.StatusCode.ABORTED: (errors.ServerError, "The server's log has the cause"),
}


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
def test_every_other_code_is_raised_at_once_by_its_kind(code: grpc.StatusCode, connect: Connect) -> None:
    kind, remedy = CODES[code]
    fake = Fake(refuse(code, "Something\n\t is wrong."))
    with listening(fake) as address, connect(address) as client:
        with pytest.raises(errors.ServingError) as raised:
            client.predict(numbered(1))
        with pytest.raises(kind):
            list(client.stream(numbered(1, 2, 3), chunk=1, in_flight=1))
    assert type(raised.value) is kind and raised.value.code is code
    assert raised.match(f"^{address}: {code.name}: Something is wrong\\. .*{remedy}")
    assert len(fake.requests) == 2  # one attempt each, and nothing after the first failure


def test_a_server_of_something_else_is_unsupported(connect: Connect) -> None:
    unsupported = pytest.raises(errors.UnsupportedError, match=r"UNIMPLEMENTED: Method not .* TensorFlow Serving")
    with listening(Fake(by_field)) as address, connect(address) as client, unsupported:
        client.status()


def test_a_server_that_hangs_is_a_deadline_error_after_the_timeout(connect: Connect) -> None:
    release = threading.Event()
    with listening(Fake(lambda request, context: release.wait(20))) as address:
        try:
            with connect(address, timeout=0.4) as client:
                for call in (lambda: client.predict(numbered(1)), lambda: list(client.stream(numbered(1, 2), chunk=1))):
                    began = time.monotonic()
                    with pytest.raises(errors.DeadlineError, match="Raise the timeout") as raised:
                        call()
                    assert 0.35 < time.monotonic() - began < 5
                    assert raised.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
        finally:
            release.set()


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((28, 28), np.uint8), r"not uint8 \[28, 28\]: .* one image is image\[None\]"),
        (np.zeros((2, 28, 28), np.float32), r"not float32 \[2, 28, 28\]: scale to 0 … 255"),
        (np.zeros((2, 28, 28, 1), np.uint8), r"not uint8 \[2, 28, 28, 1\]"),
        (np.zeros((2, 28, 28), np.int64), "not int64"),
        (np.zeros(0, np.uint8), r"not uint8 \[0\]"),
    ],
    ids=["one image", "float32", "channels", "int64", "flat"],
)
def test_arrays_that_are_no_images_are_refused_before_anything_is_sent(
    images: np.ndarray, message: str, connect: Connect
) -> None:
    fake = Fake(by_field)
    with listening(fake) as address, connect(address) as client:
        for call in (client.predict, client.predict_rows, lambda images: list(client.stream(images))):
            with pytest.raises(errors.ImageError, match=message) as raised:
                call(images)
            assert raised.value.code is None
    assert fake.requests == []


# --- TLS ------------------------------------------------------------------------------------------------------------


class Authority:
    """A certificate authority, and PEM files in a folder: ca.pem, cert.pem and key.pem."""

    def __init__(self, folder: Path, identity: str) -> None:
        folder.mkdir()
        authority = trustme.CA()
        issued = authority.issue_cert(identity)
        self.ca, self.cert, self.key = (folder / f"{name}.pem" for name in ("ca", "cert", "key"))
        authority.cert_pem.write_to_path(str(self.ca))
        issued.private_key_pem.write_to_path(str(self.key))
        self.cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))

    def server(self, clients: Authority | None = None) -> grpc.ServerCredentials:
        pair = (self.key.read_bytes(), self.cert.read_bytes())
        return grpc.ssl_server_credentials(
            [pair], clients.ca.read_bytes() if clients else None, require_client_auth=clients is not None
        )


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> tuple[Authority, Authority]:
    """Of the server, and of its clients."""
    folder = tmp_path_factory.mktemp("tls")
    return Authority(folder / "server", "localhost"), Authority(folder / "client", "client@example.org")


def test_tls_and_mutual_tls(connect: Connect, authorities: tuple[Authority, Authority]) -> None:
    ours, clients = authorities
    with listening(Fake(by_field), credentials=ours.server()) as address:
        for tls in (Tls.from_files(ours.ca), Tls(ours.ca.read_bytes()), Tls.from_files(str(ours.ca))):
            with connect(address, tls=tls) as client:
                assert client.predict(numbered(4)).class_ids.tolist() == [4]
    mutual = Tls.from_files(ours.ca, clients.cert, clients.key)
    with listening(Fake(by_field), credentials=ours.server(clients)) as address, connect(address, tls=mutual) as client:
        assert client.predict(numbered(4)).class_ids.tolist() == [4]


def test_who_is_not_trusted_is_unavailable_and_nothing_is_answered(authorities: tuple[Authority, Authority]) -> None:
    ours, clients = authorities
    one_way, mutual, clear = Fake(by_field), Fake(by_field), Fake(by_field)
    with (
        listening(one_way, credentials=ours.server()) as tls_address,
        listening(mutual, credentials=ours.server(clients)) as mutual_address,
        listening(clear) as clear_address,
        ThreadPoolExecutor(6) as threads,
    ):

        def ask(address: str, tls: Tls | None) -> BaseException | None:
            with Client(address, tls=tls) as client:
                try:
                    client.predict(numbered(4))
                except errors.ServingError as error:
                    return error
            return None

        cases = [
            (tls_address, Tls.from_files(clients.ca)),
            (tls_address, None),
            (tls_address, Tls()),  # the system's authorities
            (mutual_address, Tls.from_files(ours.ca)),
            (mutual_address, Tls.from_files(ours.ca, ours.cert, ours.key)),
            (clear_address, Tls.from_files(ours.ca)),
        ]
        found = list(threads.map(ask, *zip(*cases, strict=True)))
    assert [type(error) for error in found] == [errors.UnavailableError] * 6
    assert all("both sides use TLS" in str(error) for error in found)
    assert not (one_way.requests or mutual.requests or clear.requests)


def test_pem_files_that_cannot_work_are_refused_before_anything_is_sent(
    authorities: tuple[Authority, Authority], tmp_path: Path
) -> None:
    ours, clients = authorities
    empty, garbage, cut = (tmp_path / name for name in ("empty.pem", "garbage.pem", "cut.pem"))
    empty.touch()
    garbage.write_bytes(bytes(range(256)))
    cut.write_bytes(ours.ca.read_bytes()[:200])
    for arguments, message in (
        ({"ca": tmp_path / "none.pem"}, r"The PEM file .*none\.pem cannot be read: No such file"),
        ({"ca": tmp_path}, "cannot be read: Is a directory"),
        ({"cert": clients.cert}, "certificate and its key: give both, or neither"),
        ({"key": clients.key}, "certificate and its key: give both, or neither"),
        ({"ca": empty}, "The TLS ca must be PEM text with -----BEGIN CERTIFICATE-----"),
        ({"ca": garbage}, "The TLS ca must be PEM text"),
        ({"ca": clients.key}, "The TLS ca must be PEM text"),
        ({"cert": clients.key, "key": clients.cert}, "The TLS cert must be PEM text with -----BEGIN CERTIFICATE-----"),
        ({"cert": clients.cert, "key": clients.cert}, "The TLS key must be PEM text with -----BEGIN PRIVATE KEY-----"),
        ({"ca": cut}, r"cut\.pem cannot be used"),
        ({"cert": clients.cert, "key": ours.key}, "cannot be used: KEY_VALUES_MISMATCH"),
    ):
        with pytest.raises(errors.ConfigError, match=message):
            Tls.from_files(**arguments)
    # gRPC would end this process.
    with pytest.raises(errors.ConfigError, match="give both, or neither"):
        Tls(cert=clients.cert.read_bytes())
