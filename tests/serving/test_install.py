"""`pip install .` without extras installs the client and its command line, without TensorFlow."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from serving.launch import ModelServer
from tests.conftest import MNIST, ROOT


def test_the_base_dependencies_are_the_client_s_and_the_log_s() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[<>=]", requirement)[0] for requirement in project["dependencies"]}
    assert names == {"google-crc32c", "grpcio", "hpack", "numpy", "pillow", "protobuf", "rich"}


@pytest.mark.slow
def test_what_is_installed_answers(installed: Path, tmp_path: Path, server: ModelServer) -> None:
    # The process imports only the installed files.
    code = "import serving; print(serving.__file__); from serving.client.__main__ import main; raise SystemExit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "predict", "--target", server.address, str(MNIST / "seven.png")],
        cwd=tmp_path,
        env={"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(str(installed)) and "seven.png" in done.stdout
