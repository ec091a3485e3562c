"""pipeline/engines/flink.sh: a real Flink cluster on this machine, where Java and Flink are at hand."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.exit_codes import PUSHED
from tests.conftest import ROOT, Outcome, run_pipeline
from tests.pipeline.portable import BEAM_SERVER

SCRIPT = ROOT / "pipeline" / "engines" / "flink.sh"
JAVA = shutil.which("java")


def call(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **environment}
    return subprocess.run([SCRIPT, command], env=env, capture_output=True, text=True, timeout=120, check=False)


def test_without_java_a_sentence_names_the_package(tmp_path: Path) -> None:
    for tool in ("bash", "dirname", "realpath"):
        (tmp_path / tool).symlink_to(shutil.which(tool) or tool)
    done = call("start", PATH=str(tmp_path))
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("flink.sh: Java is missing: install Java 17") and len(done.stderr.splitlines()) == 1


def test_a_wrong_word_is_refused() -> None:
    done = call("strat")
    assert (done.returncode, done.stderr) == (1, "flink.sh: usage: flink.sh start|status|stop|fetch\n")


def listens_on(port: int) -> set[str]:
    """The addresses, as the kernel writes them, on which a port is open."""
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text().splitlines()[1:]]
    return {line[1].split(":")[0] for line in lines if line[1].endswith(f":{port:04X}") and line[3] == "0A"}


@pytest.fixture
def stand_in(tmp_path: Path) -> dict[str, str]:
    """The environment in which Beam's own job server replaces the one of a jar. All else is real."""
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    server = " ".join([*BEAM_SERVER, "--job_port=8099"])
    java.write_text(f'#!/bin/sh\n[ "$1" = -jar ] && exec {server}\nexec {JAVA} "$@"\n')
    java.chmod(0o755)
    jar = tmp_path / "server.jar"
    jar.touch()
    return {"PATH": f"{java.parent}:{os.environ['PATH']}", "BEAM_JOB_SERVER_JAR": str(jar)}


@pytest.fixture
def stopped(stand_in: dict[str, str]) -> Iterator[None]:
    for port in (8081, 8099, 50000):
        with socket.socket() as probe:
            if probe.connect_ex(("localhost", port)) == 0:
                pytest.skip(f"port {port} is in use, perhaps by a cluster that somebody needs")
    yield
    call("stop", **stand_in)


@pytest.mark.slow
@pytest.mark.usefixtures("stopped")
@pytest.mark.skipif(not JAVA, reason="there is no Java")
@pytest.mark.skipif(not list(ROOT.glob(".flink/flink-*")), reason="Flink is not here: pipeline/engines/flink.sh fetch")
def test_a_cluster_starts_runs_a_step_reports_a_dead_taskmanager_and_stops(
    stand_in: dict[str, str], small_mnist: Path, tmp_path: Path
) -> None:
    wrong = call("start", **{**stand_in, "BEAM_JOB_SERVER_JAR": "/no/such.jar"})
    assert (wrong.returncode, wrong.stderr) == (
        1,
        "flink.sh: BEAM_JOB_SERVER_JAR=/no/such.jar: there is no such file\n",
    )

    started = call("start", **stand_in)
    assert started.returncode == 0, started.stderr
    with urllib.request.urlopen("http://localhost:8081/overview", timeout=10) as answer:
        overview = json.load(answer)
    assert overview["taskmanagers"] == 2 and overview["slots-available"] == 4
    # Only this machine may submit a job: Flink asks for no password.
    assert listens_on(8081) == {f"{0:016X}{0xFFFF0000:08X}{0x0100007F:08X}"}, "127.0.0.1 as an address of IPv6"
    again = call("start", **stand_in)
    assert again.returncode == 1 and "it runs already" in again.stderr

    # The last line is the command for the pipeline.
    settings = started.stdout.splitlines()[-1].partition("--set ")[2].split()
    outcome: Outcome = run_pipeline(tmp_path / "root", small_mnist, *settings, options=("--to", "ExampleGen"))
    assert outcome.code == PUSHED, outcome.text

    os.kill(int((ROOT / ".flink" / "taskmanager-2.pid").read_text()), signal.SIGKILL)
    status = call("status", **stand_in)
    assert status.returncode == 1 and "taskmanager-2 does not run" in status.stdout

    commands = [Path("/proc", file.read_text().strip(), "cmdline") for file in (ROOT / ".flink").glob("*.pid")]
    assert call("stop", **stand_in).returncode == 0
    assert len(commands) == 5 and not any(file.exists() and file.read_bytes() for file in commands)
    assert call("status", **stand_in).returncode == 1
