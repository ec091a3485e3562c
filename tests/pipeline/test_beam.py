"""Beam's engines: Beam's own parser knows all options, and wrong settings are refused."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import (
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
    SetupOptions,
    StandardOptions,
    WorkerOptions,
    _BeamArgumentParser,
)
from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.portability.common_urns import environments as urns
from apache_beam.portability.python_urns import EMBEDDED_PYTHON_LOOPBACK
from apache_beam.runners import create_runner
from apache_beam.runners.dataflow.internal.apiclient import get_container_image_from_options
from apache_beam.runners.portability.flink_runner import FlinkJarJobServer
from apache_beam.runners.portability.local_job_service import LocalJobServicer
from apache_beam.runners.portability.spark_runner import SparkJarJobServer
from apache_beam.transforms.environments import Environment
from tfx.utils import dependency_utils

from data.errors import SettingsError
from pipeline.config import load
from pipeline.definition import create_pipeline
from pipeline.engines.options import check_options
from pipeline.engines.problems import check_job_server
from pipeline.engines.settings import IN_MEMORY, Beam, flink_versions, pipeline_args
from pipeline.exit_codes import WRONG_USE
from pipeline.local.cli import main
from tests.conftest import ROOT, Outcome

Run = Callable[..., Outcome]

BEAM_VERSION, FLINK_VERSION = version("apache-beam"), flink_versions()[-1]
JARS = {
    "flink": f"beam-runners-flink-{FLINK_VERSION}-job-server-{BEAM_VERSION}.jar",
    "spark": f"beam-runners-spark-3-job-server-{BEAM_VERSION}.jar",
}
ENVIRONMENTS = {
    "loopback": ("beam.environment=loopback",),
    "external": ("beam.environment=external", "beam.worker_pool=localhost:50000"),
    "docker": ("beam.environment=docker", "beam.image=registry/digit-rows:1"),
}
GOOGLE = ("beam.project=digits-1", "beam.region=europe-west1", "beam.temp_location=gs://digits/temp")
PRESETS = {
    **{
        f"{engine}-{server}-{environment}": (f"beam.engine={engine}", f"beam.job_server={address}", *settings)
        for engine, jar in JARS.items()
        for server, address in (("running", "localhost:8099"), ("jar", f"/opt/{jar}"))
        for environment, settings in ENVIRONMENTS.items()
    },
    "dataflow": ("beam.engine=dataflow", *GOOGLE, "beam.image=registry/digit-rows:1"),
    "direct-processes": ('beam.args=["--direct_running_mode=multi_processing", "--direct_num_workers=2"]',),
}


def expand(*overrides: str) -> list[str]:
    return pipeline_args(load("default", overrides).beam)


def unknown(options: list[str]) -> list[str]:
    """The options that Beam's parser does not know, with all its option classes.

    Beam itself ignores unknown options with a warning, and accepts abbreviations. Here an abbreviation is unknown.
    """
    parser = _BeamArgumentParser(allow_abbrev=False)
    for kind in {str(kind): kind for kind in PipelineOptions.__subclasses__()}.values():
        kind._add_argparse_args(parser)
    return parser.parse_known_args(options)[1]


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_beam_knows_every_option_of_every_preset(preset: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    options = expand(*preset)
    assert options and not unknown(options)
    # Of an option that is given twice, Beam silently uses the last one.
    names = [option.partition("=")[0] for option in options]
    assert len(names) == len(set(names))
    setup = PipelineOptions(options).view_as(SetupOptions)
    assert not setup.save_main_session and not setup.extra_packages
    assert setup.pickle_library == ("cloudpickle" if f"--runner={IN_MEMORY}" in options else "default")
    # Without an image in the options, TFX builds a package of itself for the workers, in every step.
    monkeypatch.setattr(dependency_utils, "build_ephemeral_package", lambda: pytest.fail("TFX packs itself"))
    assert dependency_utils.make_beam_dependency_flags(options) == options


def test_a_misspelt_option_is_found() -> None:
    for wrong in ("--job_endpont=localhost:8099", "--environment_typ=EXTERNAL", "--flink_job_server=x.jar"):
        assert unknown([*expand(*PRESETS["flink-running-external"]), wrong]) == [wrong]
    for wrong in ("--flink_version=1.14", "--flink_version=9.1", "--spark_version=2"):
        with pytest.raises(SystemExit):
            unknown([wrong])


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--direct_num_workers=two", "Beam cannot use its option --direct_num_workers: invalid int value: 'two'"),
        ("--direct_running_mode=fast", "--direct_running_mode: invalid choice: 'fast'"),
        ("--direct_num_workrs=2", "Beam has no option '--direct_num_workrs': correct --beam-arg"),
        ("--direct_num_workrs=2", "Did you mean --direct_num_workers?"),
        ("--direct_num_work=2", "Beam has no option '--direct_num_work'"),
        ("direct_num_workers=2", "Beam has no option 'direct_num_workers'"),
        ("--runner=Nobody", "Beam cannot use its option --runner=Nobody: Unexpected pipeline runner: Nobody"),
        ("--help", "Beam cannot use its option --help: correct --beam-arg"),
    ],
)
def test_an_option_that_beam_does_not_take_is_a_sentence(
    argument: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--run-root", str(tmp_path / "root"), f"--beam-arg={argument}"]) == WRONG_USE
    shown = capsys.readouterr()
    assert words in shown.err and not shown.out and shown.err.count("\n") == 1
    assert not (tmp_path / "root").exists()


def test_the_options_of_an_engine_pass() -> None:
    check_options(load("default", PRESETS["direct-processes"]).beam)
    check_options(load("default", PRESETS["flink-running-external"], ["--state_backend=rocksdb"]).beam)
    check_options(load("default", [], ["--runner=PrismRunner", "--an_option_of_prism"]).beam)
    check_options(load("default", PRESETS["dataflow"], ["--machine_type=n2-standard-4", "--an_option"]).beam)
    with pytest.raises(SettingsError, match="--parallelism: invalid int value"):
        check_options(load("default", PRESETS["flink-jar-external"], ["--parallelism=all"]).beam)


def test_a_job_server_says_which_options_it_has() -> None:
    server = LocalJobServicer()
    endpoint = [*PRESETS["flink-running-external"], f"beam.job_server=localhost:{server.start_grpc_server()}"]
    try:
        check_job_server(load("default", endpoint, ["--parallelism=2"]).beam)
        with pytest.raises(SettingsError, match=r"Beam has no option '--state_backend': correct --beam-arg"):
            check_job_server(load("default", endpoint, ["--state_backend=rocksdb"]).beam)
        check_options(load("default", endpoint, ["--state_backend", "rocksdb"]).beam, ["--state_backend"])
    finally:
        server.stop()


def test_the_image_has_the_project_version() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    assert f'\nversion = "{Beam().image.removeprefix("digit-rows:").removesuffix("-beam-worker")}"\n' in project


@pytest.mark.parametrize("name", PRESETS)
def test_beam_gets_the_values(name: str) -> None:
    options = PipelineOptions(expand(*PRESETS[name]))
    engine, server, environment = (*name.split("-"), "", "")[:3]
    runner = create_runner(options.view_as(StandardOptions).runner)
    runners = {"flink": "FlinkRunner", "spark": "SparkRunner", "dataflow": "DataflowRunner"}
    expected = "PortableRunner" if server == "running" else runners.get(engine, "FnApiRunner")
    assert type(runner).__name__ == expected
    assert options.view_as(WorkerOptions).sdk_container_image in ("registry/digit-rows:1", Beam().image)
    validator = PipelineOptionsValidator(options, runner)
    if engine == "dataflow":
        google = options.view_as(GoogleCloudOptions)
        assert not validator.validate_cloud_options(google) and not validator.validate_gcs_path(google, "temp_location")
        assert google.region == "europe-west1"
        assert get_container_image_from_options(options) == "registry/digit-rows:1"
        return
    assert not validator.validate()
    if server == "running":
        assert options.view_as(PortableOptions).job_endpoint == "localhost:8099"
    if environment:
        proto = Environment.from_options(options.view_as(PortableOptions)).to_runner_api(None)
        assert not proto.dependencies
        if environment == "loopback":
            assert proto.urn == EMBEDDED_PYTHON_LOOPBACK
        elif environment == "external":
            assert proto.urn == urns.EXTERNAL.urn
            assert beam_runner_api_pb2.ExternalPayload.FromString(proto.payload).endpoint.url == "localhost:50000"
        else:
            assert proto.urn == urns.DOCKER.urn
            assert (
                beam_runner_api_pb2.DockerPayload.FromString(proto.payload).container_image == "registry/digit-rows:1"
            )


@pytest.mark.parametrize(("engine", "kind"), [("flink", FlinkJarJobServer), ("spark", SparkJarJobServer)])
def test_a_jar_is_started_with_its_master(engine: str, kind: type, tmp_path: Path) -> None:
    jar = tmp_path / JARS[engine]
    jar.touch()

    def command(*settings: str) -> str:
        options = PipelineOptions(expand(f"beam.engine={engine}", f"beam.job_server={jar}", *settings))
        server = kind(options)
        server._local_temp_root = str(tmp_path)
        return " ".join(map(str, server.subprocess_cmd_and_endpoint()[0]))

    option = "--flink-master" if engine == "flink" else "--spark-master-url"
    embedded = "[local]" if engine == "flink" else "local[*]"
    assert command().startswith("java ") and f" -jar {jar} {option} {embedded} " in command()
    pool = ("beam.environment=external", "beam.worker_pool=localhost:50000")
    assert f"{option} spark://master:7077 " in command("beam.master=spark://master:7077", *pool)


def test_settings_reach_their_options() -> None:
    options = expand(*PRESETS["flink-running-external"], "beam.parallelism=4", "beam.artifact_endpoint=server:8098")
    assert {"--parallelism=4", "--artifact_endpoint=server:8098"} < set(options) and not unknown(options)


def test_in_memory_is_the_default_and_user_options_come_last() -> None:
    in_memory = [f"--sdk_container_image={Beam().image}", f"--runner={IN_MEMORY}"]
    in_memory += ["--no_pipeline_type_check", "--pickle_library=cloudpickle"]
    assert pipeline_args(Beam()) == in_memory == expand("beam.engine=direct")
    config = load("default", [*PRESETS["flink-running-loopback"], 'beam.args=["--a=1"]'], ["--a=2"])
    assert config.beam.engine == "flink" and config.beam.args == ("--a=1", "--a=2")
    assert pipeline_args(config.beam)[-2:] == ["--a=1", "--a=2"]


def test_the_pipeline_uses_these_options(tmp_path: Path) -> None:
    for preset in ((), PRESETS["flink-running-external"]):
        config = load("default", preset)
        pipeline = create_pipeline(config, pipeline_root=str(tmp_path), serving_dir=str(tmp_path / "serving"))
        assert pipeline.beam_pipeline_args == pipeline_args(config.beam)


FLINK = ("beam.engine=flink", "beam.job_server=localhost:8099")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("beam.engine=samza",), "beam.engine = 'samza': input should be 'direct', 'flink', 'spark' or 'dataflow'"),
        (("beam.job_server=localhost:8099",), "engine = direct has no use for job_server"),
        (("beam.engine=flink",), "engine = flink needs job_server, host:port of a Beam job server or the path of"),
        (("beam.engine=spark",), "engine = spark needs job_server"),
        (("beam.engine=flink", "beam.job_server=flink"), "job_server = flink is neither host:port nor a .jar"),
        ((*FLINK, "beam.environment=external"), "environment = external needs worker_pool"),
        ((*FLINK, *ENVIRONMENTS["external"], "beam.worker_pool=pool"), "worker_pool = pool is not host:port"),
        ((*FLINK, "beam.worker_pool=localhost:50000"), "environment = loopback has no use for worker_pool"),
        ((*FLINK, "beam.environment=docker", 'beam.image=""'), "beam.image = '': string should have at least 1"),
        ((*FLINK, "beam.artifact_endpoint=flink"), "artifact_endpoint = flink is not host:port"),
        ((*FLINK, "beam.master=localhost:8081"), "master goes with a job server's .jar"),
        (
            ("beam.engine=flink", "beam.job_server=flink:8099"),
            "environment = loopback runs the workers on this machine",
        ),
        (
            ("beam.engine=flink", "beam.job_server=a.jar", "beam.master=http://flink:8081"),
            "http://flink:8081 is another",
        ),
        (
            ("beam.engine=flink", "beam.job_server=a.jar", "beam.artifact_endpoint=a:1"),
            "goes with a running job server",
        ),
        (("beam.engine=flink", f"beam.job_server={JARS['spark']}"), "is not for engine = flink"),
        (
            ("beam.engine=flink", f"beam.job_server={JARS['flink'].replace(f'flink-{FLINK_VERSION}', 'flink-9.1')}"),
            f"is for Flink 9.1: Beam supports {', '.join(flink_versions())}",
        ),
        (
            ("beam.engine=flink", f"beam.job_server={JARS['flink'].replace(BEAM_VERSION, '2.59.0')}"),
            "of the Beam installed",
        ),
        (("beam.engine=spark", "beam.job_server=localhost:8099", "beam.parallelism=2"), "has no use for parallelism"),
        (("beam.engine=dataflow",), "engine = dataflow needs project, region, temp_location"),
        (("beam.engine=dataflow", *GOOGLE, "beam.temp_location=/tmp"), "temp_location = /tmp must be a folder of a"),
        (("beam.engine=dataflow", *GOOGLE), "pulls its image from a registry, which digit-rows:0.1.0-beam-worker does"),
        (("beam.engine=dataflow", *GOOGLE, "beam.environment=loopback"), "dataflow has no use for environment"),
        ((*FLINK, *GOOGLE), "engine = flink has no use for project, region, temp_location"),
    ],
)
def test_impossible_settings_give_a_sentence_and_exit_code_2(
    overrides: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["--run-root", str(tmp_path / "root"), "--set", *overrides]) == WRONG_USE
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("run_local: --set beam") and words in line and line.endswith(".")
    assert not (tmp_path / "root").exists()


def test_no_preset_pickles_the_main_session() -> None:
    assert not any("main_session" in option for preset in PRESETS.values() for option in expand(*preset))
