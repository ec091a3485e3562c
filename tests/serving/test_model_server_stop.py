"""SIGTERM: first the health changes, then no request is accepted, then the requests under way are answered."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest

from serving.client import Client
from serving.errors import ServingError
from serving.launch import ModelServer, model_server
from tests.conftest import ROOT
from tests.serving.rpc import Rpc, until

pytestmark = pytest.mark.slow  # starts a server for each try


@contextmanager
def served(models: Path, tmp_path: Path) -> Iterator[ModelServer]:
    with model_server(
        ["--model_name=odd", f"--model_base_path={models / 'odd'}"], tmp_path / "log", real=False
    ) as server:
        yield server


def work(client: Client, rounds: int) -> float:
    return float(client.call("work", {"rounds": np.int32(rounds)})["ones"])


@pytest.mark.parametrize("wait", [0.1, 0.3, 0.6, 1.0, 1.0, 1.5])
def test_every_request_that_was_sent_before_the_signal_is_answered(wait: float, models: Path, tmp_path: Path) -> None:
    """Several tries with many callers, some directly after the start, so that requests are everywhere on their way."""
    with served(models, tmp_path) as server:
        assert server.process is not None
        signalled, stop = threading.Event(), threading.Event()
        answers: Counter[str] = Counter()

        def call() -> None:
            with Client(server.address, model="odd", timeout=20) as client:
                while not stop.is_set():
                    before = not signalled.is_set()
                    try:
                        client.call("serving_default", {"x": np.float32([1])})
                        answer = "OK"
                    except ServingError as error:
                        answer = str(error)
                    if before:
                        answers[answer] += 1
                    if answer != "OK":
                        return

        callers = [threading.Thread(target=call) for _ in range(24)]
        for caller in callers:
            caller.start()
        time.sleep(wait)
        signalled.set()
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        stop.set()
        for caller in callers:
            caller.join()
        assert server.process.wait(30) == 0
        assert set(answers) == {"OK"}, answers
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_health_changes_first_then_new_requests_are_unavailable_then_the_slow_one_is_answered(
    models: Path, tmp_path: Path
) -> None:
    with served(models, tmp_path) as server, Rpc(server.address) as rpc:
        assert server.process is not None
        until(lambda: rpc.health() == "SERVING")
        with Client(server.address, model="odd", timeout=60) as client, ThreadPoolExecutor(1) as threads:
            began = time.perf_counter()
            work(client, 300)
            slow = threads.submit(work, client, int(300 * 4 / (time.perf_counter() - began)))
            time.sleep(0.2)
            server.process.send_signal(signal.SIGTERM)
            order: list[str] = []
            for _ in range(2000):
                state = rpc.health()
                try:
                    rpc.predict({"x": np.float32([1])}, name="odd")
                    code = "OK"
                except grpc.RpcError as error:
                    code = f"{error.code().name}: {error.details()}"
                if not order or order[-1] != f"{state}, {code}":
                    order.append(f"{state}, {code}")
                if "UNAVAILABLE" in code:
                    break
                time.sleep(0.002)
            assert not slow.done()
            assert slow.result(60) == 1.0
        assert order[-2:] == ["NOT_SERVING, OK", "NOT_SERVING, UNAVAILABLE: The server is stopping"], order
        assert server.process.wait(30) == 0


def test_a_watch_that_never_ends_and_callers_that_never_pause_do_not_keep_it(models: Path, tmp_path: Path) -> None:
    with served(models, tmp_path) as server:
        assert server.process is not None
        stop, codes = threading.Event(), Counter[str]()

        def call() -> None:
            with Rpc(server.address) as rpc:
                while not stop.is_set():
                    try:
                        rpc.predict({"x": np.float32([1])}, name="odd")
                        codes["OK"] += 1
                    except grpc.RpcError as error:
                        codes[error.code().name] += 1
                        time.sleep(0.05)

        callers = [threading.Thread(target=call) for _ in range(8)]
        watching = Rpc(server.address)
        watch = watching.channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
        next(watch)
        for caller in callers:
            caller.start()
        until(lambda: codes["OK"] > 100)
        server.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert server.process.wait(20) == 0
        assert time.monotonic() - began < 10
        stop.set()
        for caller in callers:
            caller.join()
        watching.channel.close()
        # gRPC cancels a new request that arrives at the moment of the end.
        assert codes["UNAVAILABLE"] and set(codes) <= {"OK", "UNAVAILABLE", "CANCELLED"}, codes
        assert codes["CANCELLED"] <= len(callers), codes


def test_a_server_ends_with_the_process_that_started_it(models: Path, tmp_path: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from serving.launch import model_server
flags = ["--model_name=half_plus_two", "--model_base_path={models / "half_plus_two"}"]
with model_server(flags, Path({str(tmp_path / "log")!r}), real=False) as server:
    print(server.process.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    server = Path("/proc") / done.stdout.strip()
    end = time.monotonic() + 60
    while server.exists() and "State:\tZ" not in (server / "status").read_text():
        assert time.monotonic() < end, "the server still runs"
        time.sleep(0.05)
