"""What went wrong between the pipeline and its Beam engine, in sentences."""

from __future__ import annotations

import re
import shutil
import socket
from pathlib import Path

import grpc

from data.errors import SettingsError, UserError, causes
from pipeline.engines.options import check_options, options_of
from pipeline.engines.settings import Beam

BEAM_STEPS = ("ExampleGen", "StatisticsGen", "Transform", "Evaluator")
_CONNECT_SECONDS = 5.0
_LOST = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED)
_FAILED_JOB = re.compile(r"Pipeline \S+ failed in state \w+: (?P<reason>.*)", re.DOTALL)
# A traceback ends with the exception, the first line that is not indented.
_PYTHON_ERROR = re.compile(r"Traceback \(most recent call last\):\n(?:[ \t].*\n|\n)*(\S.*)")


def check_job_server(beam: Beam) -> None:
    """Stops before a job is made if no job server answers or it has not all options, or if its .jar cannot be started.

    Raises:
        SettingsError: an option that neither Beam nor the server has, no such .jar, or no Java to start it.
        UserError: see `check_endpoint`.
    """
    if not beam.has_jar:
        check_endpoint(beam.job_server)
        if beam.args and beam.job_server:
            check_options(beam, options_of(beam.job_server))
    elif "://" not in beam.job_server and not Path(beam.job_server).is_file():
        raise SettingsError(f"beam.job_server = {beam.job_server}: there is no such file.")
    elif not any(arg.startswith("--job_server_java_launcher") for arg in beam.args) and not shutil.which("java"):
        raise SettingsError(f"beam.job_server = {beam.job_server} needs Java, and java is not on the PATH.")


def check_endpoint(address: str) -> None:
    """Connects to a job server's address, host:port, for at most 5 s twice; does nothing if there is none.

    Beam itself would wait for the server as long as for a job.

    Raises:
        UserError: nothing answers there, or no gRPC server.
    """
    host, _, port = address.partition(":")
    if not host:
        return
    remedy = "start it, or correct beam.job_server. pipeline/engines/README.md has the commands."
    try:
        socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
        with grpc.insecure_channel(address) as channel:
            grpc.channel_ready_future(channel).result(_CONNECT_SECONDS)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"Beam's job server at {address} does not answer ({reason}): {remedy}") from None
    except grpc.FutureTimeoutError:
        raise UserError(f"What answers at {address} is no job server, or it is stuck: {remedy}") from None


def engine_problem(error: BaseException) -> str | None:
    """The sentence for a job server that was lost, or for workers without the package; None for other errors."""
    for cause in causes(error):
        if isinstance(cause, grpc.Call) and cause.code() in _LOST:
            return "the connection to Beam's job server was lost: read its log, and start it again"
        failed = _FAILED_JOB.search(str(cause))
        if failed and (module := re.search(r"No module named '(\w+)", failed["reason"])):
            return f"the workers have no module {module[1]}: install the project where the worker pool runs"
    return None


def job_problem(error: BaseException) -> str | None:
    """The sentence for a job that the engine reports as failed, with the engine's reason; None for other errors."""
    for cause in causes(error):
        if failed := _FAILED_JOB.search(str(cause)):
            # A message of Java or Go begins with the reason; an exception in Python code is more precise.
            found = (
                _PYTHON_ERROR.findall(failed["reason"]) or failed["reason"].strip().splitlines()[:1] or ["no reason"]
            )
            return f"the Beam engine reports {found[-1].strip()[:300]}"
    return None
