"""Load on a model server: closed loop (so many callers, each waiting for its answer) or open loop (a fixed rate)."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import numpy as np

from serving.client import AsyncClient
from serving.errors import ServingError


@dataclass
class Load:
    """What a load test saw. Latencies are in seconds; in an open loop they count from when a request was due."""

    seconds: float = 0.0
    batch: int = 1
    latencies: list[float] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)

    @property
    def requests_per_second(self) -> float:
        return len(self.latencies) / self.seconds if self.seconds else 0.0

    @property
    def images_per_second(self) -> float:
        return self.requests_per_second * self.batch

    def percentile(self, share: float) -> float:
        """The latency that `share` percent of the answered requests stayed below; NaN where none was answered."""
        return float(np.percentile(self.latencies, share)) if self.latencies else float("nan")


async def closed_loop(client: AsyncClient, images: np.ndarray, callers: int, seconds: float) -> Load:
    """`callers` callers, each sending `images` again as soon as it has its answer."""
    load = Load(batch=len(images))
    start = time.perf_counter()

    async def call() -> None:
        while (sent := time.perf_counter()) < start + seconds:
            await _request(client, images, sent, load)

    await asyncio.gather(*(call() for _ in range(callers)))
    load.seconds = time.perf_counter() - start
    return load


async def open_loop(client: AsyncClient, images: np.ndarray, rate: float, seconds: float, seed: int = 0) -> Load:
    """Requests at `rate` per second on average, at the random times of a Poisson process, answered or not."""
    load = Load(batch=len(images))
    generator = np.random.default_rng(seed)
    due = np.cumsum(generator.exponential(1 / rate, max(1, round(rate * seconds))))
    start = time.perf_counter()
    requests = []
    for moment in due:
        await asyncio.sleep(max(0.0, start + moment - time.perf_counter()))
        requests.append(asyncio.ensure_future(_request(client, images, start + moment, load)))
    await asyncio.gather(*requests)
    load.seconds = time.perf_counter() - start
    return load


async def _request(client: AsyncClient, images: np.ndarray, since: float, load: Load) -> None:
    try:
        await client.predict(images, chunk=len(images))
        load.latencies.append(time.perf_counter() - since)
    except ServingError as error:
        name = error.code.name if error.code else type(error).__name__
        load.errors[name] = load.errors.get(name, 0) + 1
