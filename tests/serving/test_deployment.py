"""The files in serving/tensorflow_serving: checked with schemas, TensorFlow Serving's messages and a shell."""

from __future__ import annotations

import argparse
import importlib.resources
import json
import re
import shutil
import socket
import subprocess
import threading
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import trustme
import yaml
from google.protobuf import text_format
from kubernetes_validate import ValidationError, latest_version, validate

from serving.protos import BatchingParameters, MonitoringConfig, SSLConfig
from serving.request_log.__main__ import parser as request_log_parser
from tests.conftest import check_shell
from tests.serving.rpc import Rpc, available

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "serving" / "tensorflow_serving"
BASE = FOLDER / "kubernetes" / "base"
OVERLAYS = sorted((FOLDER / "kubernetes" / "overlays").iterdir())
CONFIG = BASE / "config"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
MONITORING = text_format.Parse((CONFIG / "monitoring.config").read_text(), MonitoringConfig()).prometheus_config
README = (FOLDER / "README.md").read_text()
# The flags of tensorflow_serving/model_servers/main.cc that a deployment may use.
FLAGS = """
    allow_version_labels_for_unavailable_models batching_parameters_file enable_batching enable_model_warmup
    enable_per_model_batching_parameters file_system_poll_wait_seconds flush_filesystem_caches
    grpc_channel_arguments grpc_max_threads grpc_socket_path load_retry_interval_micros max_num_load_retries
    model_base_path model_config_file model_config_file_poll_wait_seconds model_name monitoring_config_file
    num_load_threads num_unload_threads per_process_gpu_memory_fraction port rest_api_enable_cors_support
    rest_api_num_threads rest_api_port rest_api_timeout_in_ms saved_model_tags ssl_config_file
    tensorflow_inter_op_parallelism tensorflow_intra_op_parallelism tensorflow_session_parallelism"""

check = partial(validate, desired_version=latest_version(), strict=True)


def manifests(folder: Path) -> list[dict[str, Any]]:
    """The folder's Kubernetes objects, without kustomizations and JSON patches."""
    read = [yaml.safe_load(path.read_text()) for path in sorted(folder.glob("*.yaml"))]
    return [item for item in read if isinstance(item, dict) and item["kind"] != "Kustomization"]


def kind(name: str, items: list[dict[str, Any]]) -> dict[str, Any]:
    (found,) = [item for item in items if item["kind"] == name]
    return found


def amount(quantity: str | int) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(m|Ki|Mi|Gi|)", str(quantity)).groups()  # type: ignore[union-attr]
    return float(number) * {"m": 1e-3, "": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}[unit]


def check_flags(arguments: list[str]) -> None:
    flags = [re.sub(r"^--(\w+)=.+$", r"\1", argument) for argument in arguments]
    assert set(flags) <= set(FLAGS.split()) and len(set(flags)) == len(flags)


def check_request_log(command: list[str], mounts: list[str]) -> argparse.Namespace:
    """Fails if serving.request_log does not take the command, or a file or folder of it is not mounted."""
    assert command[:3] == ["python", "-m", "serving.request_log"]
    options = request_log_parser().parse_args(command[3:])
    assert options.host == "0.0.0.0" and str(options.out) in mounts
    paths = (options.ssl_config_file, options.tls_ca, options.tls_cert, options.tls_key)
    assert all(str(Path(path).parent) in mounts for path in paths if path)
    return options


def test_compose_follows_the_specification() -> None:
    schema = importlib.resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    validator = jsonschema.Draft202012Validator(json.loads(schema.read_text()))
    validator.validate(COMPOSE)
    prometheus = {**COMPOSE["services"]["prometheus"], "restrat": "always"}
    assert not validator.is_valid({**COMPOSE, "services": {"prometheus": prometheus}})


def test_compose_names_flags_files_and_images_that_exist() -> None:
    for name, service in COMPOSE["services"].items():
        assert re.search(r":v?\d+\.\d+\.\d+(-gpu)?$", service["image"])
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        if name == "request-log":
            check_request_log(service["entrypoint"] + service["command"], [service["volumes"][0]["target"]])
            continue
        for bind in (volume for volume in service["volumes"] if volume != "prometheus:/prometheus"):
            assert bind["read_only"] and (bind["source"].startswith("${MODELS:-") or (FOLDER / bind["source"]).exists())
        if name != "prometheus":
            assert service["entrypoint"][0] == "tensorflow_model_server"
            check_flags(service["entrypoint"][1:] + service.get("command", []))
    (job,) = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())["scrape_configs"]
    assert job["metrics_path"] == MONITORING.path
    (alias,) = COMPOSE["services"]["tensorflow-serving"]["networks"]["default"]["aliases"]
    assert job["static_configs"] == [{"targets": [f"{alias}:8501"]}]
    # git ignores the private key.
    assert COMPOSE["secrets"]["ssl-config"]["file"] == "./tls/ssl.config"
    assert "/tls/" in (FOLDER / ".gitignore").read_text().splitlines()


@pytest.mark.parametrize(("state", "healthy"), [("AVAILABLE", True), ("LOADING", False)])
def test_the_health_check_reads_the_model_s_state(state: str, healthy: bool) -> None:
    def answer() -> None:
        connection, _ = server.accept()
        with connection, connection.makefile("rb") as request:
            assert b"GET /v1/models/mnist HTTP/1.1\r\n" in list(iter(request.readline, b"\r\n"))
            connection.sendall(f'HTTP/1.1 200 OK\r\n\r\n{{"state": "{state}"}}'.encode())

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=answer, daemon=True).start()
        test = COMPOSE["services"]["tensorflow-serving"]["healthcheck"]["test"]
        command = [part.replace("8501", str(server.getsockname()[1])) for part in test[1:]]
        assert (subprocess.run(command, timeout=5, check=False).returncode == 0) == healthy


@pytest.mark.parametrize("manifest", manifests(BASE) + manifests(BASE.parent), ids=lambda item: item["kind"])
def test_every_manifest_follows_the_schema(manifest: dict[str, Any]) -> None:
    check(manifest)
    with pytest.raises(ValidationError, match="replica"):
        check({**manifest, "spec": {**manifest["spec"], "replica": 2}})


@pytest.mark.parametrize("folder", [BASE, *OVERLAYS], ids=lambda folder: folder.name)
def test_kustomizations_name_all_files_and_only_those(folder: Path) -> None:
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    files = [path for generator in kustomization.get("configMapGenerator", []) for path in generator["files"]]
    patches = kustomization.get("patches", [])
    named = {*kustomization["resources"], *files, *(patch["path"] for patch in patches if "path" in patch)}
    assert all((folder / name).exists() for name in named)
    present = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert present == {name for name in named if not name.startswith("..")} | {"kustomization.yaml"}
    targets = [(item["kind"], item["metadata"]["name"]) for item in manifests(BASE)]
    for patch in patches:
        body = yaml.safe_load(patch["patch"] if "patch" in patch else (folder / patch["path"]).read_text())
        target = patch.get("target") or {"kind": body["kind"], "name": body["metadata"]["name"]}
        assert (target["kind"], target["name"]) in targets


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")
@pytest.mark.parametrize("folder", [BASE, *OVERLAYS], ids=lambda folder: folder.name)
def test_what_kustomize_renders_is_of_one_piece(folder: Path) -> None:
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=True)
    items = list(yaml.safe_load_all(done.stdout))
    assert [check(item) for item in items]
    kinds = {item["kind"] for item in items}
    assert ("HorizontalPodAutoscaler" in kinds) == (folder.name != "gpu")
    assert ("NetworkPolicy" in kinds) == (folder.name == "tls")
    assert set(kind("ConfigMap", items)["data"]) == {path.name for path in CONFIG.iterdir()}
    check_deployment(kind("Deployment", items), kind("Service", items))
    (container,) = kind("Deployment", items)["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "tensorflow/serving:2.21.0" + ("-gpu" if folder.name == "gpu" else "")
    assert ("--ssl_config_file=/tls/ssl.config" in container["args"]) == (folder.name == "tls")


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")
def test_the_run_root_s_overlay_mounts_what_the_job_pushes() -> None:
    folder = BASE.parent / "overlays" / "run-root"
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=True)
    items = list(yaml.safe_load_all(done.stdout))
    assert "PersistentVolumeClaim" not in {item["kind"] for item in items}
    pod = kind("Deployment", items)["spec"]["template"]["spec"]
    kubernetes = ROOT / "pipeline" / "kubernetes"
    claim = yaml.safe_load((kubernetes / "volume.yaml").read_text())["metadata"]["name"]
    job = yaml.safe_load((kubernetes / "job.yaml").read_text())["spec"]["template"]["spec"]
    models = next(volume for volume in pod["volumes"] if volume["name"] == "models")
    assert models["persistentVolumeClaim"]["claimName"] == claim
    assert {"claimName": claim} in [volume.get("persistentVolumeClaim") for volume in job["volumes"]]
    assert pod["securityContext"]["fsGroup"] == job["securityContext"]["fsGroup"]
    (mount,) = (m for m in pod["containers"][0]["volumeMounts"] if m["name"] == "models")
    # <run root>/serving_models/<model name> is the base path of models.config.
    assert (mount["mountPath"], mount["subPath"]) == ("/models", "serving_models")
    assert 'base_path: "/models/mnist"' in (CONFIG / "models.config").read_text()


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")
@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda folder: folder.name)
def test_one_line_of_an_overlay_switches_the_request_log_on(overlay: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(BASE.parent, tmp_path / "kubernetes") / "overlays" / overlay.name
    file = folder / "kustomization.yaml"
    line = re.search(r"^# (components: .*)$", file.read_text(), re.MULTILINE)
    assert line
    file.write_text(file.read_text().replace(line[0], line[1]))
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=True)
    items = list(yaml.safe_load_all(done.stdout))
    assert [check(item) for item in items]
    pod = kind("Deployment", items)["spec"]["template"]["spec"]
    server, sidecar = pod["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in sidecar["volumeMounts"]}
    assert set(mounts) <= {volume["name"] for volume in pod["volumes"]}
    options = check_request_log(sidecar["command"] + sidecar["args"], list(mounts.values()))
    ports = {port["name"]: port["containerPort"] for port in server["ports"] + sidecar["ports"]}
    assert len(set(ports.values())) == len(ports) == 3
    assert options.target == f"localhost:{ports['server']}" and f"--port={ports['server']}" in server["args"]
    assert options.listen == ports["grpc"] == kind("Service", items)["spec"]["ports"][0]["port"]
    assert server["livenessProbe"]["tcpSocket"]["port"] == "server"
    assert sidecar["lifecycle"] == server["lifecycle"]
    tls = overlay.name == "tls"
    assert bool(options.ssl_config_file and options.tls_ca and options.tls_cert and options.tls_name) == tls
    claims = [
        volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"] if "persistentVolumeClaim" in volume
    ]
    written = next(item for item in items if item["metadata"]["name"] == "mnist-requests")
    assert "mnist-requests" in claims and written["kind"] == "PersistentVolumeClaim"
    storage = amount(written["spec"]["resources"]["requests"]["storage"])
    assert options.max_mb * 1e6 < storage


def check_deployment(deployment: dict[str, Any], service: dict[str, Any]) -> None:
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels == service["spec"]["selector"]
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    check_flags(container["args"])
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    others = {mount["name"] for other in pod.get("initContainers", []) for mount in other["volumeMounts"]}
    assert {*mounts, *others} == {volume["name"] for volume in pod["volumes"]}
    for mount, name in re.findall(r"=(/\w+)/(\S+)", " ".join(container["args"])):
        assert mount in mounts.values() and (mount != "/config" or (CONFIG / name).is_file())
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert f"--port={ports['grpc']}" in container["args"] and f"--rest_api_port={ports['rest']}" in container["args"]
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= set(ports)
    probes = [container[name] for name in ("startupProbe", "readinessProbe", "livenessProbe")]
    assert all((probe.get("httpGet") or probe["tcpSocket"])["port"] in ports for probe in probes)
    resources = container["resources"]
    assert all(amount(size) <= amount(resources["limits"][name]) for name, size in resources["requests"].items())
    assert int(container["lifecycle"]["preStop"]["exec"]["command"][1]) < pod["terminationGracePeriodSeconds"]


def test_the_base_s_parts_refer_to_one_another() -> None:
    items = manifests(BASE)
    deployment = kind("Deployment", items)
    check_deployment(deployment, kind("Service", items))
    assert kind("PodDisruptionBudget", items)["spec"]["selector"] == deployment["spec"]["selector"]
    target = kind("HorizontalPodAutoscaler", items)["spec"]["scaleTargetRef"]
    assert target == {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment["metadata"]["name"]}
    pod = deployment["spec"]["template"]["spec"]
    for volumes in (pod["volumes"], kind("Pod", manifests(BASE.parent))["spec"]["volumes"]):
        claims = [volume["persistentVolumeClaim"] for volume in volumes if "persistentVolumeClaim" in volume]
        assert claims == [{"claimName": kind("PersistentVolumeClaim", items)["metadata"]["name"]}]
    assert set(COMPOSE["services"]["tensorflow-serving"]["entrypoint"][1:]) <= set(pod["containers"][0]["args"])


def model(path: Path) -> Any:
    from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

    (config,) = text_format.Parse(path.read_text(), ModelServerConfig()).model_config_list.config
    assert (config.name, config.base_path, config.model_platform) == ("mnist", "/models/mnist", "tensorflow")
    return config


def test_the_committed_configurations() -> None:
    config = model(CONFIG / "models.config")
    assert set(config.version_labels.values()) <= set(config.model_version_policy.specific.versions)
    batching = text_format.Parse((CONFIG / "batching.config").read_text(), BatchingParameters())
    sizes = list(batching.allowed_batch_sizes)
    assert MONITORING.enable and sizes == sorted(set(sizes)) and sizes[-1] == batching.max_batch_size.value


def test_canary_promotion_and_roll_back(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "models-config.sh", tmp_path)
    config = tmp_path / "kubernetes" / "base" / "config" / "models.config"
    config.parent.mkdir(parents=True)
    shutil.copy(CONFIG / "models.config", config)

    def label(*pairs: str) -> tuple[str, dict[str, int], list[int]]:
        done = subprocess.run([tmp_path / "models-config.sh", *pairs], capture_output=True, text=True, check=False)
        assert done.returncode == (2 if done.stderr else 0)
        assert [path.name for path in config.parent.iterdir()] == ["models.config"]
        written = model(config)
        return done.stderr, dict(written.version_labels), list(written.model_version_policy.specific.versions)

    assert label("stable=1", "canary=2") == ("", {"stable": 1, "canary": 2}, [1, 2])
    assert label("stable=2", "previous=1") == ("", {"stable": 2, "previous": 1}, [2, 1])
    assert label("stable=1") == ("", {"stable": 1}, [1])
    # The script refuses to move a label to a version that is not loaded. The file does not change.
    complaint, *kept = label("stable=2")
    assert "not loaded yet" in complaint and kept == [{"stable": 1}, [1]]
    for wrong in ((), ("stable",), ("stable=",), ("stable=01",), ('a"=1',), ("a=1", "a=2")):
        complaint, *kept = label(*wrong)
        assert complaint and kept == [{"stable": 1}, [1]]


def test_the_stand_in_serves_the_deployment_s_models(rpc: Rpc, models: Path) -> None:
    rpc.reload((CONFIG / "models.config").read_text().replace("/models/mnist", str(models / "mnist")))
    assert available(rpc, "mnist") == {2}


def test_ssl_config_holds_the_pem_texts(tmp_path: Path) -> None:
    authority = trustme.CA()
    leaf = authority.issue_cert("localhost")
    key, certificate, ca = (tmp_path / name for name in ("server.key", "server.crt", "ca.crt"))
    for path, pem in ((key, leaf.private_key_pem), (certificate, leaf.cert_chain_pems[0]), (ca, authority.cert_pem)):
        path.write_bytes(pem.bytes())

    def make(*files: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([FOLDER / "make-ssl-config.sh", *files], capture_output=True, text=True, check=False)

    config = text_format.Parse(make(key, certificate).stdout, SSLConfig())
    assert (config.server_key, config.server_cert) == (key.read_text(), certificate.read_text())
    assert not config.custom_ca and not config.client_verify
    mutual = text_format.Parse(make(key, certificate, ca).stdout, SSLConfig())
    assert mutual.custom_ca == ca.read_text() and mutual.client_verify
    for wrong in ((), (key,), (certificate, key), (key, tmp_path / "none"), (key, certificate, key)):
        assert make(*wrong).returncode == 2 and not make(*wrong).stdout


def test_the_readme_s_commands() -> None:
    check_shell(README)
    paths = re.findall(r"(?:serving|tests)/[\w./-]*\w", README.replace("serving/tensorflow_serving/tls", ""))
    assert paths and all((ROOT / path).exists() for path in paths)
    started = re.findall(
        r" (tensorflow-serving[\w-]*|prometheus|request-log)", " ".join(re.findall(r"up -d.*?[\n`]", README))
    )
    assert started and set(started) <= set(COMPOSE["services"])
