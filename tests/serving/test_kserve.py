"""The InferenceService in serving/tensorflow_serving/kserve: KServe's own schema, and that its parts go together."""

from __future__ import annotations

import copy
import gzip
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from serving.request_log.__main__ import main as request_log
from tests.serving.test_deployment import FOLDER, amount

SERVICE = yaml.safe_load((FOLDER / "kserve" / "inferenceservice.yaml").read_text())
PREDICTOR = SERVICE["spec"]["predictor"]
SCHEMA = Path(__file__).parent / "kserve" / "inferenceservice.json.gz"


def strict(schema: Any) -> Any:
    """Without fields that the schema does not name: the API server would prune them, or warn."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: strict(item) for name, item in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        closed.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        closed["type"] = ["integer", "string"]
    return closed


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft7Validator:
    schema = strict(json.loads(gzip.decompress(SCHEMA.read_bytes())))
    schema["properties"]["metadata"] = {"type": "object"}  # Kubernetes' own
    return jsonschema.Draft7Validator(schema)


def test_it_follows_kserve_s_schema(validator: jsonschema.Draft7Validator) -> None:
    validator.validate(SERVICE)
    for change, sentence in (
        (lambda predictor: predictor.update(canaryTraficPercent=10), "'canaryTraficPercent' was unexpected"),
        (lambda predictor: predictor.update(canaryTrafficPercent="10"), "'10' is not of type 'integer'"),
        (lambda predictor: predictor["tensorflow"].update(runtime="2.21.0"), "'runtime' was unexpected"),
        (lambda predictor: predictor["storageUris"][0].pop("uri"), "'uri' is a required property"),
        (lambda predictor: predictor["containers"][0].pop("name"), "'name' is a required property"),
    ):
        wrong = copy.deepcopy(SERVICE)
        change(wrong["spec"]["predictor"])
        assert sentence in next(validator.iter_errors(wrong)).message


def test_a_revision_has_one_version_where_tensorflow_serving_looks() -> None:
    (storage,) = PREDICTOR["storageUris"]
    version = storage["uri"].rpartition("/")[2]
    assert version.isdecimal() and storage["mountPath"] == f"/mnt/models/{version}"
    claim = yaml.safe_load((FOLDER.parents[1] / "pipeline" / "kubernetes" / "volume.yaml").read_text())["metadata"][
        "name"
    ]
    assert storage["uri"].startswith(f"pvc://{claim}/serving_models/mnist/")
    assert 0 <= PREDICTOR["canaryTrafficPercent"] <= 100


def test_callers_reach_the_log_and_it_reaches_the_server(capsys: pytest.CaptureFixture[str]) -> None:
    (log,) = PREDICTOR["containers"]
    (port,) = log["ports"]
    assert port["name"] == "h2c" and f"--listen={port['containerPort']}" in log["args"]
    assert "--target=localhost:9000" in log["args"]  # KServe's runtime for tensorflow has --port=9000
    assert log["command"] == ["python", "-m", "serving.request_log"]
    with pytest.raises(SystemExit):
        request_log(["--help"])
    known = capsys.readouterr().out
    assert all(argument.partition("=")[0] in known for argument in log["args"])
    assert {mount["name"] for mount in log["volumeMounts"]} == {volume["name"] for volume in PREDICTOR["volumes"]}
    for container in (log, PREDICTOR["tensorflow"]):
        sizes = container["resources"]
        assert all(amount(size) <= amount(sizes["limits"][name]) for name, size in sizes["requests"].items())
