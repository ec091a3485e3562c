"""`pip install .` without extras: the client, its messages and its commands, and nothing of TensorFlow."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from serving.launch import ModelServer
from tests.conftest import MNIST, ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def test_the_base_dependencies_are_the_client_s() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[<>=]", requirement)[0] for requirement in project["dependencies"]}
    assert names == {"grpcio", "numpy", "pillow", "protobuf", "rich"}


@pytest.mark.slow
def test_what_is_installed_answers(tmp_path: Path, server: ModelServer) -> None:
    source = tmp_path / "source"
    for package in ("pipeline", "components", "data", "serving"):
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("*.gz", "__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--ignore-requires-python", "--target", str(tmp_path / "site"), str(source)], check=True)
    # Only what was installed may be imported from; the digit is the first of the test split, a 7.
    code = "import serving; print(serving.__file__); from serving.cli import main; raise SystemExit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "predict", "--target", server.address, str(MNIST / "seven.png")],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(str(tmp_path / "site")) and "seven.png" in done.stdout
