"""TFX's own command on the pipeline's files: what it creates, runs and compiles, and what it cannot."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from pipeline.definition import STEPS
from tests import processes
from tests.conftest import MNIST, ROOT, states

LOCAL, KUBEFLOW = (str(ROOT / "pipeline" / name) for name in ("run_local.py", "run_kubeflow.py"))
VERTEX = "compile --target vertex --image registry.example.com/digit-rows:0.1.0 --pipeline-root gs://bucket/root"

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for TFX's notes, which is the current one; the virtual environment is the active one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return tmp_path


def tfx(*arguments: str) -> Result:
    """`tfx` with these arguments, in this process."""
    from tfx.tools.cli.cli_main import cli_group

    return CliRunner().invoke(cli_group, [*arguments])


def without_checkout(home: Path, *arguments: str) -> None:
    """`tfx` with these arguments in `home`, in a process that does not look for modules in the checkout."""
    os.chdir(home)
    sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != ROOT]
    processes.python([str(Path(sys.executable).parent / "tfx"), *arguments])


def test_a_pipeline_is_created_and_run(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_ARGS", f"--to CuratedSchema --set 'data.path={MNIST}'")
    create = ("pipeline", "create", "--engine", "local", "--pipeline_path", LOCAL)
    code, printed = processes.run(without_checkout, home, *create)
    assert code == 0 and 'Pipeline "digit-rows" created successfully.' in printed, printed
    assert not (home / "runs").exists()  # nothing has run
    run = tfx("run", "create", "--engine", "local", "--pipeline_name", "digit-rows")
    assert run.exit_code == 0, run.output
    assert states(home / "runs") == {"CuratedSchema": "COMPLETE"}


def test_a_spec_is_compiled(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiling = ("pipeline", "compile", "--engine", "vertex", "--pipeline_path")
    refused = tfx(*compiling, KUBEFLOW)
    assert refused.exit_code and "set PIPELINE_ARGS, such as 'compile --target vertex" in refused.output
    monkeypatch.setenv("PIPELINE_ARGS", VERTEX)
    compiled = tfx(*compiling, KUBEFLOW)
    assert compiled.exit_code == 0 and "compiled successfully" in compiled.output, compiled.output
    spec = yaml.safe_load((home / "pipeline.yaml").read_text())
    assert set(STEPS) <= set(spec["root"]["dag"]["tasks"])
    created = tfx("pipeline", "create", "--engine", "vertex", "--pipeline_path", KUBEFLOW)
    assert created.exit_code and not (home / "tfx").exists()


def test_the_wrong_file_of_two_runs_nothing(home: Path) -> None:
    (home / "data").mkdir()
    (home / "data" / "mnist").symlink_to(MNIST)
    assert tfx("pipeline", "compile", "--engine", "vertex", "--pipeline_path", LOCAL).exit_code == 2
    assert not (home / "runs").exists()


def test_arguments_that_no_shell_splits_are_a_sentence(home: Path) -> None:
    result = subprocess.run(
        [sys.executable, LOCAL],
        env={**os.environ, "PIPELINE_ARGS": "--set 'x"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1 and result.stderr.startswith("PIPELINE_ARGS = --set 'x cannot be split")


def test_no_file_can_be_compiled_for_kubeflow_by_this_tfx() -> None:
    """The README says so. If this fails, TFX has the runner again that its own handler imports."""
    handler = Path(str(find_spec("tfx.tools.cli.handler.kubeflow_handler").origin))  # type: ignore[union-attr]
    assert "from tfx.orchestration.kubeflow import kubeflow_dag_runner" in handler.read_text()
    assert find_spec("tfx.orchestration.kubeflow.kubeflow_dag_runner") is None
