"""The TFJob agrees with the Training Operator's models, Kubernetes' schema for pods, and the command line."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from kubernetes_validate import ValidationError, latest_version, validate

from pipeline.local.cli import parse_args
from tests.conftest import ROOT

FOLDER = ROOT / "pipeline" / "kubernetes"
JOB = yaml.safe_load((FOLDER / "tfjob.yaml").read_text())
SPEC = JOB["spec"]
REPLICAS = SPEC["tfReplicaSpecs"]
PLAIN = {"str": str, "int": int, "bool": bool}


def check(value: Any, kind: str) -> None:
    """Checks `value` with a model of kubeflow-training, or a plain type; Kubernetes' own schema checks the pods.

    Raises:
        ValueError: an unknown key, or a value of another type.
        ValidationError: a pod template that Kubernetes refuses.
    """
    models = pytest.importorskip("kubeflow.training.models", reason="needs kubeflow-training")
    if mapping := re.fullmatch(r"dict\(str, (\w+)\)", kind):
        for entry in value.values():
            check(entry, mapping[1])
    elif kind == "V1PodTemplateSpec":
        manifest = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "host"}, "template": value}
        validate(manifest, desired_version=latest_version(), strict=True)
    elif kind == "V1ObjectMeta":
        manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": value}
        validate(manifest, desired_version=latest_version(), strict=True)
    elif kind in PLAIN:
        if type(value) is not PLAIN[kind]:
            raise ValueError(f"{value!r} is no {kind}")
    else:
        model = getattr(models, kind)
        names = {key: name for name, key in model.attribute_map.items()}
        for key, entry in value.items():
            if key not in names:
                raise ValueError(f"{kind} has no {key}")
            check(entry, model.openapi_types[names[key]])


def test_it_follows_the_models_of_the_operator() -> None:
    check(JOB, "KubeflowOrgV1TFJob")
    with pytest.raises(ValueError, match="has no backofLimit"):
        check({**JOB, "spec": {**SPEC, "runPolicy": {"backofLimit": 3}}}, "KubeflowOrgV1TFJob")
    with pytest.raises(ValueError, match="is no int"):
        check({**REPLICAS["Chief"], "replicas": "1"}, "KubeflowOrgV1ReplicaSpec")
    template = REPLICAS["Chief"]["template"]
    with pytest.raises(ValidationError, match="volume"):
        check({**template, "spec": {**template["spec"], "volume": []}}, "V1PodTemplateSpec")


def test_the_operator_knows_its_values() -> None:
    assert (JOB["apiVersion"], JOB["kind"]) == ("kubeflow.org/v1", "TFJob")
    assert SPEC["runPolicy"]["cleanPodPolicy"] in ("None", "Running", "All")
    assert set(REPLICAS) == {"Chief", "Worker"} and REPLICAS["Chief"]["replicas"] == 1
    assert all(part["restartPolicy"] == "OnFailure" for part in REPLICAS.values())
    hosts = sum(part["replicas"] for part in REPLICAS.values())
    assert SPEC["runPolicy"]["backoffLimit"] == 3 * hosts


def test_every_host_runs_the_same_command_on_the_shared_run_root() -> None:
    assert REPLICAS["Chief"]["template"] == REPLICAS["Worker"]["template"]
    pod = REPLICAS["Chief"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["name"] == "tensorflow"
    assert container["command"] == ["python", "-m", "pipeline.run_local"]
    root = str(parse_args(container["args"]).run_root)
    (mount,) = [mount for mount in container["volumeMounts"] if mount["mountPath"] == root]
    (volume,) = [volume for volume in pod["volumes"] if volume["name"] == mount["name"]]
    claim = yaml.safe_load((FOLDER / "volume.yaml").read_text())
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 1000
