"""What Beam's engines do not do: a job server that is not there, a jar or Java that is missing, a job that fails."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from data.errors import SettingsError, UserError
from pipeline.engines.problems import check_endpoint, check_job_server, job_problem
from pipeline.engines.settings import Beam
from pipeline.exit_codes import FAILED, PUSHED
from pipeline.kubeflow import step
from serving.launch import free_port
from tests.conftest import Outcome, states

Run = Callable[..., Outcome]


@pytest.fixture
def not_a_job_server() -> Iterator[str]:
    """The address of a server that accepts connections, and says nothing."""
    with socket.create_server(("localhost", 0)) as server:
        yield f"localhost:{server.getsockname()[1]}"


@pytest.mark.parametrize("command", ["run_local", "step"])
def test_a_job_server_that_is_not_there_is_named_at_once(
    command: str, run: Run, small_mnist: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    address = f"localhost:{free_port()}"
    if command == "run_local":
        settings = ("beam.engine=flink", f"beam.job_server={address}")
        outcome = run(tmp_path / "root", small_mnist, *settings, options=("--to", "ExampleGen"))
        code, printed = outcome.code, outcome.text
        assert states(tmp_path / "root") == {"CuratedSchema": "COMPLETE", "ExampleGen": "FAILED"}
        # What is in the cache needs no engine.
        assert run(tmp_path / "root", small_mnist, *settings, options=("--to", "CuratedSchema")).code == PUSHED
    else:
        required = ("--executor_class_path=x.y", "--json_serialized_invocation_args={}")
        code = step.main([*required, "--json_serialized_inputs_spec_args={}", f"--job_endpoint={address}"])
        printed = capfd.readouterr().err
    assert code == FAILED
    assert f"Beam's job server at {address} does not answer (Connection refused): start it" in printed
    assert "Traceback" not in printed


def test_a_server_of_another_kind_is_no_job_server(not_a_job_server: str) -> None:
    with pytest.raises(UserError, match=f"What answers at {not_a_job_server} is no job server, or it is stuck"):
        check_endpoint(not_a_job_server)
    with pytest.raises(UserError, match="does not answer"):
        check_endpoint(f"{'a' * 64}.example:1")


@pytest.mark.parametrize("path", ["", "/usr/bin"])
def test_a_jar_that_is_missing_or_a_java_that_is_missing_is_named(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jar = tmp_path / "server.jar"
    if not path:
        jar.touch()
    monkeypatch.setenv("PATH", path)
    problem = ": there is no such file." if path else " needs Java, and java is not on the PATH."
    with pytest.raises(SettingsError) as raised:
        check_job_server(Beam(engine="flink", job_server=str(jar)))
    assert str(raised.value) == f"beam.job_server = {jar}{problem}"


TRACEBACK = "Traceback (most recent call last):\n  File x\n    y\nValueError: 1\n"


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        ("java.lang.OutOfMemoryError: Java heap space\n\tat org.apache.flink.Task", "java.lang.OutOfMemoryError: Java"),
        (f"bundle failed:{TRACEBACK}> [while running 'a']", "ValueError: 1"),
        (f"java.lang.RuntimeException: {TRACEBACK}Suppressed: java.io.IOException: closed", "ValueError: 1"),
        ("[org.apache.x] died", "[org.apache.x] died"),
        ("", "no reason"),
    ],
)
def test_the_engines_reason_is_one_line(reason: str, sentence: str) -> None:
    problem = job_problem(RuntimeError(f"Pipeline job-1 failed in state FAILED: {reason}"))
    assert problem and problem.startswith(f"the Beam engine reports {sentence}") and "\n" not in problem
    assert job_problem(RuntimeError(reason)) is None
