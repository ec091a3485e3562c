"""The files that start Beam engines: the services of Docker Compose, and the manifests of Kubernetes."""

from __future__ import annotations

import importlib.resources
import json
import re
from functools import partial
from importlib.metadata import version
from typing import Any

import jsonschema
import pytest
import yaml
from kubernetes_validate import ValidationError, latest_version, validate

from pipeline.config import load
from pipeline.engines.settings import Beam, flink_versions
from pipeline.local.cli import parse_args
from tests.conftest import ROOT, check_shell
from tests.pipeline.image import pins

FOLDER = ROOT / "pipeline" / "engines"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
KUBERNETES = list(yaml.safe_load_all((FOLDER / "kubernetes" / "flink.yaml").read_text()))
README = (FOLDER / "README.md").read_text()
POOL = ["python", "-m", "apache_beam.runners.worker.worker_pool_main", "--service_port=50000"]
check = partial(validate, desired_version=latest_version(), strict=True)


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
