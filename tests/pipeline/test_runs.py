"""The record of runs: what counts as a run, what counts as alive, what is written down, and who holds the run root."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from data.errors import SettingsError, UserError
from pipeline.config import Config
from pipeline.definition import STEPS
from pipeline.exit_codes import FAILED, MODEL_REFUSED, PUSHED, WRONG_USE
from pipeline.history.__main__ import main as history_main
from pipeline.local.cli import main
from pipeline.runs.root import RunRoot
from tests.conftest import MNIST, ROOT, last_run, run_pipeline, states, versions
from tests.pipeline import test_history
from tests.pipeline.test_history import Command, Recorded, answer

command, recorded, roots = test_history.command, test_history.recorded, test_history.roots

OPTIONS = ("training.epochs=2", "gates.class_accuracy=0.0")
slow = pytest.mark.slow


@slow
def test_a_partial_run_is_one_run_of_its_pipeline(command: Command, recorded: Recorded, small_mnist: Path) -> None:
    root = recorded.root
    outcome = run_pipeline(root, small_mnist, *OPTIONS, "gates.max_drop=0.5", options=("--from", "Evaluator"))
    assert outcome.code == PUSHED, outcome.text
    assert "ExampleGen" not in outcome.text.split("Test accuracy", maxsplit=1)[0]
    assert {step for step, state in states(root).items() if state == "COMPLETE"} >= {"Evaluator", "Pusher"}
    rows = answer(command, root, "list")
    assert [row["run"] for row in rows] == [recorded.first, recorded.second, recorded.refused, last_run(root).id]
    assert {row["pipeline"] for row in rows} == {"digit-rows"}
    found = answer(command, root, "lineage", recorded.versions[1])
    assert [run["run"] for run in found["runs"]] == [recorded.second, last_run(root).id]
    assert found["pipeline"] == "digit-rows"
    assert answer(command, root, "gc", "--keep", "1", "--dry-run")["runs"] == 4


@slow
def test_the_steps_are_shown_in_the_order_in_which_they_run(command: Command, recorded: Recorded) -> None:
    for run in (recorded.first, recorded.refused):
        assert [step["step"] for step in answer(command, recorded.root, "show", run)["steps"]] == list(STEPS)


@slow
def test_a_version_that_a_roll_back_made_stays_alive(command: Command, recorded: Recorded, small_mnist: Path) -> None:
    root = recorded.root
    done = answer(command, root, "rollback")
    for _ in range(2):  # the first run seals it, the second looks at the seal
        outcome = run_pipeline(root, small_mnist, *OPTIONS, "gates.max_drop=1.0", options=("--to", "CuratedSchema"))
        assert outcome.code == PUSHED and "gone or has changed" not in outcome.text, outcome.text
    (copy,) = [a for a in RunRoot(root, Config()).history().artifacts() if a.uri == done["path"]]
    assert copy.alive
    # A file of it that changes is noticed, as in every other artifact.
    next(Path(done["path"], "variables").glob("variables.data*")).write_bytes(b"")
    outcome = run_pipeline(root, small_mnist, options=("--to", "CuratedSchema"))
    assert f"{done['path']} is gone or has changed" in outcome.text


@slow
def test_a_damaged_copy_of_the_baseline_is_made_again(recorded: Recorded, small_mnist: Path) -> None:
    (copy,) = (recorded.root / "artifacts" / "Baseline" / "model").iterdir()
    (data,) = copy.rglob("variables.data*")
    size = data.stat().st_size
    damages = (
        (data.unlink, "Pusher"),
        (lambda: data.write_bytes(b"half"), "Baseline"),
        (lambda: shutil.rmtree(copy), "Baseline"),
    )
    for damage, last in damages:
        damage()
        gates = ("gates.accuracy=0.999", "gates.max_drop=1.0")
        outcome = run_pipeline(recorded.root, small_mnist, *OPTIONS, *gates, options=("--to", last))
        assert outcome.code == (MODEL_REFUSED if last == "Pusher" else PUSHED), outcome.text
        assert f"{copy} is gone or has changed" in outcome.text and data.stat().st_size == size
        if last == "Pusher":
            assert last_run(recorded.root).baseline_version == recorded.versions[0]


@slow
@pytest.mark.parametrize(("step", "place"), [("Trainer", "Trainer/model"), ("Baseline", "Baseline/model")])
def test_from_with_an_artifact_that_has_vanished_says_where_to_begin(
    step: str, place: str, command: Command, recorded: Recorded, small_mnist: Path
) -> None:
    folder = max((recorded.root / "artifacts" / place).iterdir(), key=lambda path: path.stat().st_mtime)
    before = versions(recorded.root)
    next(folder.rglob("variables.data*")).unlink()
    outcome = run_pipeline(recorded.root, small_mnist, *OPTIONS, options=("--from", "Evaluator"))
    assert outcome.code == FAILED and versions(recorded.root) == before
    sentence = f"--from Evaluator reuses the step {step} of the run {recorded.refused}, but {folder} is gone or has"
    assert sentence in outcome.text and f"use --from {step}, or leave out --from." in outcome.text
    assert not re.search("Traceback|✓ Evaluator", outcome.text)


def test_listing_runs_never_stops_a_run_that_begins(tmp_path: Path) -> None:
    root, end = RunRoot(tmp_path, Config()), threading.Event()
    with root.held():
        assert root.new_log().parent.name == root.running()
    assert root.running() is None

    def look() -> None:
        while not end.is_set():
            root.running()

    looking = [threading.Thread(target=look) for _ in range(4)]
    for thread in looking:
        thread.start()
    try:
        for _ in range(200):
            with root.held():  # it was refused when somebody looked in that moment
                pass
    finally:
        end.set()
        for thread in looking:
            thread.join()


def test_a_holder_that_was_killed_is_never_named(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from pipeline.config import Config; from pipeline.runs.root import RunRoot\n"
        f"with RunRoot(pathlib.Path({str(tmp_path)!r}), Config()).held(): print('held', flush=True); sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    killed = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, **pipes)
    assert killed.stdout is not None and killed.stdout.readline() == b"held\n"
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    root = RunRoot(tmp_path, Config())
    assert root.running() is None
    with root.held(), pytest.raises(UserError, match=f"is held by process {os.getpid()} since"), root.held():
        pass


def test_a_file_system_without_locks_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "fcntl", no_locks)
    root = RunRoot(tmp_path, Config())
    with pytest.raises(UserError, match=r"has no locks \(No locks available\).*--run-root"), root.held():
        pass
    assert root.running() is None


@pytest.mark.parametrize("name", ["runs[1]", "runs*", "run?", "a\\b"])
def test_a_run_root_that_tfx_would_take_for_a_pattern_is_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--run-root", str(tmp_path / name), "--set", f"data.path={MNIST}"]) == WRONG_USE
    err = capsys.readouterr().err
    assert f"run_local: The path of the run root {tmp_path / name} has the character" in err
    assert not (tmp_path / name).exists()
    # A relative path counts from the current folder, whose name may have the character too.
    with pytest.raises(SettingsError, match="has the character"), RunRoot(tmp_path / name / "runs", Config()).held():
        pass


def test_what_is_long_lies_beside_the_log_and_may_be_lost(tmp_path: Path, small_mnist: Path, command: Command) -> None:
    root, long = tmp_path / "root", "x" * 3000
    outcome = run_pipeline(root, small_mnist, f"kubeflow.secrets.a={[long]}", options=("--to", "CuratedSchema"))
    assert outcome.code == PUSHED, outcome.text
    history = RunRoot(root, Config()).history()
    for context in history.store.get_contexts():
        for value in [*context.custom_properties.values(), *context.properties.values()]:
            assert len(value.string_value) < 500
    run = last_run(root)
    assert run.settings["kubeflow"]["secrets"] == {"a": [long]} and run.packages["tfx"]
    record = root / "logs" / run.id / "run.json"
    record.write_text(record.read_text().replace(long, "changed"))
    assert last_run(root).settings == {}
    record.unlink()
    row = answer(command, root, "show", "last")
    assert row["verdict"] == "done up to CuratedSchema" or row["settings"] is None
    assert history_main(["list", "--run-root", str(root)]) == 0
