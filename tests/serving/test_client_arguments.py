"""Arguments that both clients refuse before anything is sent."""

from __future__ import annotations

import math
from typing import Any

import grpc
import numpy as np
import pytest

from serving import errors
from serving.client import Client
from tests.serving.clients import Connect, numbered
from tests.serving.conftest import Fake, by_field, listening, refuse


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((28, 28), np.uint8), r"not uint8 \[28, 28\]\. .*For one image, use image\[None\]"),
        (np.zeros((2, 28, 28), np.float32), r"not float32 \[2, 28, 28\]\. Scale the pixels to 0 … 255"),
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


@pytest.mark.parametrize("timeout", [None, 0, -1, math.inf, math.nan, 1e10, "2", True, [1]], ids=repr)
def test_a_timeout_that_is_no_deadline_is_refused(timeout: Any, connect: Connect) -> None:
    refused = pytest.raises(errors.ConfigError, match=r"timeout = .* must be a number of seconds above 0")
    with refused:
        connect("localhost:1", timeout=timeout)
    if timeout is not None:  # the client's
        with connect("localhost:1") as client, refused:
            client.status(timeout=timeout)
    with Client("localhost:1") as client, refused:
        client.timeout = timeout
        client.status()


@pytest.mark.parametrize(
    "options",
    [
        {"version": 2**63},
        {"version": -(2**63) - 1},
        {"version": "one"},
        {"version": 1.5},
        {"label": 3},
        {"model": None},
        {"model": b"\xff"},
        {"target": None},
        {"interceptors": [print]},
        {"interceptors": 3},
        {"compression": "gzip"},
    ],
    ids=str,
)
def test_a_client_of_what_cannot_be_is_refused(options: dict[str, Any], connect: Connect) -> None:
    with pytest.raises(errors.ConfigError):
        connect(**options)


def test_examples_that_are_no_bytes_are_refused_before_anything_is_sent(connect: Connect) -> None:
    fake = Fake(by_field)
    with listening(fake) as address, connect(address) as client:
        for call in (client.predict_examples, client.classify_examples):
            for examples in (["abc"], [b"abc", None], "abc", b"abc", 3, [1.5], [[b"a"]]):
                with pytest.raises(errors.RequestError, match=r"serialized tf\.train\.Example") as raised:
                    call(examples)
                assert raised.value.code is None
    assert fake.requests == []


def test_counts_that_are_no_counts_are_refused(connect: Connect) -> None:
    with connect("localhost:1") as client:
        for count in (0, -1, 1.5, "2", None, True):
            for call in (
                lambda count=count: client.predict(numbered(1), chunk=count),
                lambda count=count: list(client.stream(numbered(1), chunk=count)),
                lambda count=count: list(client.stream(numbered(1), in_flight=count)),
            ):
                with pytest.raises(errors.ConfigError, match=r"(chunk|in_flight) = .* must be at least 1"):
                    call()


def test_what_is_no_images_is_an_image_error(connect: Connect) -> None:
    another = refuse(grpc.StatusCode.FAILED_PRECONDITION, "no signature describe")
    with listening(Fake(another)) as address, connect(address) as client:
        for images in (np.uint8(3), np.array(3, np.uint8), "text", [[1, 2]]):
            with pytest.raises((errors.ImageError, errors.ConfigError)):
                client.predict(images)
            with pytest.raises(errors.ImageError):
                list(client.stream([images]))
