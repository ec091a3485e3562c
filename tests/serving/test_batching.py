"""Requests computed together: every caller gets the answer to what it sent, whatever the others sent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf

from serving.launch import model_server
from serving.model_server.batching import Arrays, Parameters, Queue
from serving.model_server.status import StatusError
from tests.serving.conftest import CLASSIFY, Writer
from tests.serving.rpc import Rpc, config_of, model_of, refusal, save_odd, until

INVALID, UNAVAILABLE = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNAVAILABLE


class Model:
    """Halves and adds two, keeps what it was given, refuses what is negative, and can be made to wait."""

    def __init__(self) -> None:
        self.given: list[list[float]] = []
        self.free = asyncio.Event()
        self.free.set()

    async def __call__(self, inputs: Arrays) -> Arrays:
        self.given.append(inputs["x"].ravel().tolist())
        await self.free.wait()
        if (inputs["x"] < 0).any():
            raise StatusError(INVALID, "negative")
        return {"y": inputs["x"] / 2 + 2}


def check(test: Callable[[Model, Callable[..., Queue]], Awaitable[None]], threads: int = 1) -> None:
    """Runs a test in an event loop with a model and what makes a queue of it; nothing may hang."""

    async def run() -> None:
        model = Model()

        def queue(**parameters: Any) -> Queue:
            return Queue(model, Parameters(**parameters), asyncio.Semaphore(threads))

        await asyncio.wait_for(test(model, queue), 30)

    asyncio.run(run())


async def ask(queue: Queue, *x: float) -> list[float]:
    answer = await queue.submit({"x": np.array(x, np.float32)})
    return [float(y) for y in answer["y"]]


def refused(outcome: object) -> tuple[grpc.StatusCode, str]:
    assert isinstance(outcome, StatusError), outcome
    return outcome.code, str(outcome)


def test_those_who_wait_together_are_computed_together_and_get_their_own() -> None:
    async def test(model: Model, queue: Callable[..., Queue]) -> None:
        shared = queue(max_batch_size=8)
        answers = await asyncio.gather(*(ask(shared, float(x)) for x in range(32)))
        assert answers == [[x / 2 + 2] for x in range(32)]
        assert [len(rows) for rows in model.given] == [8, 8, 8, 8]

    check(test)


def test_requests_of_several_rows_are_never_cut() -> None:
    async def test(model: Model, queue: Callable[..., Queue]) -> None:
        shared = queue(max_batch_size=8)
        rows = [[1.0, 2, 3, 4, 5], [6.0, 7, 8], [9.0, 10], [11.0] * 7]
        assert await asyncio.gather(*(ask(shared, *x) for x in rows)) == [[y / 2 + 2 for y in x] for x in rows]
        assert model.given == [rows[0] + rows[1], rows[2], rows[3]]

    check(test)


def test_a_task_larger_than_a_batch_and_inputs_that_are_none() -> None:
    async def test(model: Model, queue: Callable[..., Queue]) -> None:
        shared = queue(max_batch_size=4)
        outcomes = await asyncio.gather(
            ask(shared, 1, 2, 3, 4, 5),
            ask(shared, 1, 2, 3, 4),
            shared.submit({"x": np.float32(1) * np.ones(())}),
            shared.submit({"x": np.ones(2), "z": np.ones(3)}),
            return_exceptions=True,
        )
        assert refused(outcomes[0]) == (INVALID, "Task size 5 is larger than maximum input batch size 4")
        assert outcomes[1] == [2.5, 3.0, 3.5, 4.0] and len(model.given) == 1
        scalar, unequal = refused(outcomes[2]), refused(outcomes[3])
        assert scalar == (INVALID, "Batching session Run() input tensors must have at least one dimension")
        assert unequal == (INVALID, "Batching session Run() input tensors must have equal 0th-dimension size")

    check(test)


def test_a_full_queue_refuses_until_there_is_room() -> None:
    async def test(model: Model, queue: Callable[..., Queue]) -> None:
        shared = queue(max_batch_size=2, max_enqueued_batches=3)
        model.free.clear()
        running = asyncio.create_task(ask(shared, 1.0))
        while not model.given:
            await asyncio.sleep(0)
        waiting = [asyncio.create_task(ask(shared, float(x), float(x))) for x in range(3)]
        await asyncio.sleep(0)
        full = await asyncio.gather(ask(shared, 9.0), return_exceptions=True)
        words = "The batch scheduling queue to which this task was submitted is full"
        assert refused(full[0]) == (UNAVAILABLE, words)
        model.free.set()
        assert await running == [2.5]
        assert await asyncio.gather(*waiting) == [[x / 2 + 2] * 2 for x in range(3)]
        assert await ask(shared, 9.0) == [6.5]

    check(test)


def test_a_bad_request_does_not_fail_its_neighbours() -> None:
    async def test(model: Model, queue: Callable[..., Queue]) -> None:
        shared = queue(max_batch_size=8)
        outcomes = await asyncio.gather(*(ask(shared, x) for x in (1.0, -1.0, 3.0)), return_exceptions=True)
        assert [outcomes[0], outcomes[2]] == [[2.5], [3.5]] and refused(outcomes[1]) == (INVALID, "negative")
        # Nor do requests of unlike shapes, which cannot be joined.
        wide = await asyncio.gather(*(shared.submit({"x": np.ones((2, width))}) for width in (1, 2, 3)))
        assert [answer["y"].shape for answer in wide] == [(2, 1), (2, 2), (2, 3)]

    check(test)


def test_batches_are_padded_to_allowed_sizes_and_answers_are_not() -> None:
    async def test(model: Model, queue: Callable[..., Queue]) -> None:
        shared = queue(max_batch_size=8, allowed_batch_sizes=(2, 4, 8))
        assert await asyncio.gather(ask(shared, 1.0), ask(shared, 2.0, 3.0)) == [[2.5], [3.0, 3.5]]
        assert await ask(shared, 4.0) == [4.0] and await ask(shared, *range(5)) == [2, 2.5, 3, 3.5, 4]
        assert model.given == [[1, 2, 3, 1], [4, 4], [0, 1, 2, 3, 4, 0, 0, 0]]

    check(test)


def test_a_batch_waits_for_its_timeout_unless_it_is_full() -> None:
    async def test(model: Model, queue: Callable[..., Queue]) -> None:
        patient = queue(max_batch_size=2, batch_timeout=1e6)
        first = asyncio.create_task(ask(patient, 1.0))
        await asyncio.sleep(0.05)
        assert not first.done() and not model.given
        assert await ask(patient, 2.0) == [3.0] and await first == [2.5] and model.given == [[1, 2]]
        assert await ask(queue(max_batch_size=2, batch_timeout=0.01), 3.0) == [3.5]
        # Two full batches at once leave the third, half-full one to wait.
        answers = [asyncio.create_task(ask(patient, float(x))) for x in range(5)]
        assert await asyncio.gather(*answers[:4]) == [[2.0], [2.5], [3.0], [3.5]]
        assert not answers[4].done()
        assert await ask(patient, 9.0) == [6.5] and await answers[4] == [4.0]

    check(test)


def test_callers_who_leave_are_not_computed_and_hold_up_nobody() -> None:
    async def test(model: Model, queue: Callable[..., Queue]) -> None:
        shared = queue(max_batch_size=2, max_enqueued_batches=2)
        model.free.clear()
        running = asyncio.create_task(ask(shared, 1.0))
        while not model.given:
            await asyncio.sleep(0)
        waiting = [asyncio.create_task(ask(shared, float(x))) for x in (2, 3, 4, 5)]
        await asyncio.sleep(0)
        for left in (running, waiting[0], waiting[2]):
            left.cancel()
        model.free.set()
        assert await asyncio.gather(waiting[1], waiting[3]) == [[3.5], [4.5]]
        assert model.given == [[1], [3, 5]]
        # All of a batch may leave.
        alone = asyncio.create_task(ask(shared, 6.0))
        await asyncio.sleep(0)
        alone.cancel()
        assert await ask(shared, 7.0) == [5.5] and model.given[2:] == [[7]]

    check(test)


def test_no_rows_and_outputs_that_are_no_batch() -> None:
    async def test(model: Model, queue: Callable[..., Queue]) -> None:
        shared = queue(max_batch_size=2, allowed_batch_sizes=(2,))
        assert await ask(shared) == []
        assert await asyncio.gather(ask(shared), ask(shared, 1.0), ask(shared)) == [[], [2.5], []]

        async def total(inputs: Arrays) -> Arrays:
            return {"y": inputs["x"].sum()}

        lone = Queue(total, Parameters(), asyncio.Semaphore(1))
        code, words = refused((await asyncio.gather(ask(lone, 1.0), return_exceptions=True))[0])
        assert code == grpc.StatusCode.FAILED_PRECONDITION and "0th dimension does not equal the sum" in words

    check(test)


def test_threads_are_shared_and_never_more_than_told() -> None:
    async def test(model: Model, queue: Callable[..., Queue]) -> None:
        shared = queue(max_batch_size=1)
        model.free.clear()
        tasks = [asyncio.create_task(ask(shared, float(x))) for x in range(4)]
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(model.given) == 2
        model.free.set()
        assert await asyncio.gather(*tasks) == [[2.0], [2.5], [3.0], [3.5]]

    check(test, threads=2)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("batched")


@pytest.fixture(scope="module")
def rpc(base: Path, half_plus_two: Writer) -> Iterator[Rpc]:
    half_plus_two(base / "half_plus_two", 1)
    save_odd(base / "odd" / "1")
    models = config_of(model_of("half_plus_two", base / "half_plus_two"), model_of("odd", base / "odd"))
    (base / "models").write_text(models)
    (base / "batching").write_text(
        "max_batch_size { value: 16 } batch_timeout_micros { value: 2000 } num_batch_threads { value: 2 }"
        " max_enqueued_batches { value: 100 } allowed_batch_sizes: 4 allowed_batch_sizes: 8 allowed_batch_sizes: 16"
    )
    flags = [
        f"--model_config_file={base / 'models'}",
        "--enable_batching",
        f"--batching_parameters_file={base / 'batching'}",
        "--file_system_poll_wait_seconds=0.1",
    ]
    with model_server(flags, base / "log", real=False) as server, Rpc(server.address) as rpc:
        yield rpc


def test_32_callers_of_a_server_get_their_own_answers_also_while_versions_change(
    rpc: Rpc, base: Path, half_plus_two: Writer
) -> None:
    def ask(caller: int) -> set[int]:
        versions = set()
        for call in range(25):
            x = [float(caller * 100 + call)] * (caller % 3 + 1)
            response = rpc.predict({"x": x})
            versions.add(response.model_spec.version.value)
            assert list(response.outputs["y"].float_val) == [value / 2 + 2 for value in x]
        return versions

    with ThreadPoolExecutor(32) as callers:
        asked = [callers.submit(ask, caller) for caller in range(32)]
        half_plus_two(base / "half_plus_two", 2)
        versions = set().union(*(future.result() for future in asked))
    assert versions <= {1, 2}
    until(lambda: rpc.states() == {1: "END", 2: "AVAILABLE"})
    assert rpc.half(1.0) == (2.5, 2)


def test_what_a_batching_server_refuses_and_what_not(rpc: Rpc) -> None:
    large = refusal(lambda: rpc.predict({"x": [1.0] * 17}))
    assert large == (INVALID, "Task size 17 is larger than maximum input batch size 16")
    unequal = refusal(lambda: rpc.predict({"a": [1.0] * 2, "b": [1.0]}, name="odd", signature_name="add"))
    assert unequal == (INVALID, "Batching session Run() input tensors must have equal 0th-dimension size")
    words = {"words": np.array([b"a", b"bc"], object)}
    code, text = refusal(lambda: rpc.predict(words, name="odd", signature_name="join"))
    assert code == grpc.StatusCode.FAILED_PRECONDITION and "0th dimension" in text
    assert list(rpc.predict({"x": [[1.0, 2]] * 3}, name="odd").outputs["y"].float_val) == [2.5, 3.0] * 3
    assert rpc.predict({"x": np.zeros(0, "f4")}).outputs["y"].tensor_shape.dim[0].size == 0
    example = tf.train.Example()
    example.features.feature["x"].float_list.value.append(4.0)
    scored = rpc.classify([example] * 3, signature_name=CLASSIFY).result.classifications
    assert [one.classes[0].score for one in scored] == [4.0] * 3
