"""The load test sends the requests it reports, counts each once, and measures from its scheduled time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import numpy as np

from serving.client import AsyncClient
from serving.client.client import CHUNK
from serving.client.load import Load, closed_loop, open_loop
from tests.serving.conftest import Fake, by_content, listening


class Busy:
    """An answer that takes `seconds`. It counts simultaneous requests and can refuse every third one."""

    def __init__(self, seconds: float, refusing: bool = False) -> None:
        self.seconds, self.refusing = seconds, refusing
        self.lock = threading.Lock()
        self.count = self.now = self.most = 0

    def __call__(self, request: Any, context: grpc.ServicerContext) -> Any:
        with self.lock:
            self.count, self.now = self.count + 1, self.now + 1
            self.most, third = max(self.most, self.now), self.count % 3 == 0
        try:
            time.sleep(self.seconds)
            if self.refusing and third:
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many")
            return by_content(request, context)
        finally:
            with self.lock:
                self.now -= 1


def run(answer: Busy, loop: Callable[[AsyncClient], Awaitable[Load]]) -> tuple[Load, Fake]:
    async def measure(address: str) -> Load:
        async with AsyncClient(address) as client:
            return await loop(client)

    fake = Fake(answer)
    with listening(fake) as address:
        return asyncio.run(measure(address)), fake


def test_a_closed_loop_keeps_so_many_callers_busy_and_counts_each_request() -> None:
    busy = Busy(0.02)
    images = np.zeros((3, 28, 28), np.uint8)
    load, fake = run(busy, lambda client: closed_loop(client, images, callers=4, seconds=0.6))
    assert busy.most == 4
    assert len(load.latencies) == len(fake.requests) > 4 and load.errors == {}
    assert min(load.latencies) >= 0.02 and 0.6 <= load.seconds < 5
    # Each of the four callers waits 0.02 s per request.
    assert len(load.latencies) <= 4 * (load.seconds / 0.02 + 1)


def test_a_batch_is_one_request_however_large() -> None:
    images = np.zeros((CHUNK + 44, 28, 28), np.uint8)
    load, fake = run(Busy(0), lambda client: closed_loop(client, images, callers=1, seconds=0.1))
    assert {request.inputs["images"].tensor_shape.dim[0].size for request in fake.requests} == {CHUNK + 44}
    assert len(fake.requests) == len(load.latencies)


def test_errors_are_counted_by_code_and_not_timed() -> None:
    busy = Busy(0.005, refusing=True)
    images = np.zeros((1, 28, 28), np.uint8)
    load, fake = run(busy, lambda client: closed_loop(client, images, callers=2, seconds=0.3))
    assert load.errors == {"RESOURCE_EXHAUSTED": len(fake.requests) // 3}
    assert len(load.latencies) + sum(load.errors.values()) == len(fake.requests) > 6


def test_images_that_cannot_be_sent_are_counted_by_the_name_of_their_error() -> None:
    images = np.zeros((1, 28, 28), np.float32)
    load, fake = run(Busy(0), lambda client: open_loop(client, images, rate=50, seconds=0.1))
    assert load.errors == {"ImageError": 5} and fake.requests == []
    assert load.latencies == []


def test_an_open_loop_sends_at_its_rate_though_nothing_is_answered_yet() -> None:
    busy = Busy(0.2)  # the server has eight threads
    images = np.zeros((1, 28, 28), np.uint8)
    load, fake = run(busy, lambda client: open_loop(client, images, rate=120, seconds=0.25))
    assert len(fake.requests) == len(load.latencies) == 30
    assert busy.most == 8  # all threads
    # The wait for a thread counts: 30 requests are four rounds of 0.2 s, and the last one starts after about 0.25 s.
    assert np.percentile(load.latencies, 99) > 0.45 and min(load.latencies) >= 0.2
    assert load.seconds >= 0.8


def test_an_open_loop_counts_from_when_a_request_was_due_though_it_was_sent_later() -> None:
    images = np.zeros((1, 28, 28), np.uint8)

    async def held_up(client: AsyncClient) -> Load:
        asyncio.get_running_loop().call_later(0.05, time.sleep, 0.6)
        return await open_loop(client, images, rate=60, seconds=0.5)

    load, fake = run(Busy(0), held_up)
    assert len(fake.requests) == 30 and max(load.latencies) > 0.5
