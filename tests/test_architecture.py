"""The one-way street: pipeline → components → data; serving stands alone, and only the infra check calls it."""

import ast
from pathlib import Path

import pytest

from tests.conftest import ROOT

ALLOWED = {
    "data": {"data"},
    "components": {"components", "data"},
    "pipeline": {"pipeline", "components", "data"},
    "serving": {"serving"},
}


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_go_one_way(package: str) -> None:
    files = list((ROOT / package).rglob("*.py"))
    assert files
    for file in files:
        ours = {name.split(".")[0] for name in imports(file)} & {*ALLOWED, "tests"}
        allowed = ALLOWED[package] | ({"serving"} if file.parent.name == "infra_validator" else set())
        assert ours <= allowed, f"{file.relative_to(ROOT)} imports {ours - allowed}"


def test_serving_needs_no_tfx_and_its_client_no_tensorflow() -> None:
    for file in (ROOT / "serving").rglob("*.py"):
        libraries = {name.split(".")[0] for name in imports(file)}
        assert "tfx" not in libraries, file
        if file.parent.name != "model_server":
            assert not {name for name in libraries if name.startswith("tensorflow")}, file


def test_keras_is_imported_as_tf_keras_only() -> None:
    for package in ALLOWED:
        for file in (ROOT / package).rglob("*.py"):
            assert "keras" not in {name.split(".")[0] for name in imports(file)}, file
            assert "tf.keras" not in file.read_text(), file


def test_components_know_no_runner_and_no_command_line() -> None:
    for file in (ROOT / "components").rglob("*.py"):
        forbidden = {"argparse", "tfx.orchestration", "rich", "sys"}
        assert not {name for name in imports(file) if name in forbidden or name.startswith("tfx.orchestration")}, file


def test_the_lock_is_hashed_and_names_no_registry() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock and "--index-url" not in lock and "--find-links" not in lock
    packages = [line for line in lock.splitlines() if "==" in line]
    assert len(packages) > 200
    assert all(line.endswith("\\") for line in packages)  # a hash follows
