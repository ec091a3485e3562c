"""Versions appear, disappear and are broken while the stand-in serves."""

from __future__ import annotations

import asyncio
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.config import model_server_config_pb2

from serving.launch import ModelServer, model_server
from serving.model_server.manager import Manager
from tests.serving.conftest import Writer
from tests.serving.rpc import ALL, Rpc, available, config_of, model_of, refusal, rss, until

pytestmark = pytest.mark.slow  # waits for polls


@contextmanager
def calling(rpc: Rpc, name: str, threads: int = 8) -> Iterator[list[tuple[float, int]]]:
    """Threads call the model while the block runs. The list has their answers to x = 0. No call may fail."""
    answers: list[tuple[float, int]] = []
    failures: list[Exception] = []
    done = threading.Event()

    def call() -> None:
        while not done.is_set():
            try:
                answers.append(rpc.half(0.0, name=name))
            except Exception as error:
                failures.append(error)
                return

    workers = [threading.Thread(target=call) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        until(lambda: answers or failures)
        yield answers
    finally:
        done.set()
        for worker in workers:
            worker.join()
    assert not failures, failures[0]


def test_an_empty_base_path_is_watched(tmp_path: Path, half_plus_two: Writer) -> None:
    base = tmp_path / "half_plus_two"
    base.mkdir()
    flags = ["--model_name=half_plus_two", f"--model_base_path={base}", "--file_system_poll_wait_seconds=0.05"]
    with model_server(flags, tmp_path / "log", real=False) as server, Rpc(server.address) as rpc:
        assert rpc.health() == rpc.health("tensorflow.serving.PredictionService") == "NOT_SERVING"
        nothing = "Servable not found for request: Latest(half_plus_two)"
        assert refusal(lambda: rpc.half(1.0)) == (grpc.StatusCode.NOT_FOUND, nothing)
        assert refusal(rpc.status)[1] == "Could not find any versions of model half_plus_two"
        half_plus_two(base, 1)
        until(lambda: rpc.health() == "SERVING")
        assert rpc.half(1.0) == (2.5, 1) and rpc.health("tensorflow.serving.PredictionService") == "SERVING"
        # The base path is missing for a moment: the version stays.
        base.rename(tmp_path / "away")
        until(lambda: "cannot be read" in (tmp_path / "log").read_text())
        assert rpc.half(1.0) == (2.5, 1)


def test_policies(rpc: Rpc, tmp_path: Path, half_plus_two: Writer) -> None:
    base = tmp_path / "policies"
    for version in (1, 2, 3):
        half_plus_two(base, version, add=float(version))
    for policy, expected in (
        ("", {3}),
        ("latest { num_versions: 2 }", {2, 3}),
        ("specific { versions: 1 versions: 3 }", {1, 3}),
        ("all {}", {1, 2, 3}),
        ("specific { versions: 1 }", {1}),
        ("latest {}", {3}),
    ):
        rpc.reload(config_of(model_of("policies", base, f"model_version_policy {{ {policy} }}" if policy else "")))
        until(lambda expected=expected: available(rpc, "policies") == expected)
        assert rpc.half(0.0, name="policies") == (max(expected), max(expected))
        for version in expected:
            assert rpc.half(0.0, name="policies", version=version) == (version, version)
    assert rpc.states(name="policies") == {1: "END", 2: "END", 3: "AVAILABLE"}


def test_a_new_version_takes_over_while_all_call(rpc: Rpc, tmp_path: Path, half_plus_two: Writer) -> None:
    base = tmp_path / "half_plus_two"
    half_plus_two(base, 1)
    rpc.reload(config_of(model_of("swapped", base)))
    with calling(rpc, "swapped") as answers:
        half_plus_two(base, 2, add=5.0)
        until(lambda: answers[-1] == (5.0, 2))
        until(lambda: rpc.states(name="swapped") == {1: "END", 2: "AVAILABLE"})
        # Without the newest version the server loads the version before it.
        (base / "2").rename(tmp_path / "2")
        until(lambda: answers[-1] == (2.0, 1))
        until(lambda: rpc.states(name="swapped") == {1: "AVAILABLE", 2: "END"})
        (tmp_path / "2").rename(base / "2")
        until(lambda: answers[-1] == (5.0, 2))
    assert set(answers) == {(2.0, 1), (5.0, 2)}


def test_the_memory_of_old_versions_is_used_again(changing_server: ModelServer, rpc: Rpc, tmp_path: Path) -> None:
    module, megabytes = tf.Module(), 64
    module.ballast = tf.Variable(tf.random.uniform([megabytes, 2**18]))
    function = tf.function(lambda x: {"y": x + module.ballast[0, 0]}, [tf.TensorSpec([None], name="x")])
    tf.saved_model.save(module, str(tmp_path / "large"), signatures=function)
    held = []
    for version in range(1, 6):
        shutil.copytree(tmp_path / "large", tmp_path / "base" / f".{version}")
        (tmp_path / "base" / f".{version}").rename(tmp_path / "base" / str(version))
        rpc.reload(config_of(model_of("large", tmp_path / "base")))
        until(
            lambda version=version: (
                rpc.states(name="large") == dict.fromkeys(range(1, version), "END") | {version: "AVAILABLE"}
            )
        )
        held.append(rss(changing_server))
    # Two versions are in memory during a swap.
    assert held[-1] < held[2] + megabytes, held


@pytest.mark.parametrize("last", ["variables", "saved_model.pb"])
def test_a_version_that_is_still_being_copied_is_not_served(
    rpc: Rpc, tmp_path: Path, half_plus_two: Writer, last: str
) -> None:
    base, source = tmp_path / "half_plus_two", half_plus_two(tmp_path / "source", 2, add=5.0)
    half_plus_two(base, 1)
    rpc.reload(config_of(model_of(last, base)))
    files = sorted((path for path in source.rglob("*") if path.is_file()), key=lambda path: last in str(path))
    with calling(rpc, last, threads=2) as answers:
        for path in files:
            copy = base / "2" / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            content = path.read_bytes()
            with copy.open("wb") as file:
                for start in range(0, len(content), len(content) // 3 + 1):
                    assert set(answers) == {(2.0, 1)}
                    file.write(content[start : start + len(content) // 3 + 1])
                    file.flush()
                    time.sleep(0.06)
        until(lambda: answers[-1] == (5.0, 2))
    assert set(answers) == {(2.0, 1), (5.0, 2)}


def test_a_version_that_changed_while_it_was_loaded_is_loaded_again(tmp_path: Path, half_plus_two: Writer) -> None:
    folder = half_plus_two(tmp_path, 1)

    class Late(ThreadPoolExecutor):
        """Adds a file to the folder after the first load."""

        loads = 0

        def submit(self, load: Callable[..., Any], /, *arguments: Any, **_: Any) -> Future[Any]:  # type: ignore[override]
            def late() -> Any:
                loaded = load(*arguments)
                self.loads += 1
                if self.loads == 1:
                    (folder / "assets.extra").mkdir()
                    (folder / "assets.extra" / "late").write_text("")
                return loaded

            return super().submit(late)

    async def loads() -> tuple[int, bool]:
        config = model_server_config_pb2.ModelServerConfig()
        config.model_config_list.config.add(name="a", base_path=str(tmp_path))
        with Late(1) as executor:
            manager = Manager(executor, allow_unavailable=False)
            await manager.apply(config, start=True)
            for _ in range(3):
                await manager.poll()
            return executor.loads, manager.ready

    assert asyncio.run(loads()) == (2, True)


def test_a_broken_version_leaves_the_old_one_and_says_so_until_it_is_repaired(
    rpc: Rpc, tmp_path: Path, half_plus_two: Writer
) -> None:
    base, source = tmp_path / "half_plus_two", half_plus_two(tmp_path / "source", 2, add=5.0)
    half_plus_two(base, 1)
    rpc.reload(config_of(model_of("broken", base)))
    with calling(rpc, "broken", threads=1) as answers:
        (base / "2").mkdir()
        (base / "2" / "saved_model.pb").write_bytes(b"garbage")
        until(lambda: rpc.states(name="broken").get(2) == "END")
        state, reason = rpc.status(name="broken")[2]
        assert (state, f"Could not load {base / '2'}: " in reason) == ("END", True), reason
        until(lambda: rpc.health() == "SERVING")
        assert answers[-1] == (2.0, 1)
        shutil.copytree(source, base / "2", dirs_exist_ok=True)
        until(lambda: answers[-1] == (5.0, 2))
    assert rpc.status(name="broken")[2] == ("AVAILABLE", "")


def test_folders_that_are_no_versions(rpc: Rpc, tmp_path: Path, half_plus_two: Writer) -> None:
    base = tmp_path / "half_plus_two"
    for name in ("0012", "tmp", "-3", "1.5", str(2**63), "9" * 200):
        shutil.copytree(half_plus_two(tmp_path / f"source{name[:9]}", 1), base / name)
    (base / "99").mkdir()
    (base / "98").write_text("a file")
    rpc.reload(config_of(model_of("half_plus_two", base, ALL)))
    assert available(rpc) == {12} and max(rpc.states()) == 12
    assert rpc.half(1.0) == (2.5, 12)


def test_nothing_of_all_this_left_a_traceback_in_the_log(changing_server: ModelServer) -> None:
    assert changing_server.log is not None
    assert not re.search("Traceback|The poll failed", changing_server.log.read_text())
