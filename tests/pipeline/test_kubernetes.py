"""The Job, the CronJob and their volume agree with Kubernetes' schemas, the command line and the image."""

from __future__ import annotations

import copy
import re
import shlex
import subprocess
import sys
from functools import partial, reduce
from typing import Any

import pytest
import yaml
from kubernetes_validate import ValidationError, latest_version, validate

from pipeline.exit_codes import DATA_REFUSED, MODEL_REFUSED, WRONG_USE
from pipeline.local.cli import parse_args
from tests.conftest import ROOT
from tests.pipeline.image import structure

FOLDER = ROOT / "pipeline" / "kubernetes"
VOLUME, JOB, CRONJOB = (yaml.safe_load((FOLDER / f"{name}.yaml").read_text()) for name in ("volume", "job", "cronjob"))
POD = JOB["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
IMAGE = "digit-rows:0.1.0"

check = partial(validate, desired_version=latest_version(), strict=True)


@pytest.mark.parametrize("manifest", [VOLUME, JOB, CRONJOB], ids=lambda item: item["kind"])
def test_every_manifest_follows_the_schema(manifest: dict[str, Any]) -> None:
    check(manifest)
    with pytest.raises(ValidationError, match="suspended"):
        check({**manifest, "spec": {**manifest["spec"], "suspended": True}})


def test_the_cronjob_starts_the_same_job() -> None:
    template = CRONJOB["spec"]["jobTemplate"]
    assert template["spec"] == JOB["spec"] and template["metadata"]["labels"] == JOB["metadata"]["labels"]
    assert CRONJOB["spec"]["concurrencyPolicy"] == "Forbid"
    assert re.fullmatch(r"\d+ \d+ \* \* \*", CRONJOB["spec"]["schedule"])


def test_one_line_lets_the_cronjob_look_at_the_log_first() -> None:
    patched = copy.deepcopy(CRONJOB)
    for change in yaml.safe_load((FOLDER / "monitor.yaml").read_text()):
        *parents, last = change["path"].strip("/").split("/")
        place = reduce(lambda found, key: found[key], parents, patched)
        if last == "-":
            place.append(change["value"])
        else:
            place[last] = change["value"]
    check(patched)
    pod = patched["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (monitor,) = pod["initContainers"]
    assert monitor["image"] == IMAGE and monitor["securityContext"] == CONTAINER["securityContext"]
    assert {mount["name"] for mount in monitor["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    python, last = monitor["args"][0].splitlines()
    command = [sys.executable, *shlex.split(python)[1:]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "/runs/serving_models/mnist is no folder" in done.stderr  # the options are right
    mounts = {mount["mountPath"]: mount["name"] for mount in monitor["volumeMounts"]}
    claims = {volume["name"]: volume.get("persistentVolumeClaim", {}).get("claimName") for volume in pod["volumes"]}
    requests = yaml.safe_load((ROOT / "serving/tensorflow_serving/kubernetes/request-log/pvc.yaml").read_text())
    assert claims[mounts["/requests"]] == requests["metadata"]["name"]
    for code, expected in ((0, 0), (5, 0), (1, 0), (2, 1)):
        assert subprocess.run(["sh", "-c", f"(exit {code})\n{last}"], check=False).returncode == expected


def test_run_local_accepts_the_command() -> None:
    assert CONTAINER["command"] == ["python", "-m", "pipeline.run_local"]
    (default,) = [step["value"] for step in structure() if step["instruction"] == "CMD"]
    assert yaml.safe_load(default) == CONTAINER["command"] + CONTAINER["args"]
    mounts = {mount["mountPath"]: mount["name"] for mount in CONTAINER["volumeMounts"]}
    volumes = {volume.pop("name"): volume for volume in yaml.safe_load(yaml.safe_dump(POD["volumes"]))}
    assert set(mounts.values()) == set(volumes)
    claim = volumes[mounts[str(parse_args(CONTAINER["args"]).run_root)]]
    assert claim == {"persistentVolumeClaim": {"claimName": VOLUME["metadata"]["name"]}}
    assert "emptyDir" in volumes[mounts["/tmp"]]


def test_only_errors_that_a_retry_can_fix_are_retried() -> None:
    fail, ignore = JOB["spec"]["podFailurePolicy"]["rules"]
    codes = {"containerName": CONTAINER["name"], "operator": "In", "values": [WRONG_USE, MODEL_REFUSED, DATA_REFUSED]}
    assert fail == {"action": "FailJob", "onExitCodes": codes}
    assert ignore == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}
    # Kubernetes accepts a podFailurePolicy only with these two settings.
    assert POD["restartPolicy"] == "Never" and JOB["spec"]["podReplacementPolicy"] == "Failed"


def test_the_pod_has_the_user_of_the_image() -> None:
    (user, _) = [step["value"] for step in structure() if step["instruction"] == "USER"]
    context = POD["securityContext"]
    assert user == f"{context['runAsUser']}:{context['runAsGroup']}" and context["fsGroup"] == context["runAsGroup"]
    assert CONTAINER["image"] == IMAGE


@pytest.mark.parametrize("file", [ROOT / "Dockerfile", FOLDER / "README.md"], ids=lambda file: file.name)
def test_the_image_has_one_name(file: Any) -> None:
    text = file.read_text()
    built = dict(re.findall(r"docker build --tag (\S+)(.*)$", text, re.MULTILINE))
    worker = f"{IMAGE}-beam-worker"
    assert set(built) == {IMAGE, f"{IMAGE}-gpu", worker}
    assert built[IMAGE] == " ." and "VARIANT=gpu" in built[f"{IMAGE}-gpu"] and "--target beam-worker" in built[worker]


def test_the_files_and_objects_in_the_readme_exist() -> None:
    text = (FOLDER / "README.md").read_text()
    files = re.findall(r"(?:pipeline|serving)/[\w./-]*\w", text)
    assert files and all((ROOT / file).exists() for file in files)
    applied = " ".join(re.findall(r"kubectl apply (.*)", text))
    assert {"volume.yaml", "job.yaml", "cronjob.yaml", "tfjob.yaml"} == set(re.findall(r"(\w+\.yaml)", applied))
    assert set(re.findall(r"\b(?:job|cronjob)/([\w-]+)", text)) <= {"digit-rows", "digit-rows-now"}
