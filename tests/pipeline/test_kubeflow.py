"""The compiled spec and its submission: what Kubeflow and Vertex AI are given, and what is refused first."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp import components
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

from data.errors import SettingsError
from pipeline.definition import STEPS
from pipeline.exit_codes import FAILED, WRONG_USE
from pipeline.kubeflow.compile import Deployment, unreadable
from pipeline.kubeflow.report import REPORT, VERDICT, address
from pipeline.run_kubeflow import main
from tests.conftest import Outcome
from tests.pipeline.kubeflow_api import Server, kubeflow_api

MINIO = ("--image", "digit-rows:0.1.0", "--pipeline-root", "minio://mlpipeline/v2/artifacts", "--volume", "models")
GCS = ("--image", "registry.example.com/digit-rows:0.1.0", "--pipeline-root", "gs://bucket/root")
BEAM_STEPS = {"ExampleGen", "StatisticsGen", "Transform", "Evaluator"}
FLINK = ("beam.engine=flink", "beam.job_server=jobs:8099", "beam.environment=docker")
Command = Callable[..., Outcome]


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Command:
    def command(*args: str) -> Outcome:
        capfd.readouterr()
        code = main([*args])
        shown = capfd.readouterr()
        return Outcome(code, shown.out + shown.err)

    return command


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The spec of the default profile with a GPU for the Trainer and a secret's key for everyone."""
    file = tmp_path_factory.mktemp("spec") / "pipeline.yaml"
    trainer = ["kubeflow.trainer.gpus=2", 'kubeflow.trainer.node_selector={"pool" = "gpu"}']
    secrets = 'kubeflow.secrets={aws = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]}'
    assert main(["compile", *MINIO, "-o", str(file), "--set", *trainer, secrets]) == 0
    return file


@pytest.fixture(scope="module")
def documents(package: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(package.read_text()))


def containers(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    executors = spec["deploymentSpec"]["executors"]
    return {name.removesuffix("_executor"): executor["container"] for name, executor in executors.items()}


def test_kfps_own_loader_and_messages_take_the_spec(package: Path, documents: list[dict[str, Any]]) -> None:
    loaded = components.load_component_from_file(str(package))
    assert set(loaded.component_spec.inputs) == {"data_path"}
    spec, platform = documents
    parsed = json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    assert parsed.schema_version == "2.1.0" and parsed.default_pipeline_root == "minio://mlpipeline/v2/artifacts"
    json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec())
    for executor in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
        json_format.ParseDict(executor, kubernetes_executor_config_pb2.KubernetesExecutorConfig())


def test_it_is_the_same_chain_and_holds_nothing_open_source_kubeflow_cannot_run(
    documents: list[dict[str, Any]],
) -> None:
    spec = documents[0]
    assert sorted(spec["root"]["dag"]["tasks"]) == sorted((*STEPS, REPORT, VERDICT))
    executors = spec["deploymentSpec"]["executors"]
    assert {kind for executor in executors.values() for kind in executor} == {"container"}
    assert not any("lifecycle" in container for container in containers(spec).values())
    assert spec["root"]["dag"]["tasks"]["Transform"]["dependentTasks"].count("DataGate") == 1


def test_every_command_names_what_is_there(documents: list[dict[str, Any]]) -> None:
    for step, container in containers(documents[0]).items():
        assert container["command"] == ["python", "-m", "pipeline.kubeflow.step"]
        path = container["args"][container["args"].index("--executor_class_path") + 1]
        module, name = path.rsplit(".", maxsplit=1)
        assert callable(getattr(importlib.import_module(module), name).Do), step


def test_each_step_asks_for_what_it_needs(documents: list[dict[str, Any]]) -> None:
    spec, platform = documents
    asked = {step: container["resources"] for step, container in containers(spec).items()}
    assert all(item["cpuRequest"] == item["cpuLimit"] > 0 and item["memoryLimit"] >= 3 for item in asked.values())
    assert asked["Trainer"]["accelerator"] == {"type": "nvidia.com/gpu", "count": "2"}
    assert asked["Trainer"]["cpuLimit"] == 4 and asked["Trainer"]["memoryLimit"] == 8
    assert [step for step, item in asked.items() if "accelerator" in item] == ["Trainer"]
    on_kubernetes = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert on_kubernetes["Trainer_executor"]["nodeSelector"] == {"labels": {"pool": "gpu"}}
    assert sum("nodeSelector" in item for item in on_kubernetes.values()) == 1
    assert {item["pvcMount"][0]["constant"] for item in on_kubernetes.values()} == {"models"}
    assert all(int(item["activeDeadlineSeconds"]) >= 1800 for item in on_kubernetes.values())
    (secret,) = on_kubernetes["ExampleGen_executor"]["secretAsEnv"]
    assert secret["secretName"] == "aws" and len(secret["keyToEnv"]) == 2
    retries = {name: task["retryPolicy"].get("maxRetryCount", 0) for name, task in spec["root"]["dag"]["tasks"].items()}
    several = {step: 2 if step in (*BEAM_STEPS, "Trainer") else 1 for step in (*STEPS, REPORT)}
    assert retries == {**several, VERDICT: 0}  # a verdict does not change
    for name, task in spec["root"]["dag"]["tasks"].items():
        # Argo counts it from the start of the first attempt.
        longest = int(task["retryPolicy"]["backoffMaxDuration"].removesuffix("s"))
        attempt = int(on_kubernetes[f"{name}_executor"]["activeDeadlineSeconds"])
        waits = sum(30 * 2**retry for retry in range(retries[name]))
        assert longest >= (retries[name] + 1) * attempt + waits


def test_only_what_depends_on_the_outside_is_never_cached(documents: list[dict[str, Any]]) -> None:
    tasks = documents[0]["root"]["dag"]["tasks"]
    assert [name for name, task in tasks.items() if not task["cachingOptions"].get("enableCache")] == [
        "Baseline",
        "ExampleGen",
        REPORT,
        VERDICT,
    ]


def test_the_report_is_an_html_artifact_of_a_step_that_ends_well(documents: list[dict[str, Any]]) -> None:
    """Kubeflow keeps no artifact of a failed step: the verdict comes after the report."""
    spec = documents[0]
    declared = spec["components"][REPORT]["outputDefinitions"]["artifacts"]["report"]["artifactType"]
    assert declared == {"schemaTitle": "system.HTML", "schemaVersion": "0.0.1"}
    tasks = spec["root"]["dag"]["tasks"]
    assert "Pusher" in tasks[REPORT]["dependentTasks"] and REPORT in tasks[VERDICT]["dependentTasks"]
    parameters = tasks[REPORT]["inputs"]["parameters"]
    assert parameters["data_path"] == {"componentInputParameter": "data_path"}
    record = json.loads(parameters["record"]["runtimeValue"]["constant"])
    assert record["settings"]["training"]["epochs"] == 7 and len(record["fingerprints"]["Trainer"]) == 16
    assert "metadata" not in record["settings"]


def test_the_report_shows_addresses_in_place_of_the_launchers_copies() -> None:
    assert address("/minio/mlpipeline/v2/examples") == "minio://mlpipeline/v2/examples"
    assert address("/gcs/bucket/examples") == "gs://bucket/examples"
    assert address("/volume/serving_models/1") == "/volume/serving_models/1"


def test_the_data_are_the_images_own_unless_a_run_says_otherwise(documents: list[dict[str, Any]]) -> None:
    spec = documents[0]
    assert spec["root"]["inputDefinitions"]["parameters"]["data_path"]["defaultValue"] == "/app/data/mnist"
    tasks = spec["root"]["dag"]["tasks"]
    parameters = {name: tasks[name]["inputs"]["parameters"] for name in ("ExampleGen", "DataGate")}
    assert parameters["ExampleGen"]["input_base"] == {"componentInputParameter": "data_path"}
    assert parameters["DataGate"]["data_path"] == {"componentInputParameter": "data_path"}


def test_vertex_keeps_its_hook_and_gets_no_kubernetes(tmp_path: Path, command: Command) -> None:
    file = tmp_path / "vertex.yaml"
    assert command("compile", *GCS, "--target", "vertex", "-o", str(file)).code == 0
    (spec,) = yaml.safe_load_all(file.read_text())
    json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    assert not any("lifecycle" in container for container in containers(spec).values())
    assert not any("--copies" in container["args"] for container in containers(spec).values())
    pushed = spec["root"]["dag"]["tasks"]["Pusher"]["inputs"]["parameters"]["push_destination"]
    assert "gs://bucket/root/serving_models/mnist" in str(pushed)
    # Vertex AI's own limit.
    tasks = spec["root"]["dag"]["tasks"].values()
    assert all(float(task["retryPolicy"]["backoffMaxDuration"].removesuffix("s")) <= 3600 for task in tasks)


def test_a_distributed_engine_is_given_addresses_not_copies(tmp_path: Path, command: Command) -> None:
    file = tmp_path / "pipeline.yaml"
    assert command("compile", *GCS, "-o", str(file), "--set", *FLINK).code == 0
    spec = next(yaml.safe_load_all(file.read_text()))
    for step, container in containers(spec).items():
        assert "--copies" not in container["args"]
        assert step not in BEAM_STEPS or "--runner=PortableRunner" in container["args"], step


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*MINIO[:2], "--pipeline-root", "/runs"), "must begin with gs:// or s3:// or minio://"),
        ((*MINIO[:4],), "name a claim with --volume"),
        ((*MINIO, "--target", "vertex"), "must begin with gs://"),
        ((*GCS, "--target", "vertex", "--volume", "models"), "Vertex AI mounts no volume claims"),
        ((*GCS, "--serving-dir", "/models"), "would be gone with the Pusher's container"),
        ((*MINIO, "--set", *FLINK), "cannot read minio://"),
        ((*GCS, "--set", *FLINK[:1], "beam.job_server=localhost:8099"), "loopback means the machine of the job server"),
        ((*GCS, "--set", *FLINK[:1], "beam.environment=docker", "beam.job_server=jobs.jar"), "the image has none"),
        ((*MINIO, "--set", "data.path=minio://mnist"), "ExampleGen reads the data itself: use s3://"),
        ((*GCS, "--beam-arg=--s3_secret_access_key=abc"), "with kubeflow.secrets"),
        ((*GCS, "--beam-arg=--direct_num_workers=two"), "--direct_num_workers: invalid int value: 'two'"),
        ((*GCS, "--beam-arg=--no_such_option=abc"), "Beam has no option '--no_such_option'"),
        ((*GCS, "--set", f"name={64 * 'a'}"), "string should have at most 63 characters"),
        ((*GCS, "--set", "name=-digits"), "it must match the pattern"),
        ((*GCS, "--target", "vertex", "--set", 'kubeflow.secrets={a = ["B"]}'), "Vertex AI knows no kubeflow.secrets"),
        ((*GCS, "--target", "vertex", "--set", 'kubeflow.beam.node_selector={a = "b"}'), "beam.node_selector"),
        ((*GCS, "--target", "vertex", "--set", "kubeflow.trainer.gpus=1"), "none of Vertex AI's accelerators"),
        ((*MINIO, "--set", "kubeflow.light.gpus=1"), "there is no setting kubeflow.light.gpus"),
        ((*MINIO, "--set", "kubeflow.trainer.gpu=1"), "there is no setting kubeflow.trainer.gpu"),
        ((*MINIO, "--set", "kubeflow.beam.memory=0"), "kubeflow.beam.memory"),
        ((*MINIO, "--profile", "nowhere"), "There is no profile nowhere"),
    ],
)
def test_what_cannot_work_is_a_sentence_before_anything_is_compiled(
    arguments: tuple[str, ...], words: str, command: Command, tmp_path: Path
) -> None:
    file = tmp_path / "pipeline.yaml"
    outcome = command("compile", *arguments, "-o", str(file))
    assert outcome.code == WRONG_USE and words in outcome.text and "Traceback" not in outcome.text
    assert "=abc" not in outcome.text and not file.exists()


@pytest.mark.parametrize("folder", ["/home/me/photos", "photos", "/volume/photos"])
def test_a_data_folder_that_no_step_sees_is_a_warning(folder: str, command: Command, tmp_path: Path) -> None:
    outcome = command("compile", *GCS, "-o", str(tmp_path / "pipeline.yaml"), "--set", f"data.path={folder}")
    place = Path("/app", folder)
    assert outcome.code == 0 and f"the project's image has no {place}: if yours has not, copy the data" in outcome.text


@pytest.mark.parametrize("folder", ["/volume/photos", "data/mnist", "/app/data/mnist", "gs://bucket/photos"])
def test_a_data_folder_that_a_step_sees_is_none(folder: str) -> None:
    assert not unreadable(folder, Deployment("image", "gs://bucket/root", volume="models"))


def test_an_output_that_cannot_be_written_is_a_sentence(command: Command, tmp_path: Path) -> None:
    outcome = command("compile", *MINIO, "-o", str(tmp_path / "missing" / "pipeline.yaml"))
    assert outcome.code == FAILED and "pipeline.yaml cannot be written" in outcome.text


def test_a_deployment_can_push_elsewhere_than_where_artifacts_lie() -> None:
    deployment = Deployment("image", "minio://mlpipeline/v2/artifacts", volume="models")
    assert deployment.shared == "/volume"
    assert Deployment("image", "gs://bucket/root", volume="models", serving_dir="/volume/elsewhere").serving_dir
    with pytest.raises(SettingsError, match="minio://"):
        Deployment("image", "gs://bucket/root", serving_dir="minio://mlpipeline/models")


@pytest.fixture
def api() -> Iterator[Server]:
    with kubeflow_api() as server:
        yield server


def test_a_submission_uploads_and_starts_a_run(api: Server, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KFP_TOKEN", "bearer-of-secrets")
    options = ("--experiment", "digits", "--run-name", "first", "--parameter", "data_path=s3://bucket/fashion")
    outcome = command("submit", *MINIO, "--host", api.host, *options)
    assert outcome.code == 0, outcome.text
    assert f"Started first: {api.host}/#/runs/details/run-1" in outcome.text
    assert api.body_of("/apis/v2beta1/experiments")["display_name"] == "digits"
    run = api.body_of("/apis/v2beta1/runs")
    assert run["runtime_config"]["parameters"] == {"data_path": "s3://bucket/fashion"}
    assert run["pipeline_version_reference"] == {"pipeline_id": "pipeline-1", "pipeline_version_id": "version-1"}
    uploaded = api.body_of("/apis/v2beta1/pipelines/upload")
    assert "pipeline.kubeflow.step" in uploaded and "enableCache: true" in uploaded
    # The token goes into the header alone.
    assert all("bearer-of-secrets" in headers["authorization"] for _, _, headers, _ in api.requests)
    assert not any("bearer-of-secrets" in f"{path} {body}" for _, path, _, body in api.requests)
    assert "bearer-of-secrets" not in outcome.text


def test_a_known_pipeline_gets_a_new_version_and_a_schedule_sees_new_data(api: Server, command: Command) -> None:
    api.pipelines.add(("", "digit-rows"))
    outcome = command("submit", *MINIO, "--host", api.host, "--cron", "0 3 * * *")
    assert outcome.code == 0, outcome.text
    assert "#/recurringrun/details/recurring_run-1" in outcome.text
    schedule = api.body_of("/apis/v2beta1/recurringruns")
    assert schedule["trigger"]["cron_schedule"]["cron"] == "0 0 3 * * *"
    assert schedule["max_concurrency"] == 1 and schedule["no_catchup"] is True
    assert schedule["pipeline_version_reference"]["pipeline_version_id"] == "version-2"
    # Kubeflow's cache compares the path of the data, so a schedule would never see new ones.
    assert "enableCache: true" not in api.body_of("/apis/v2beta1/pipelines/upload_version")


def test_the_cache_can_be_switched(api: Server, command: Command) -> None:
    assert command("submit", *MINIO, "--host", api.host, "--no-cache").code == 0
    assert "enableCache: true" not in api.body_of("/apis/v2beta1/pipelines/upload")


def test_a_host_that_is_not_there_and_one_that_refuses_are_sentences(api: Server, command: Command) -> None:
    outcome = command("submit", *MINIO, "--host", "http://localhost:9")
    assert outcome.code == FAILED
    assert "Kubeflow Pipelines does not answer at http://localhost:9" in outcome.text
    api.refusal = (401, "Request not authenticated.")
    outcome = command("submit", *MINIO, "--host", api.host)
    assert outcome.code == FAILED
    assert f"Kubeflow Pipelines at {api.host} refused the request: 401 Request not authenticated." in outcome.text
    assert "Traceback" not in outcome.text


def test_where_several_users_are_a_namespace_is_asked_for(api: Server, command: Command) -> None:
    api.multi_user = True
    outcome = command("submit", *MINIO, "--host", api.host)
    assert outcome.code == WRONG_USE and "name yours with --namespace" in outcome.text
    for _ in range(2):
        assert command("submit", *MINIO, "--host", api.host, "--namespace", "team-a", "--run-name", "again").code == 0
    bodies = {path.split("?")[0]: body for method, path, _, body in api.requests if method == "POST"}
    assert bodies["/apis/v2beta1/experiments"]["namespace"] == "team-a"
    # The second time the pipeline is known, in its namespace.
    assert "/apis/v2beta1/pipelines/upload_version" in bodies


def test_a_login_page_is_a_sentence(api: Server, command: Command) -> None:
    api.page = "<html>Log in</html>"
    outcome = command("submit", *MINIO, "--host", api.host)
    assert outcome.code == FAILED and "set KFP_TOKEN to a bearer token" in outcome.text
    assert "Traceback" not in outcome.text


def test_a_run_parameter_the_pipeline_does_not_have_is_a_sentence(api: Server, command: Command) -> None:
    outcome = command("submit", *MINIO, "--host", api.host, "--parameter", "epochs=3")
    assert "'epochs=3' is not data_path=…" in outcome.text and outcome.code == WRONG_USE
    assert api.requests == []
