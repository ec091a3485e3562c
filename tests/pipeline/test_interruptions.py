"""Runs as processes of their own: killed, interrupted, out of space, and their exit codes."""

import contextlib
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.exit_codes import FAILED, INTERRUPTED, PUSHED
from tests import processes
from tests.conftest import PACKAGES, QUICK, ROOT, states, versions
from tests.pipeline.few_digits import SMALL, few_mnist, prepared

COMMAND = [sys.executable, "-m", "pipeline.run_local"]


def arguments(root: Path, folder: Path) -> list[str]:
    return ["-m", "pipeline.run_local", "--run-root", str(root), "--set", f"data.path={folder}", *QUICK, SMALL]


@pytest.mark.slow
def test_an_interrupted_run_says_how_to_go_on_and_the_same_command_does(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """First in the Trainer, then in the Evaluator."""
    few = prepared(tmp_path_factory.getbasetemp())
    root, data = few.root, few.data
    for sent, step, after in ((signal.SIGTERM, "Trainer", "Transform"), (signal.SIGINT, "Evaluator", "Baseline ")):
        log = tmp_path / step
        process = processes.start(log, processes.python, arguments(root, data))
        while not log.exists() or after not in log.read_text():
            assert process.is_alive(), log.read_text()
            time.sleep(0.05)
        time.sleep(1.5)  # Beam wraps the KeyboardInterrupt in an error of its own
        assert process.pid
        os.kill(process.pid, sent)
        process.join(60)
        text = log.read_text()
        assert process.exitcode == INTERRUPTED, text
        assert f"Interrupted in {step}. --resume, or the same command, continues" in text and "Traceback" not in text
        assert versions(root) == []
    assert states(root)["Transform"] == "CACHED"


@pytest.mark.slow
def test_a_full_disk_is_a_sentence(small_disk: Path, small_mnist: Path) -> None:
    (small_disk / "ballast").write_bytes(bytes(3_600_000))
    code, text = processes.run(processes.python, arguments(small_disk / "root", small_mnist))
    assert code == FAILED, text
    assert "no space is left on the device" in text and "Traceback" not in text
    assert str(small_disk / "root") in text
    assert versions(small_disk / "root") == []


@pytest.mark.slow
def test_a_terminal_shows_the_running_step_and_keeps_the_finished_ones(tmp_path: Path, small_mnist: Path) -> None:
    command = [*COMMAND, "--run-root", str(tmp_path), "--to", "CuratedSchema", "--set", f"data.path={small_mnist}"]
    master, terminal = pty.openpty()
    process = subprocess.Popen(command, cwd=ROOT, stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    shown = b""
    with contextlib.suppress(OSError):  # the end of a terminal's output
        while part := os.read(master, 4096):
            shown += part
    os.close(master)
    text = shown.decode()
    assert process.wait() == PUSHED
    assert (
        len({mark for mark in "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏" if f"{mark} loading TFX" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)}) > 3
    )
    assert re.search(r"CuratedSchema .*done", text)
    assert "Warning" not in text


def test_help_answers_at_once_and_without_tensorflow() -> None:
    code = (
        "import sys\nfrom pipeline.local.cli import main\n"
        "try: main(['--help'])\nfinally: assert not {'numpy', 'tensorflow', 'tfx', 'apache_beam'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for words in ("exit codes", "ExampleGen", "--profile", "--from"):
        assert words in done.stdout


def test_an_unknown_step_is_refused_at_once() -> None:
    done = subprocess.run([*COMMAND, "--from", "Nowhere"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "choose from" in done.stderr and "Evaluator" in done.stderr


@pytest.mark.slow
def test_from_needs_an_earlier_run(tmp_path: Path, small_mnist: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from pipeline.local.cli import main

    options = ["--run-root", str(tmp_path), "--from", "Evaluator", "--set", f"data.path={small_mnist}"]
    assert main(options) == FAILED
    assert "holds no run that has them" in capfd.readouterr().out


@pytest.mark.slow
def test_a_changed_source_file_runs_its_step_again(tmp_path: Path) -> None:
    """The project is copied, run, edited and run again up to Transform."""
    tree, data = tmp_path / "tree", few_mnist(tmp_path)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tree / package, ignore=shutil.ignore_patterns("*.gz", "__pycache__"))
    options = ["--run-root", str(tmp_path / "root"), "--to", "Transform", "--set", f"data.path={data}"]

    def run() -> None:
        code, text = processes.run(processes.python, ["-m", "pipeline.run_local", *options], str(tree))
        assert code == PUSHED, text

    run()
    transform = tree / "components" / "transform.py"
    code = transform.read_text()
    assert code.count("inputs[LABEL]}") == 1
    transform.write_text(code.replace("inputs[LABEL]}", "inputs[LABEL] + 0}"))
    run()
    after = states(tmp_path / "root")
    assert after.pop("Transform") == "COMPLETE"
    assert set(after.values()) == {"CACHED"}
