"""Both clients, blocking and asyncio, with the stand-in."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from serving import errors
from serving.client import AsyncClient, Client, TensorSpec, VersionStatus
from serving.launch import ModelServer
from tests.serving.clients import Connect
from tests.serving.models import LABELS, serialize
from tests.serving.rpc import Rpc, config_of, model_of


class Reference:
    """A SavedModel in this process."""

    def __init__(self, folder: Path) -> None:
        self.model = tf.saved_model.load(str(folder))

    def __call__(self, signature: str, **inputs: Any) -> dict[str, np.ndarray]:
        outputs = self.model.signatures[signature](**{name: tf.constant(value) for name, value in inputs.items()})
        return {name: tensor.numpy() for name, tensor in outputs.items()}


@pytest.fixture(scope="session")
def reference(models: Path) -> dict[int, Reference]:
    return {version: Reference(models / "mnist" / str(version)) for version in (1, 2)}


def check(prediction: Any, expected: dict[str, np.ndarray], version: int = 2) -> None:
    assert prediction.probabilities.dtype == np.float32 and prediction.class_ids.dtype == np.int64
    np.testing.assert_allclose(prediction.probabilities, expected["probabilities"], atol=1e-5)
    np.testing.assert_array_equal(prediction.class_ids, expected["class_ids"])
    assert prediction.versions == (version,)


@pytest.mark.parametrize(("count", "chunk"), [(0, 256), (1, 256), (256, 256), (257, 256), (1000, 64), (1000, 8000)])
def test_predict_answers_as_the_model_does_and_in_order(
    count: int, chunk: int, connect: Connect, server: ModelServer, reference: dict[int, Reference], images: np.ndarray
) -> None:
    with connect(server.address) as client:
        found = client.predict(images[:count], chunk=chunk)
    assert found.probabilities.shape == (count, 10) and found.class_ids.shape == (count,)
    check(found, reference[2]("predict_images", images=images[:count]))


def test_predict_takes_files(
    connect: Connect, server: ModelServer, reference: dict[int, Reference], images: np.ndarray, tmp_path: Path
) -> None:
    paths = [tmp_path / f"{index}.png" for index in range(3)]
    for path, image in zip(paths, images, strict=False):
        Image.fromarray(image).save(path)
    expected = reference[2]("predict_images", images=images[:3])
    with connect(server.address) as client:
        check(client.predict(paths), expected)
        check(client.predict([str(path) for path in paths]), expected)
        assert (
            client.predict(str(paths[1])).class_ids == expected["class_ids"][1:2]
        )  # one path, not a sequence of letters
        assert client.predict_rows(paths).shape == (3, 28, 10)
        assert client.predict([]).probabilities.shape == (0, 10)
        with pytest.raises(errors.ImageError, match="is not a picture"):
            (tmp_path / "text.png").write_text("text")
            client.predict([paths[0], tmp_path / "text.png"])
        with pytest.raises(errors.ImageError, match=r"one uint8 array .* or as paths of image files"):
            client.predict(list(images[:3]))


def test_rows_examples_and_classes_answer_as_the_model_does(
    connect: Connect, server: ModelServer, reference: dict[int, Reference], images: np.ndarray
) -> None:
    images = images[:50]
    records = [serialize(image) for image in images]
    with connect(server.address) as client:
        rows = client.predict_rows(images)
        assert rows.dtype == np.float32 and rows.shape == (50, 28, 10)
        np.testing.assert_allclose(rows, reference[2]("predict_rows", images=images)["probabilities"], atol=1e-5)
        expected = reference[2]("serving_default", examples=records)
        check(client.predict_examples(records), expected)
        classes = client.classify_examples(records)
    assert {one.labels for one in classes} == {LABELS}
    np.testing.assert_allclose(np.stack([one.scores for one in classes]), expected["probabilities"], atol=1e-5)


def test_metadata_names_the_signatures(connect: Connect, server: ModelServer) -> None:
    with connect(server.address) as client:
        found = client.metadata()
    assert found.version == 2
    assert list(found.signatures) == [
        "classify_examples",
        "describe",
        "predict_images",
        "predict_rows",
        "serving_default",
    ]
    images = found.signatures["predict_images"]
    assert images.inputs == {"images": TensorSpec("uint8", (-1, 28, 28))}
    assert images.outputs == {
        "class_ids": TensorSpec("int64", (-1,)),
        "classes": TensorSpec("string", (-1, 10)),
        "probabilities": TensorSpec("float32", (-1, 10)),
    }
    assert found.signatures["serving_default"].inputs == {"examples": TensorSpec("string", (-1,))}
    assert {name: signature.method.rpartition("/")[2] for name, signature in found.signatures.items()} == {
        "classify_examples": "classify",
        "describe": "predict",
        "predict_images": "predict",
        "predict_rows": "predict",
        "serving_default": "predict",
    }


def test_a_version_or_a_label_chooses_who_answers(
    connect: Connect, server: ModelServer, reference: dict[int, Reference], images: np.ndarray
) -> None:
    for choice, version in (
        ({"version": 1}, 1),
        ({"version": 2}, 2),
        ({"label": "stable"}, 1),
        ({"label": "canary"}, 2),
    ):
        with connect(server.address, **choice) as client:
            check(client.predict(images[:20]), reference[version]("predict_images", images=images[:20]), version)
            assert client.metadata().version == version
            assert client.status() == [VersionStatus(version, "AVAILABLE", "")]
    with connect(server.address) as client:
        assert client.status() == [VersionStatus(1, "AVAILABLE", ""), VersionStatus(2, "AVAILABLE", "")]
    with pytest.raises(errors.ConfigError, match="a version or a label, not both"):
        connect(server.address, version=1, label="stable")


def test_what_is_not_served_is_not_found(connect: Connect, server: ModelServer, images: np.ndarray) -> None:
    for choice, message in (
        ({"model": "nobody"}, "The model nobody is not"),
        ({"version": 9}, "Version 9 of the model mnist is not"),
    ):
        with connect(server.address, **choice) as client:
            with pytest.raises(errors.NotFoundError, match=f"{message} available. Check the model's name and version"):
                client.predict(images[:1])
            with pytest.raises(errors.NotFoundError, match=f"{message} known"):
                client.status()
    unknown = pytest.raises(errors.RequestError, match="The model mnist has no label nowhere")
    with connect(server.address, label="nowhere") as client, unknown:
        client.predict(images[:1])
    with connect(server.address, model="half_plus_two") as client:
        with pytest.raises(
            errors.RequestError, match=r"The signature predict_images is not one of the model's: .*metadata\(\) lists"
        ):
            client.predict(images[:1])
        with pytest.raises(errors.ConfigError, match=r"Version 7 has no signature predict_images.*serving_default"):
            client.predict(["image.png"])
    with connect(server.address) as client:
        with pytest.raises(errors.RequestError, match=r"predict_images: Shape of tensor images \[1,27,28\]") as raised:
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
    connect: Connect, server: ModelServer, reference: dict[int, Reference], images: np.ndarray
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
    assert consumed == len(found) == 20 and max(ahead) == 2  # the third request has an answer
    expected = reference[2]("predict_images", images=images[:400])
    np.testing.assert_allclose(
        np.concatenate([part.probabilities for part in found]), expected["probabilities"], atol=1e-5
    )


def test_a_stream_cuts_large_batches_and_takes_small_ones_as_they_are(
    connect: Connect, server: ModelServer, reference: dict[int, Reference], images: np.ndarray
) -> None:
    with connect(server.address) as client:
        found = list(client.stream((images[:25], images[25:26], images[26:26], images[26:40]), chunk=10))
        assert list(client.stream(iter(()))) == []
    assert [len(part.class_ids) for part in found] == [10, 10, 5, 1, 0, 10, 4]
    ids = np.concatenate([part.class_ids for part in found])
    np.testing.assert_array_equal(ids, reference[2]("predict_images", images=images[:40])["class_ids"])


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
        with pytest.raises(errors.RequestError, match="Shape of tensor images"):
            list(client.stream(iter([images[:2, 1:], images[:2, 1:], images[:2, 1:]]), in_flight=3))
        assert len(client.predict(images[:3]).class_ids) == 3


def test_threads_share_one_client(server: ModelServer, reference: dict[int, Reference], images: np.ndarray) -> None:
    expected = reference[2]("predict_images", images=images[:80])["probabilities"]
    with Client(server.address) as client, ThreadPoolExecutor(8) as threads:

        def predict(index: int) -> np.ndarray:
            return client.predict(images[index % 80 : index % 80 + 1]).probabilities[0]

        found = list(threads.map(predict, range(400)))
    np.testing.assert_allclose(found, np.tile(expected, (5, 1)), atol=1e-5)


def test_tasks_share_one_async_client(server: ModelServer, reference: dict[int, Reference], images: np.ndarray) -> None:
    async def predict_all() -> list[Any]:
        async with AsyncClient(server.address) as client:
            return await asyncio.gather(*(client.predict(images[index : index + 1]) for index in range(100)))

    expected = reference[2]("predict_images", images=images[:100])["probabilities"]
    np.testing.assert_allclose([part.probabilities[0] for part in asyncio.run(predict_all())], expected, atol=1e-5)


def test_reload_replaces_what_is_served_and_waits_for_it(
    connect: Connect,
    rpc: Rpc,
    changing_server: ModelServer,
    config_text: str,
    models: Path,
    images: np.ndarray,
    tmp_path: Path,
) -> None:
    only = config_of(model_of("half_plus_two", models / "half_plus_two"))
    unlabelled = "\n".join(line for line in config_text.splitlines() if "version_labels" not in line)
    file = tmp_path / "models.config"
    file.write_text(only)
    with connect(changing_server.address) as client:
        client.reload(unlabelled)
        assert client.predict(images[:1]).versions == (2,)
        client.reload(config_text)  # the version is loaded already, so the label is accepted
        with connect(changing_server.address, label="stable") as labelled:
            assert labelled.predict(images[:1]).versions == (1,)
        client.reload(file)
        with pytest.raises(errors.NotFoundError):
            client.predict(images[:1])
        for config, message in (
            (tmp_path / "nowhere.config", "nowhere.config cannot be read: No such file"),
            (
                "model_config_list { conf",
                "the text: Error parsing text-format tensorflow.serving.ModelServerConfig: 1:21",
            ),
            (
                models / "half_plus_two" / "7" / "saved_model.pb",
                "saved_model.pb: Error parsing text-format",
            ),
        ):
            with pytest.raises(errors.ConfigError, match=message):
                client.reload(config)
        with pytest.raises(errors.ServerError, match="The model mnist is not available") as raised:
            client.reload(unlabelled.replace('/mnist"', '/elsewhere"'))
        assert raised.value.code is grpc.StatusCode.UNKNOWN
    with connect(changing_server.address, model="half_plus_two") as client:
        assert client.metadata().version == 7
