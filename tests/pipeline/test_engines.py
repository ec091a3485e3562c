"""The pipeline on a job server and workers, each in its own process; and the files that start real engines."""

from __future__ import annotations

import importlib.resources
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import apache_beam as beam
import jsonschema
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
import tensorflow_transform as tft
import yaml
from apache_beam.options.pipeline_options import PipelineOptions
from kubernetes_validate import ValidationError, latest_version, validate

from pipeline.config import Config, load
from pipeline.definition import create_pipeline
from pipeline.engines.settings import Beam, flink_versions, pipeline_args
from pipeline.exit_codes import PUSHED
from pipeline.local.cli import parse_args
from serving.launch import free_port
from tests.conftest import ROOT, Outcome, check_shell, install_package, states
from tests.pipeline.image import pins

Run = Callable[..., Outcome]
JAR = os.environ.get("BEAM_JOB_SERVER_JAR", "")
FOLDER = ROOT / "pipeline" / "engines"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
KUBERNETES = list(yaml.safe_load_all((FOLDER / "kubernetes" / "flink.yaml").read_text()))
README = (FOLDER / "README.md").read_text()
POOL = ["python", "-m", "apache_beam.runners.worker.worker_pool_main", "--service_port=50000"]
check = partial(validate, desired_version=latest_version(), strict=True)
STEPS = ("ExampleGen", "StatisticsGen", "Transform")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package, installed by pip."""
    return install_package(tmp_path_factory.mktemp("install"))


@contextmanager
def served(module: str, flag: str, folder: Path, **environment: str) -> Iterator[str]:
    """`python -m module` on a free port, in a process without access to the checkout; yields its address."""
    port = free_port()
    folder.mkdir()
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", module, f"{flag}={port}"],
            cwd=folder,
            # A pool starts `python`: the first one on PATH.
            env={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(folder), **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + 30
        while time.monotonic() < end and process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("localhost", port)) == 0:
                    break
            time.sleep(0.1)
        else:
            pytest.fail((folder / "log").read_text())
        yield f"localhost:{port}"
    finally:
        # This also ends the workers of the pool.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def preset(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Settings of the flink engine for Beam's own job server and a worker pool with only the installed package."""
    folder = tmp_path_factory.mktemp("engine")
    with (
        served("apache_beam.runners.portability.local_job_service_main", "--job_port", folder / "server") as server,
        served(
            "apache_beam.runners.worker.worker_pool_main", "--service_port", folder / "pool", PYTHONPATH=str(site)
        ) as pool,
    ):
        yield {"engine": "flink", "job_server": server, "environment": "external", "worker_pool": pool}


@pytest.fixture(scope="module")
def in_memory(tmp_path_factory: pytest.TempPathFactory, small_mnist: Path) -> Path:
    """The run root of the first steps on the direct engine."""
    from pipeline.local.cli import main

    root = tmp_path_factory.mktemp("direct") / "root"
    assert main(["--run-root", str(root), "--to", "Transform", "--set", f"data.path={small_mnist}"]) == PUSHED
    return root


def overrides(settings: dict[str, str]) -> list[str]:
    return [f"beam.{name}={value}" for name, value in settings.items()]


def records(root: Path) -> dict[str, Counter[bytes]]:
    (examples,) = (root / "artifacts" / "ExampleGen" / "examples").iterdir()
    return {
        split.name: Counter(tf.data.TFRecordDataset([str(p) for p in split.iterdir()], "GZIP").as_numpy_iterator())
        for split in examples.glob("Split-*")
    }


def check_same(root: Path, other: Path) -> None:
    """Both runs have equal records, equal statistics, and Transform graphs with equal results."""
    assert {step: states(root)[step] for step in STEPS} == dict.fromkeys(STEPS, "COMPLETE")
    found = records(root)
    assert found == records(other)
    assert {split: examples.total() for split, examples in found.items()} == {
        "Split-train": 3000,
        "Split-eval": 500,
        "Split-test": 1000,
    }
    for split in found:
        ours, theirs = (
            tfdv.load_stats_binary(str(next(folder.glob(f"artifacts/StatisticsGen/statistics/*/{split}/*"))))
            for folder in (root, other)
        )
        assert ours == theirs
    graphs = [
        tft.TFTransformOutput(str(next(folder.glob("artifacts/Transform/transform_graph/*"))))
        for folder in (root, other)
    ]
    raw = [graph.raw_feature_spec() for graph in graphs]
    assert raw[0] == raw[1] and graphs[0].transformed_feature_spec() == graphs[1].transformed_feature_spec()
    parsed = tf.io.parse_example(list(found["Split-eval"]), raw[0])
    ours, theirs = (graph.transform_features_layer()(dict(parsed)) for graph in graphs)
    assert set(ours) == set(theirs)
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name])


@pytest.mark.slow
@pytest.mark.parametrize("environment", ["external", "loopback"])
def test_workers_give_the_same_results_as_direct(
    run: Run, preset: dict[str, str], environment: str, in_memory: Path, small_mnist: Path, tmp_path: Path
) -> None:
    """External workers have only the installed package. The loopback worker is a thread of this process."""
    settings = {**preset, "environment": environment}
    if environment == "loopback":
        del settings["worker_pool"]
    outcome = run(tmp_path / "root", small_mnist, *overrides(settings), options=("--to", "Transform"))
    assert outcome.code == PUSHED, outcome.text
    check_same(tmp_path / "root", in_memory)


@pytest.mark.slow
def test_every_step_and_module_comes_from_the_installed_package_in_a_worker(
    preset: dict[str, str], site: Path, tmp_path: Path
) -> None:
    chain = create_pipeline(Config(), pipeline_root=str(tmp_path), serving_dir=str(tmp_path / "serving"))
    steps = {node.executor_spec.class_path for node in chain.components}
    functions = {
        node.exec_properties[name]
        for node in chain.components
        for name in ("preprocessing_fn", "run_fn")
        if node.exec_properties.get(name)
    }
    assert functions == {"components.transform.preprocessing_fn", "components.trainer.run.run_fn"}
    folders = [ROOT / name for name in ("pipeline", "components", "data")]
    files = {path.relative_to(ROOT) for folder in folders for path in folder.rglob("*.py")}
    modules = {".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in files}
    named = {*steps, *functions, "components.evaluator.metrics.ExpectedCalibrationError", *modules}
    # Only builtins and text, because the workers do not have this test module.
    questions = [f"__import__('inspect').getfile(__import__('pydoc').locate({name!r}))" for name in named]
    options = PipelineOptions(pipeline_args(Beam.model_validate(preset)))
    with beam.Pipeline(options=options) as pipeline:
        answers = pipeline | beam.Create(questions) | beam.Map(eval)
        answers | beam.io.WriteToText(str(tmp_path / "files"))
    found = [Path(line) for file in tmp_path.glob("files*") for line in file.read_text().splitlines()]
    assert len(found) == len(named)
    assert {path.relative_to(site) for path in found if path.is_relative_to(site)} == files
    theirs = {path for path in found if not path.is_relative_to(site)}
    assert theirs and all(path.is_relative_to(Path(tfdv.__file__).parents[1] / "tfx") for path in theirs)


@pytest.fixture
def interrupt_handler() -> Iterator[None]:
    """Restores the SIGINT handler. Beam replaces it when it starts the jar of a job server."""
    kept = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, kept)


@pytest.mark.slow
@pytest.mark.usefixtures("interrupt_handler")
def test_a_step_starts_the_server_of_a_jar(run: Run, in_memory: Path, small_mnist: Path, tmp_path: Path) -> None:
    """Everything is real except the jar: Beam's own job server replaces Java on the same port."""
    jar, java = tmp_path / "server.jar", tmp_path / "java"
    jar.touch()
    java.write_text(
        '#!/bin/sh\nwhile [ "$1" != --job-port ]; do shift; done\n'
        f'exec {sys.executable} -m apache_beam.runners.portability.local_job_service_main --job_port "$2"\n'
    )
    java.chmod(0o755)
    options = ("--to", "ExampleGen", f"--beam-arg=--job_server_java_launcher={java}")
    outcome = run(tmp_path / "root", small_mnist, "beam.engine=flink", f"beam.job_server={jar}", options=options)
    assert outcome.code == PUSHED, outcome.text
    assert records(tmp_path / "root") == records(in_memory)


@pytest.mark.slow
@pytest.mark.usefixtures("interrupt_handler")
@pytest.mark.skipif(not JAR, reason="BEAM_JOB_SERVER_JAR names no Flink job server's jar")
def test_flink_runs_example_gen_and_transform__skipped_without_BEAM_JOB_SERVER_JAR(
    run: Run, in_memory: Path, small_mnist: Path, tmp_path: Path
) -> None:
    settings = ("beam.engine=flink", f"beam.job_server={JAR}")
    outcome = run(tmp_path / "root", small_mnist, *settings, options=("--to", "Transform"))
    assert outcome.code == PUSHED, outcome.text
    check_same(tmp_path / "root", in_memory)


def test_compose_follows_the_specification() -> None:
    schema = importlib.resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    validator = jsonschema.Draft202012Validator(json.loads(schema.read_text()))
    validator.validate(COMPOSE)
    assert not validator.is_valid({**COMPOSE, "services": {"pool": {**SERVICES["flink-worker-pool"], "comand": POOL}}})


def test_compose_services_are_confined_and_refer_to_each_other() -> None:
    for name, service in SERVICES.items():
        assert int(service["user"].split(":")[0]) > 0 and service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"] and service["mem_limit"], name
        assert set(service.get("depends_on", ())) <= set(SERVICES)
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
        # A profile also starts the services that its services need, such as the task manager of a pool.
        (profile,) = service["profiles"]
        beside = service.get("network_mode", f"service:{name}").removeprefix("service:")
        assert all(SERVICES[other]["profiles"] == [profile] for other in (beside, *service.get("depends_on", ())))


def check_images(images: set[str]) -> None:
    assert all(re.search(r":v?\d+\.\d+\.\d+", image) for image in images)
    flinks = {re.search(r"\d+\.\d+", image)[0] for image in images if image.startswith("flink:")}  # type: ignore[index]
    for image in images:
        if engine := re.match(r"apache/beam_(flink|spark)([\d.]+)_job_server:(.+)", image):
            assert engine[3] == pins()["apache-beam"]
            assert engine[1] == "spark" or {engine[2]} == flinks
            assert flinks <= {*flink_versions()} or version("apache-beam") != engine[3]


def check_settings(words: list[str], pool: int, servers: dict[str, set[int]]) -> Beam:
    """Checks that the addresses in a run_local command are those of the services; returns its Beam settings."""
    args = parse_args(words)
    settings = load(args.profile, args.set).beam
    assert settings.environment == "external" and settings.worker_pool == f"localhost:{pool}"
    for address, port in ((settings.job_server, 8099), (settings.artifact_endpoint, 8098)):
        assert address.partition(":")[2] == str(port) and port in servers[address.partition(":")[0]]
    return settings


@pytest.mark.parametrize("engine", ["flink", "spark"])
def test_the_compose_pipeline_uses_the_server_and_workers(engine: str) -> None:
    check_images({service["image"] for service in SERVICES.values()})
    pool, pipeline, server = (
        SERVICES[name.format(engine)] for name in ("{}-worker-pool", "pipeline-on-{}", "{}-job-server")
    )
    assert pool["command"] == POOL and pipeline["command"][:3] == ["python", "-m", "pipeline.run_local"]
    servers = {name: {8098, 8099} for name in SERVICES if name == f"{engine}-job-server"}
    assert check_settings(pipeline["command"][3:], 50000, servers).engine == engine
    assert pool["volumes"] == pipeline["volumes"] == ["runs:/runs"] and pool["image"] == pipeline["image"]
    (master,) = (word for word in server["command"] if "master" in word)
    assert re.split(r"[=/:]+", master)[-2] in SERVICES and "--job-host=0.0.0.0" in server["command"]


@pytest.mark.parametrize("item", KUBERNETES, ids=lambda item: f"{item['kind']}-{item['metadata']['name']}")
def test_every_manifest_follows_the_schema(item: dict[str, Any]) -> None:
    check(item)
    with pytest.raises(ValidationError, match="podSelektor"):
        check({**item, "spec": {**item["spec"], "podSelektor": {}}})


def test_the_manifests_refer_to_each_other() -> None:
    pods = {item["metadata"]["name"]: item["spec"] for item in KUBERNETES if item["kind"] == "Deployment"}
    containers = [container for pod in pods.values() for container in pod["template"]["spec"]["containers"]]
    check_images({container["image"] for container in containers})
    for pod in pods.values():
        spec, labels = pod["template"]["spec"], pod["template"]["metadata"]["labels"]
        assert pod["selector"]["matchLabels"] == labels and spec["securityContext"]["runAsNonRoot"]
        volumes = {volume["name"] for volume in spec.get("volumes", ())}
        for container in spec["containers"]:
            assert {**spec["securityContext"], **container["securityContext"]}["runAsUser"] > 0
            assert {mount["name"] for mount in container.get("volumeMounts", ())} <= volumes
    servers = {}
    for service in (item for item in KUBERNETES if item["kind"] == "Service"):
        (container,) = pods[service["metadata"]["name"]]["template"]["spec"]["containers"]
        assert (
            service["spec"]["selector"].items() <= pods[service["metadata"]["name"]]["selector"]["matchLabels"].items()
        )
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert {port["targetPort"]: port["port"] for port in service["spec"]["ports"]} == ports
        servers[service["metadata"]["name"]] = set(ports.values())
    (pool,) = (container for container in containers if container["name"] == "worker-pool")
    assert pool["command"] == POOL and pool["ports"][0]["containerPort"] == 50000
    (words,) = re.findall(r"# (--set .*\n.*)\n```", README)
    assert check_settings(words.replace("#", "").split(), 50000, servers).engine == "flink"
    claim = yaml.safe_load((ROOT / "pipeline" / "kubernetes" / "volume.yaml").read_text())["metadata"]["name"]
    job = yaml.safe_load((ROOT / "pipeline" / "kubernetes" / "job.yaml").read_text())["spec"]["template"]
    for spec in (pods["flink-taskmanager"]["template"]["spec"], job["spec"]):
        assert {"name": "runs", "persistentVolumeClaim": {"claimName": claim}} in spec["volumes"]
        assert {"name": "runs", "mountPath": "/runs"} in spec["containers"][-1]["volumeMounts"]
    allowed = [item["spec"] for item in KUBERNETES if item["kind"] == "NetworkPolicy"][1]["ingress"][0]["from"][0]
    assert allowed["podSelector"]["matchLabels"].items() <= job["metadata"]["labels"].items()


def test_the_commands_of_the_readme() -> None:
    check_shell(README)
    paths = re.findall(r"(?:pipeline|tests)/[\w./-]*\w", README)
    assert paths and all((ROOT / path).exists() for path in paths)
    assert set(re.findall(r"--profile (\w+)", README)) <= {service["profiles"][0] for service in SERVICES.values()}
    assert re.findall(r"run --rm (\S+)", README) == ["pipeline-on-flink"]
