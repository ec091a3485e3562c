"""Load tests of a model server: a closed loop with a number of callers, or an open loop with a request rate."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from serving.client.async_client import AsyncClient
from serving.errors import ServingError


@dataclass
class Load:
    """The result of a load test.

    Args:
        seconds: how long the test took.
        latencies: the seconds each answered request took. In an open loop they start at the scheduled time.
        errors: the number of failed requests by status code.
    """

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)


async def closed_loop(client: AsyncClient, images: np.ndarray, callers: int, seconds: float) -> Load:
    """Runs `callers` callers for `seconds`. Each sends `images` [N, …] again as soon as it has the answer."""
    load = Load()
    start = time.perf_counter()

    async def call() -> None:
        while (sent := time.perf_counter()) < start + seconds:
            await _request(client, images, sent, load)

    await asyncio.gather(*(call() for _ in range(callers)))
    load.seconds = time.perf_counter() - start
    return load


async def open_loop(client: AsyncClient, images: np.ndarray, rate: float, seconds: float) -> Load:
    """Sends `images` [N, …] `rate` times per second for `seconds`. It does not wait for the answers.

    The times are a Poisson process, the same in every test.
    """
    load = Load()
    times = np.cumsum(np.random.default_rng(0).exponential(1 / rate, max(1, round(rate * seconds))))
    start = time.perf_counter()
    requests = []
    for offset in times:
        await asyncio.sleep(max(0.0, start + offset - time.perf_counter()))
        requests.append(asyncio.ensure_future(_request(client, images, start + offset, load)))
    await asyncio.gather(*requests)
    load.seconds = time.perf_counter() - start
    return load


async def _request(client: AsyncClient, images: np.ndarray, scheduled: float, load: Load) -> None:
    try:
        await client.predict(images, chunk=len(images))
        load.latencies.append(time.perf_counter() - scheduled)
    except ServingError as error:
        load.errors[error.code.name if error.code else type(error).__name__] += 1
