"""Dynamic batching: requests that wait together are computed together."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np

from serving.model_server.status import StatusError, invalid

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Parameters:
    """TensorFlow Serving's BatchingParameters, with its defaults."""

    max_batch_size: int = 1000
    batch_timeout: float = 0.0  # seconds
    max_enqueued_batches: int = 10
    num_batch_threads: int = 2
    allowed_batch_sizes: tuple[int, ...] = ()


@dataclass
class _Task:
    inputs: Arrays
    size: int
    answer: asyncio.Future[Arrays] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Queue:
    """The tasks that wait for one signature of one servable.

    Args:
        run: computes the outputs of inputs, off the event loop.
        parameters: sizes and waiting times.
        threads: one slot for each batch thread, shared by all queues.
    """

    def __init__(
        self, run: Callable[[Arrays], Awaitable[Arrays]], parameters: Parameters, threads: asyncio.Semaphore
    ) -> None:
        self._run, self._parameters, self._threads = run, parameters, threads
        self._tasks: deque[_Task] = deque()
        self._rows = 0
        self._full = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._batches: set[asyncio.Task[None]] = set()

    async def submit(self, inputs: Arrays) -> Arrays:
        """The outputs for `inputs`, computed together with what else waits.

        Raises:
            StatusError: INVALID_ARGUMENT for inputs that are no batch; UNAVAILABLE when the queue is full.
        """
        sizes = {array.shape[0] if array.ndim else None for array in inputs.values()}
        if None in sizes:
            raise invalid("Batching session Run() input tensors must have at least one dimension")
        if len(sizes) != 1:
            raise invalid("Batching session Run() input tensors must have equal 0th-dimension size")
        size, most = sizes.pop() or 0, self._parameters.max_batch_size
        if size > most:
            raise invalid(f"Task size {size} is larger than maximum input batch size {most}")
        if self._rows + size > self._parameters.max_enqueued_batches * most:
            raise StatusError(
                grpc.StatusCode.UNAVAILABLE, "The batch scheduling queue to which this task was submitted is full"
            )
        task = _Task(inputs, size)
        self._tasks.append(task)
        self._rows += size
        if self._rows >= most:
            self._full.set()
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        return await task.answer

    async def _work(self) -> None:
        """Forms batches until no task waits."""
        while self._tasks:
            if self._parameters.batch_timeout and not self._full.is_set():
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._full.wait(), self._parameters.batch_timeout)
            await self._threads.acquire()
            batch = asyncio.create_task(self._compute(self._take()))
            self._batches.add(batch)
            batch.add_done_callback(self._batches.discard)
        self._worker = None

    def _take(self) -> list[_Task]:
        taken: list[_Task] = []
        size = 0
        while self._tasks and size + self._tasks[0].size <= self._parameters.max_batch_size:
            task = self._tasks.popleft()
            self._rows -= task.size
            if not task.answer.done():  # or its caller has gone
                taken.append(task)
                size += task.size
        if self._rows < self._parameters.max_batch_size:
            self._full.clear()
        return taken

    async def _compute(self, tasks: list[_Task]) -> None:
        try:
            if tasks:
                await self._answer(tasks)
        finally:
            self._threads.release()

    async def _answer(self, tasks: Sequence[_Task]) -> None:
        total = sum(task.size for task in tasks)
        allowed = self._parameters.allowed_batch_sizes if total else ()
        padded = next((size for size in allowed if size >= total), total)
        try:
            joined = {name: _joined([task.inputs[name] for task in tasks], padded - total) for name in tasks[0].inputs}
            outputs = await self._run(joined)
            if any(not array.ndim or array.shape[0] != padded for array in outputs.values()):
                raise StatusError(
                    grpc.StatusCode.FAILED_PRECONDITION,
                    "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the"
                    " input tensors",
                )
        except Exception as error:
            # One bad request must not fail its neighbours.
            if len(tasks) > 1:
                for task in tasks:
                    await self._answer([task])
            elif not tasks[0].answer.done():
                tasks[0].answer.set_exception(error)
            return
        start = 0
        for task in tasks:
            if not task.answer.done():
                task.answer.set_result({name: array[start : start + task.size] for name, array in outputs.items()})
            start += task.size


def _joined(arrays: list[np.ndarray], padding: int) -> np.ndarray:
    rows = np.concatenate(arrays) if len(arrays) > 1 else arrays[0]
    return np.concatenate([rows, np.repeat(rows[:1], padding, axis=0)]) if padding else rows


def parameters_of(message: Any, cores: int) -> Parameters:
    """The Parameters of a BatchingParameters message; `cores` batch threads where it names no number."""
    given: dict[str, Any] = {"num_batch_threads": cores}
    for name in ("max_batch_size", "max_enqueued_batches", "num_batch_threads"):
        if message.HasField(name):
            given[name] = getattr(message, name).value
    if message.HasField("batch_timeout_micros"):
        given["batch_timeout"] = message.batch_timeout_micros.value / 1e6
    return Parameters(allowed_batch_sizes=tuple(message.allowed_batch_sizes), **given)
