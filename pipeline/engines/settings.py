"""Where Beam runs the data steps: as settings, and as Beam's own options."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import version
from typing import Literal

from pydantic import Field, model_validator

from data.settings import Section

# The DirectRunner of a newer Beam tries the Prism runner first, and downloads it.
IN_MEMORY = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
_PORTABLE = {"job_server", "artifact_endpoint", "master", "environment", "worker_pool", "image"}
_TAKES = {
    "direct": set[str](),
    "flink": _PORTABLE | {"parallelism"},
    "spark": _PORTABLE,
    "dataflow": {"project", "region", "temp_location", "image"},
}
_HOST_PORT = re.compile(r"[\w.-]+:\d+")
# Flink's and Spark's names for a cluster inside the job server's own process.
_EMBEDDED = {"flink": "[local]", "spark": "local[*]"}
_JAR = re.compile(r"beam-runners-(?P<engine>flink|spark)-(?P<of>[\d.]+)-job-server-(?P<beam>[\d.]+)\.jar")


class Beam(Section):
    """How Beam runs. A setting that the engine has no use for is refused."""

    engine: Literal["direct", "flink", "spark", "dataflow"] = Field(
        "direct", description="direct is Beam's in-memory runner, in the step's own process"
    )
    job_server: str = Field(
        "", description="host:port of a running Beam job server; or its .jar, which each step starts with Java"
    )
    artifact_endpoint: str = Field(
        "",
        description="host:port where that server accepts files; by default what it reports, which may be 0.0.0.0",
    )
    master: str = Field("", description="for a .jar: Flink's REST address or Spark's master URL; empty: embedded")
    environment: Literal["loopback", "external", "docker"] = Field(
        "loopback",
        description="where the Python code runs: in the step's own process, so on one machine; in a worker pool beside"
        " each of the engine's workers; in containers that they start",
    )
    worker_pool: str = Field("", description="host:port of the pool as the engine's workers see it")
    image: str = Field(
        "digit-rows:0.1.0-beam-worker", min_length=1, description="the project's image with Beam's boot program"
    )
    parallelism: int = Field(0, ge=0, description="of a Flink job; 0: the cluster's default")
    project: str = Field("", description="Google Cloud's, for Dataflow")
    region: str = Field("", description="Dataflow's")
    temp_location: str = Field("", description="gs:// folder for Dataflow's own files")
    args: tuple[str, ...] = Field((), strict=False, description="further Beam options; they win")

    @model_validator(mode="after")
    def _possible(self) -> Beam:
        problem = next(self._problems(), None)
        if problem:
            raise ValueError(problem)
        return self

    def _problems(self) -> Iterator[str]:
        given = {name for name in self.model_fields_set if getattr(self, name)} - {"engine", "args"}
        if unused := given - _TAKES[self.engine]:
            yield f"engine = {self.engine} has no use for {', '.join(sorted(unused))}"
        if self.engine in _EMBEDDED:
            yield from self._submission_problems()
            yield from self._environment_problems()
        if self.engine == "dataflow":
            if missing := [name for name in ("project", "region", "temp_location") if not getattr(self, name)]:
                yield f"engine = dataflow needs {', '.join(missing)}"
            if not re.fullmatch(r"gs://[^/]+/.+", self.temp_location):
                yield f"temp_location = {self.temp_location} must be a folder of a bucket, gs://bucket/folder"
            if "/" not in self.image:
                yield f"engine = dataflow pulls its image from a registry, which {self.image} does not name"

    def _submission_problems(self) -> Iterator[str]:
        for name in ("artifact_endpoint", "worker_pool"):
            if getattr(self, name) and not _HOST_PORT.fullmatch(getattr(self, name)):
                yield f"{name} = {getattr(self, name)} is not host:port"
        if not self.job_server:
            # Beam would fetch a jar from Maven.
            yield f"engine = {self.engine} needs job_server, host:port of a Beam job server or the path of its .jar"
        elif not self.has_jar and not _HOST_PORT.fullmatch(self.job_server):
            yield f"job_server = {self.job_server} is neither host:port nor a .jar"
        if self.has_jar and self.artifact_endpoint:
            yield "artifact_endpoint goes with a running job server, not with a .jar"
        if self.master and not self.has_jar:
            yield f"master goes with a job server's .jar: the one at {self.job_server} has its own"
        if jar := _JAR.search(self.job_server):
            if jar["engine"] != self.engine:
                yield f"job_server = {jar[0]} is not for engine = {self.engine}"
            if self.engine == "flink" and jar["of"] not in flink_versions():
                yield f"job_server = {jar[0]} is for Flink {jar['of']}: Beam supports {', '.join(flink_versions())}"
            if jar["beam"] != version("apache-beam"):
                yield f"job_server = {jar[0]} must be of the Beam installed here, {version('apache-beam')}"

    def _environment_problems(self) -> Iterator[str]:
        if self.environment == "external" and not self.worker_pool:
            yield "environment = external needs worker_pool, host:port of a Beam worker pool"
        if self.environment != "external" and self.worker_pool:
            yield f"environment = {self.environment} has no use for worker_pool"
        engine = self.master if self.has_jar else self.job_server
        host = re.search(r"(?:^|//)([\w.-]+):\d", engine)
        if self.environment == "loopback" and host and host[1] not in ("localhost", "127.0.0.1"):
            yield f"environment = loopback runs the workers on this machine, and {engine} is another one: use external"

    @property
    def has_jar(self) -> bool:
        return self.job_server.endswith(".jar")


def flink_versions() -> list[str]:
    """The versions of Flink that the installed Beam has job servers for."""
    from apache_beam.options.pipeline_options import FlinkRunnerOptions

    return FlinkRunnerOptions.PUBLISHED_FLINK_VERSIONS


def pipeline_args(beam: Beam) -> list[str]:
    """Beam's options for these settings."""
    if beam.engine == "direct":
        # Beam's type checks and dill take a seventh of the time of a run on few examples.
        engine = [f"--runner={IN_MEMORY}", "--no_pipeline_type_check", "--pickle_library=cloudpickle"]
    elif beam.engine == "dataflow":
        places = [f"--{name}={getattr(beam, name)}" for name in ("project", "region", "temp_location")]
        engine = ["--runner=DataflowRunner", *places]
    else:
        engine = [*_portable(beam)]
    # An image that is named has TFX in it. Without a name, TFX packs itself for the workers, again in each step.
    return [f"--sdk_container_image={beam.image}", *engine, *beam.args]


def _portable(beam: Beam) -> Iterator[str]:
    # Beam would stage its list of installed packages, which workers in other containers cannot read.
    yield "--experiments=disable_logging_submission_environment"
    # In seconds. It ends a whole job, too, if the server gives a job one id instead of two, as Prism does.
    yield "--job_server_timeout=86400"
    if beam.has_jar:
        yield f"--runner={beam.engine.capitalize()}Runner"
        yield f"--{beam.engine}_job_server_jar={beam.job_server}"
        option = "flink_master" if beam.engine == "flink" else "spark_master_url"
        yield f"--{option}={beam.master or _EMBEDDED[beam.engine]}"
    else:
        yield "--runner=PortableRunner"
        yield f"--job_endpoint={beam.job_server}"
        if beam.artifact_endpoint:
            yield f"--artifact_endpoint={beam.artifact_endpoint}"
    if beam.parallelism:
        yield f"--parallelism={beam.parallelism}"
    yield f"--environment_type={beam.environment.upper()}"
    if beam.environment != "loopback":
        yield f"--environment_config={beam.worker_pool if beam.environment == 'external' else beam.image}"
