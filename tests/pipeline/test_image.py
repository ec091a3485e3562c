"""The Dockerfile, its lock files and its context; and the image, built as a folder."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.run_kubeflow import main as compile_pipeline
from tests.conftest import ROOT
from tests.pipeline.image import Stage, build, context, pins, structure
from tests.pipeline.kubeflow_launcher import Launcher

PYTHON = (3, 13)
LOCKS = ["requirements-cpu.lock", "requirements-gpu.lock"]
MODULES = """
import importlib, pkgutil, sys
for package in ("pipeline", "components", "data", "serving"):
    folder = importlib.import_module(package).__path__
    for module in pkgutil.walk_packages(folder, package + "."):
        if not module.name.endswith("__main__"):
            print(importlib.import_module(module.name).__file__)
"""


def test_the_dockerfile_is_clean() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "hadolint ignore" not in (ROOT / "Dockerfile").read_text()


def test_the_default_image_runs_the_pipeline_as_an_ordinary_user() -> None:
    stages = [step["value"] for step in structure() if step["instruction"] == "FROM"]
    assert "python:${PYTHON} AS build" in stages and stages[-1] == "image AS run"
    assert [step["value"] for step in structure() if step["instruction"] == "USER"] == ["1000:1000", "${WORKER}"]
    assert "WORKER=1000:1000" in [step["value"] for step in structure()]


@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_of_the_image_is_a_part_of_the_whole_lock(lock: str) -> None:
    image, whole = pins(lock), pins("requirements-tfx-1.21.lock")
    assert {name: version for name, version in image.items() if name in whole and whole[name] != version} == {}
    more = {name for name in image if name not in whole and not name.startswith("nvidia-")}
    assert more == ({"tensorflow-cpu"} if "cpu" in lock else set())
    assert image.get("tensorflow-cpu", image.get("tensorflow")) == whole["tensorflow"]
    assert ("tensorflow" in image) == ("nvidia-cudnn-cu12" in image) == ("gpu" in lock)
    assert {"apache-beam", "boto3", "kfp", "setuptools", "tf-keras", "tfx", "wheel"} <= set(image)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    tools = {re.split(r"[<>=\[]", requirement)[0].lower() for requirement in extras["dev"]}
    assert {"mypy", "moto", "pytest", "ruff"} <= tools and not tools & set(image)


@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_of_the_image_has_hashes_and_no_addresses(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "://" not in text and "--index" not in text and "--find-links" not in text
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(pins(lock)) and all("==" in entry and "--hash=sha256:" in entry for entry in entries)


def test_the_context_has_only_files_that_the_dockerfile_copies() -> None:
    files = context()
    folders = {name.split("/")[0] for name in files if "/" in name}
    assert folders == {"components", "data", "pipeline", "serving"}
    project = {"LICENSE", "README.md", "pyproject.toml"}
    assert {name for name in files if "/" not in name} == {*project, *LOCKS}
    for split in ("train", "eval", "test"):
        assert any(re.fullmatch(rf"data/mnist/{split}-\S+\.tfrecord\.gz", name) for name in files)
    assert {str(path.relative_to(ROOT)) for folder in folders for path in (ROOT / folder).rglob("*.py")} <= set(files)
    assert not [name for name in files if "/kubernetes/" in name or "__pycache__" in name]


def test_the_context_has_no_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shutil.copy(ROOT / ".dockerignore", tmp_path)
    secrets = [".env", "server.key", "a.pem", "serving/.env", "serving/server.key", "data/x/ca.pem", "pipeline/a.crt"]
    others = [".git/config", ".venv/bin/python", "runs/lock", "tests/x.py", "serving/__pycache__/x.pyc"]
    for name in (*secrets, *others, "serving/x.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setattr("tests.pipeline.image.ROOT", tmp_path)
    assert context() == ["serving/x.py"]


@pytest.fixture(scope="module")
def image() -> Iterator[Stage]:
    """The cpu image as a folder of 2.3 GB. The build takes one or two minutes."""
    if sys.version_info[:2] != PYTHON:
        pytest.skip("the image has Python 3.13 on Debian 13: tests/fresh_machine.sh debian-13 runs these tests")
    folder = Path(tempfile.mkdtemp(prefix="image-"))
    try:
        yield build(folder, VARIANT="cpu")
    finally:
        shutil.rmtree(folder)


@pytest.mark.slow
def test_the_image_is_small(image: Stage) -> None:
    size = sum(path.lstat().st_size for path in image.root.rglob("*"))
    assert size < 2.4 * 2**30
    assert image.user == "1000:1000" and not image.path("/build").exists()


@pytest.mark.slow
def test_every_module_comes_from_the_installed_package(image: Stage) -> None:
    done = image.run("python", "-c", MODULES)
    assert done.returncode == 0, done.stderr
    site = image.path("/opt/venv/lib/python3.13/site-packages")
    files = [line for line in done.stdout.splitlines() if line.endswith(".py")]
    assert len(files) > 40 and all(Path(file).is_relative_to(site) for file in files)


@pytest.mark.slow
@pytest.mark.parametrize(
    "module", ["pipeline.run_local", "pipeline.run_kubeflow", "pipeline.kubeflow.step", "serving.model_server"]
)
def test_the_commands_start(image: Stage, module: str) -> None:
    done = image.run("python", "-m", module, "--help")
    assert done.returncode == 0 and module in done.stdout, done.stderr


def test_the_image_has_the_tensorflow_serving_of_the_deployment() -> None:
    (version,) = [step["value"].removeprefix("SERVING=") for step in structure() if "SERVING=" in step["value"]]
    deployment = (ROOT / "serving/tensorflow_serving/kubernetes/base/deployment.yaml").read_text()
    assert f"image: tensorflow/serving:{version}\n" in deployment


def test_the_workers_have_the_beam_of_the_image() -> None:
    (copied,) = [step["value"].split()[0] for step in structure() if "beam" in step["value"] and "COPY" in str(step)]
    assert copied == f"--from=apache/beam_python3.13_sdk:{pins()['apache-beam']}"


@pytest.mark.slow
def test_the_infra_check_of_the_image_finds_tensorflow_serving(image: Stage) -> None:
    done = image.run("python", "-c", "from serving.launch import server_kind; print(server_kind())")
    assert done.stdout.strip() == str(image.path("/usr/local/bin/tensorflow_model_server")), done.stderr
    done = image.run("/usr/local/bin/tensorflow_model_server", "--help")
    assert done.returncode == 0 and "--model_base_path" in done.stdout, done.stderr


@pytest.mark.slow
def test_a_step_of_the_kubeflow_spec_runs(image: Stage, tmp_path: Path) -> None:
    package = tmp_path / "pipeline.yaml"
    options = ["--image", "digit-rows:0.1.0", "--pipeline-root", "gs://bucket/root", "-o", str(package)]
    assert compile_pipeline(["compile", *options]) == 0
    python = image.path("/opt/venv/bin/python")
    launcher = Launcher(tmp_path / "kubeflow", str(python), app=image.path("/app"), path=None)
    step = launcher.run(package, only=["CuratedSchema"])["CuratedSchema"]
    assert step.state == "SUCCEEDED", step.printed
    assert "image_domain" in (launcher.object(step, "schema") / "schema.pbtxt").read_text()


@pytest.mark.slow
def test_the_beam_workers_start(image: Stage) -> None:
    done = image.run("python", "-m", "apache_beam.runners.worker.worker_pool_main", "--help")
    assert done.returncode == 0 and "--service_port" in done.stdout, done.stderr
    runners = "dataflow.dataflow_runner", "portability.flink_runner", "portability.spark_runner"
    connectors = "io.gcp.gcsio", "io.aws.clients.s3.boto3_client"
    lines = [f"import apache_beam.{name}" for name in (*(f"runners.{name}" for name in runners), *connectors)]
    done = image.run("python", "-c", "\n".join(lines))
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_default_command_reads_the_digits_of_the_image(image: Stage) -> None:
    done = image.run(*image.command, "--to", "ExampleGen")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ExampleGen" in done.stdout and image.path("/runs/metadata.db").exists()
