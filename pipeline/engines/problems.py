"""What went wrong between the pipeline and its Beam engine, in sentences."""

from __future__ import annotations

import re
import shutil
import socket
from pathlib import Path

import grpc

from data.errors import SettingsError, UserError
from data.storage import causes
from pipeline.engines.settings import Beam

BEAM_STEPS = ("ExampleGen", "StatisticsGen", "Transform", "Evaluator")
_CONNECT_SECONDS = 5.0
_LOST = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED)
_FAILED_JOB = re.compile(r"Pipeline \S+ failed in state \w+: (?P<reason>.*)", re.DOTALL)


def check_job_server(beam: Beam) -> None:
    """Stops before a job is made if no job server answers, or if its .jar cannot be started.

    Raises:
        SettingsError: there is no such .jar, or no Java to start it.
        UserError: nothing answers at the job server's address.
    """
    if not beam.has_jar:
        check_endpoint(beam.job_server)
    elif "://" not in beam.job_server and not Path(beam.job_server).is_file():
        raise SettingsError(f"beam.job_server = {beam.job_server}: there is no such file.")
    elif not any(arg.startswith("--job_server_java_launcher") for arg in beam.args) and not shutil.which("java"):
        raise SettingsError(f"beam.job_server = {beam.job_server} needs Java, and java is not on the PATH.")


def check_endpoint(address: str) -> None:
    """Connects to a job server's address, host:port; does nothing if there is none.

    Raises:
        UserError: nothing answers there.
    """
    host, _, port = address.partition(":")
    if not host:
        return
    try:
        socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
    except OSError as error:
        raise UserError(
            f"Beam's job server at {address} does not answer ({error.strerror or error}):"
            " start it, or correct beam.job_server. pipeline/engines/README.md has the commands."
        ) from None


def connection_problem(error: BaseException) -> str | None:
    """The sentence for a job server that does not answer any more; None for every other error."""
    for cause in causes(error):
        if isinstance(cause, grpc.FutureTimeoutError):
            return "Beam's job server does not answer: start it, or correct beam.job_server"
        if isinstance(cause, grpc.RpcError) and cause.code() in (
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.CANCELLED,
        ):
            return "the connection to Beam's job server was lost: look into its log, and start it again"
    return None


def job_problem(error: BaseException) -> str | None:
    """The sentence for a job that the engine reports as failed, with the engine's reason; None for other errors."""
    for cause in causes(error):
        if failed := _FAILED_JOB.search(str(cause)):
            lines = [line for line in failed["reason"].splitlines() if line.strip() and line[0] not in " \t>["]
            # A traceback of Python ends with the exception. A message of Java or Go begins with it.
            python = "Traceback (most recent call last)" in failed["reason"]
            reason = lines[-1 if python else 0].strip() if lines else "no reason"
            if module := re.search(r"No module named '(\w+)", reason):
                return f"the workers have no module {module[1]}: install the project where the worker pool runs"
            return f"the Beam engine reports {reason[:300]}"
    return None
