"""Servers that take signed versions only: the stand-in, and serving.admit before TensorFlow Serving."""

from __future__ import annotations

import copy
import logging
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from data.signature import private_key, public_key, sign
from serving.admit import Admission, main
from serving.model_server.__main__ import main as serve
from serving.model_server.manager import Manager
from tests.conftest import ROOT
from tests.data.test_signature import key_pair, write_model
from tests.serving.models import save_half_plus_two
from tests.serving.rpc import config_of, model_of, parsed
from tests.serving.test_deployment import BASE, check, kind, manifests
from tests.serving.test_model_server_versions import half

NAME = "half_plus_two"


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return key_pair(tmp_path / "keys")


def test_the_stand_in_keeps_its_version_when_the_next_one_fails(
    tmp_path: Path, keys: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    base = tmp_path / NAME
    for version in (1, 2, 3):
        save_half_plus_two(tmp_path / "made" / str(version), add=float(version))
    sign(str(tmp_path / "made" / "1"), private_key(str(keys[0])), NAME)
    sign(str(tmp_path / "made" / "3"), private_key(str(keys[0])), NAME)
    shutil.copytree(tmp_path / "made" / "1", base / "1")
    manager = Manager(public_key(keys[1]))
    manager.apply(parsed(config_of(model_of(NAME, base))))
    assert half(manager, name=NAME) == (1.0, 1)
    shutil.copytree(tmp_path / "made" / "2", base / "2")
    manager.poll()
    manager.poll()
    assert half(manager, name=NAME) == (1.0, 1)
    (refusal,) = (record.message for record in caplog.records if record.levelno == logging.ERROR)
    assert refusal.endswith(f"{base / '2'} has no signature model.sig: set serving.sign_key, and push the model.")
    shutil.copytree(tmp_path / "made" / "3", base / "3")
    manager.poll()
    assert half(manager, name=NAME) == (3.0, 3)


def test_the_stand_in_needs_a_key_that_it_can_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert serve(["--model_base_path", str(tmp_path), "--port=0", "--verify_key", str(tmp_path / "none.pem")]) == 1
    assert capsys.readouterr().err == (
        f"error: The key {tmp_path / 'none.pem'}: {tmp_path / 'none.pem'} cannot be read (No such file or directory).\n"
    )


def test_admit_follows_what_is_pushed_and_signed(
    tmp_path: Path, keys: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / "pushed", tmp_path / "models"
    key = private_key(str(keys[0]))
    for version in ("1", "2"):
        write_model(source / "mnist" / version)
    sign(str(source / "mnist" / "1"), key, "mnist")
    write_model(source / "mnist" / ".pushing-3")
    admission = Admission(source, target, public_key(keys[1]))
    (target / "mnist" / ".copying-killed").mkdir(parents=True)
    admission.poll()
    admission.poll()
    assert [path.name for path in (target / "mnist").iterdir()] == ["1"]
    refused = f"Refused mnist version 2: {source / 'mnist' / '2'} has no signature model.sig"
    output = capsys.readouterr().out
    assert output.startswith("Admitted mnist version 1.\n" + refused) and output.count("\n") == 2

    sign(str(source / "mnist" / "2"), key, "mnist")
    shutil.rmtree(source / "mnist" / "1")
    admission.poll()
    assert capsys.readouterr().out == "Admitted mnist version 2.\nRemoved mnist version 1.\n"
    assert {path.name for path in (target / "mnist" / "2").iterdir()} >= {"saved_model.pb", "model.sig"}
    assert main([str(tmp_path / "none"), str(target), "--verify_key", str(keys[1])]) == 1
    assert capsys.readouterr().err == f"error: {tmp_path / 'none'}: No such file or directory.\n"


def test_admit_ends_with_sigterm_and_needs_no_tensorflow(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    write_model(tmp_path / "pushed" / "mnist" / "7")
    sign(str(tmp_path / "pushed" / "mnist" / "7"), private_key(str(keys[0])), "mnist")
    options = [str(tmp_path / "pushed"), str(tmp_path / "models"), "--verify_key", str(keys[1])]
    code = f"import sys; sys.modules['tensorflow'] = None; from serving.admit import main; sys.exit(main({options!r}))"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "Admitted mnist version 7.\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0


def patched(document: dict[str, Any], operations: list[dict[str, Any]]) -> dict[str, Any]:
    """The document after a JSON patch of `add` and `replace`."""
    result = copy.deepcopy(document)
    for operation in operations:
        *way, last = operation["path"].strip("/").split("/")
        at: Any = result
        for part in way:
            at = at[int(part) if isinstance(at, list) else part]
        if last == "-":
            at.append(operation["value"])
        else:
            at[int(last) if isinstance(at, list) else last] = operation["value"]
    return result


def test_on_kubernetes_the_server_sees_only_what_is_admitted() -> None:
    overlay = BASE.parent / "overlays" / "signed" / "deployment.yaml"
    deployment = patched(kind("Deployment", manifests(BASE)), yaml.safe_load(overlay.read_text()))
    check(deployment)
    pod = deployment["spec"]["template"]["spec"]
    (admit,), (server,) = pod["initContainers"], pod["containers"]
    assert admit["restartPolicy"] == "Always" and admit["command"] == ["python", "-m", "serving.admit"]
    mounts = {mount["mountPath"]: mount["name"] for mount in admit["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    source, target, key = admit["args"]
    claim = kind("PersistentVolumeClaim", manifests(BASE))["metadata"]["name"]
    assert volumes[mounts[source]]["persistentVolumeClaim"] == {"claimName": claim, "readOnly": True}
    assert "emptyDir" in volumes[mounts[target]] and key.startswith("--verify_key=/verify/")
    served = {mount["mountPath"]: mount["name"] for mount in server["volumeMounts"]}
    assert served["/models"] == mounts[target] and mounts[source] not in served.values()
