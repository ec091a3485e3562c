"""Steps that use an object store by its addresses, as they do with a distributed Beam engine: a real S3 protocol."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
import yaml
from moto.server import ThreadedMotoServer

pytest.importorskip("tensorflow_io", reason="there is no tensorflow-io for TensorFlow 2.21")

from pipeline.run_kubeflow import main
from tests import processes
from tests.conftest import ROOT
from tests.pipeline.few_digits import few_mnist
from tests.pipeline.kubeflow_launcher import SECRET, Launcher, in_fork

pytestmark = pytest.mark.slow

# What the Baseline and the Pusher do with TF Serving's base path, in a process with the S3 file system.
PUSHES = """
import os, sys
from pathlib import Path
from tests.components.test_baseline import save
from tests.components.test_pusher import Atomic, push
import tensorflow_io
from tfx.types import standard_artifacts
from tfx.utils import io_utils, path_utils
from components.baseline import LatestPushedModel
from components.version_folder import version_folders
work, base = Path(sys.argv[1]), "s3://bucket/serving_models/mnist"
seen = [version_folders(base)]
save(work / "blessing" / "stamped_model", 1)
for _ in range(2):
    push(Atomic(), work, base)
    seen.append([Path(folder).name for folder in version_folders(base)])
save(work / "future", 3)
io_utils.copy_dir(str(work / "future"), f"{base}/9999999999")
save(work / "blessing" / "stamped_model", 4)
push(Atomic(), work, base)
seen.append([Path(folder).name for folder in version_folders(base)][:2])
candidate, found = standard_artifacts.Model(), standard_artifacts.Model()
candidate.uri, found.uri = str(work / "candidate"), str(work / "found")
save(Path(path_utils.serving_model_path(candidate.uri)), 2)
LatestPushedModel.test_call(candidate=candidate, model=found, serving_dir=base)
assert os.path.exists(path_utils.serving_model_path(found.uri) + "/saved_model.pb")
print(seen, found.get_string_custom_property("version"), flush=True)
os._exit(0)
"""


@pytest.fixture(scope="module")
def store() -> Iterator[dict[str, str]]:
    """An S3 server on loopback with a bucket; the variables that lead to it."""
    server = ThreadedMotoServer("localhost", 0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    endpoint = f"http://localhost:{port}"
    keys = {"AWS_ACCESS_KEY_ID": "digits", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": "us-east-1"}
    # Beam asks boto3, TensorFlow its own client.
    client = {"S3_ENDPOINT": endpoint, "S3_USE_HTTPS": "0", "S3_VERIFY_SSL": "0", "AWS_REGION": "us-east-1"}
    yield {**keys, **client, "AWS_ENDPOINT_URL": endpoint}
    server.stop()


@pytest.fixture(scope="module")
def bucket(store: dict[str, str]):
    session = boto3.Session(store["AWS_ACCESS_KEY_ID"], SECRET, region_name=store["AWS_DEFAULT_REGION"])
    bucket = session.resource("s3", endpoint_url=store["AWS_ENDPOINT_URL"]).Bucket("bucket")
    bucket.create()
    return bucket


def test_beams_steps_read_and_write_a_bucket(store: dict[str, str], bucket, tmp_path: Path) -> None:
    for shard in few_mnist(tmp_path, (40, 10, 10)).iterdir():
        bucket.upload_file(str(shard), f"days/07/{shard.name}")
    bucket.upload_file(str(shard), f"days/08/{shard.name}")  # a day that is still being copied
    package = tmp_path / "pipeline.yaml"
    options = ["--image", "digit-rows:0.1.0", "--pipeline-root", "s3://bucket/root", "-o", str(package)]
    keys = 'kubeflow.secrets={store = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]}'
    assert main(["compile", *options, "--set", "data.path=s3://bucket/days/{SPAN}", keys]) == 0
    assert SECRET not in package.read_text()
    package.write_text(by_address(package.read_text()))
    launcher = Launcher(tmp_path / "kubeflow", execute=in_fork)
    only = ["CuratedSchema", "ExampleGen", "StatisticsGen"]
    launcher.secrets["store"] = store
    where = {name: value for name, value in store.items() if "KEY" not in name}
    steps = launcher.run(package, environment=where, only=only)
    assert {steps[name].state for name in only} == {"SUCCEEDED"}, "".join(step.printed for step in steps.values())
    assert "Takes 1 day: 7." in steps["ExampleGen"].printed
    written = {item.key for item in bucket.objects.filter(Prefix="root/digit-rows/run-1")}
    for pattern in ("ExampleGen/.*/examples/Split-train/", "StatisticsGen/.*/statistics/Split-test/FeatureStats.pb"):
        assert any(re.search(pattern, key) for key in written), sorted(written)
    assert not any(SECRET in step.printed or SECRET in str(step.outputs) for step in steps.values())


def by_address(package: str) -> str:
    """The spec as a distributed engine has it, without running one."""
    documents = list(yaml.safe_load_all(package))
    for executor in documents[0]["deploymentSpec"]["executors"].values():
        args = executor["container"]["args"]
        executor["container"]["args"] = args[: args.index("--copies")]
    return yaml.safe_dump_all(documents)


def test_a_model_is_pushed_to_a_bucket_once_and_found_there(store: dict[str, str], bucket, tmp_path: Path) -> None:
    environment = {**store, "PYTHONPATH": str(ROOT), "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    code, printed = processes.run(
        processes.python, ["-c", PUSHES, str(tmp_path)], str(ROOT), environment={**environment, "HOME": "/tmp"}
    )
    assert code == 0, printed
    pushed = [
        item.key for item in bucket.objects.filter(Prefix="serving_models") if item.key.endswith("saved_model.pb")
    ]
    version, *later = sorted((key.split("/")[-2] for key in pushed), key=int)
    assert later == ["9999999999", "10000000000"]  # above the newest, also where the clock is behind
    expected = f"[[], ['{version}'], ['{version}'], ['10000000000', '9999999999']] 10000000000"
    assert printed.splitlines()[-1] == expected
