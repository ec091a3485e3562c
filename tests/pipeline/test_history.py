"""The history commands on real runs: what they print, in tables and in JSON."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.evaluator.predictions import Predictions, read_predictions
from components.version_folder import PROVENANCE, environment
from data.proportion import wilson
from pipeline.history.__main__ import main
from pipeline.history.examples import compare_predictions
from pipeline.runs.root import RunRoot
from pipeline.runs.statistics import mcnemar
from pipeline.runs.store import RECORD
from tests.conftest import ROOT, Outcome, last_run, run_pipeline, versions

Command = Callable[..., tuple[int, str, str]]


@dataclass(frozen=True)
class Recorded:
    """A run root with three runs: two that pushed a version each, the second one worse, and one that a gate refused."""

    root: Path
    first: str
    second: str
    refused: str
    versions: tuple[str, str]


@dataclass(frozen=True)
class Roots:
    """A run root, and copies of it after its first run and after its third. It is used under one path only."""

    root: Path
    after_one: Path
    after_three: Path
    outcomes: tuple[Outcome, ...]

    def restore(self, copy: Path) -> Path:
        shutil.rmtree(self.root)
        shutil.copytree(copy, self.root)
        return self.root


FIRST = ("training.epochs=3",)
SECOND = ("training.epochs=2", "gates.class_accuracy=0.0", "gates.max_drop=1.0")


@cache
def make_runs(base: Path, folder: Path) -> Roots:
    """Three runs under `base`, made once for all test files of a process."""
    root, one, three = (base / "history" / name for name in ("root", "one", "three"))
    first = run_pipeline(root, folder, *FIRST)
    shutil.copytree(root, one)
    second = run_pipeline(root, folder, *SECOND)
    third = run_pipeline(root, folder, *SECOND, "gates.accuracy=0.999", report=True)
    shutil.copytree(root, three)
    return Roots(root, one, three, (first, second, third))


@pytest.fixture
def roots(tmp_path_factory: pytest.TempPathFactory, small_mnist: Path) -> Roots:
    return make_runs(tmp_path_factory.getbasetemp(), small_mnist)


@pytest.fixture
def recorded(roots: Roots) -> Recorded:
    root = roots.restore(roots.after_three)
    first, second, refused = RunRoot(root, _config()).history().ids()
    one, two = versions(root)
    return Recorded(root, first, second, refused, (one, two))


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """command(root, *arguments): the exit code, the output and the errors of a history command."""

    def call(root: Path, *arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([*arguments, "--run-root", str(root)])
        return code, *capsys.readouterr()

    return call


def answer(command: Command, root: Path, *arguments: str) -> Any:
    code, out, err = command(root, *arguments, "--json")
    assert code == 0 and not err, err
    return json.loads(out)


@pytest.mark.slow
def test_list_tells_what_each_run_was_and_how_it_ended(command: Command, recorded: Recorded) -> None:
    rows = answer(command, recorded.root, "list")
    assert [row["run"] for row in rows] == [recorded.first, recorded.second, recorded.refused]
    assert [row["verdict"] for row in rows] == ["pushed", "pushed", "refused by the gates"]
    assert [row["version"] for row in rows] == [*map(int, recorded.versions), None]
    assert [row["served"] for row in rows] == [False, True, False]
    assert rows[2]["settings"]["gates.accuracy"] == 0.999 and "model.cell" not in rows[2]["settings"]
    accuracy = last_run(recorded.root).figures["accuracy"]
    assert rows[2]["accuracy"] == accuracy == rows[1]["accuracy"]
    assert rows[2]["interval"] == pytest.approx(wilson(round(accuracy * 1000), 1000))
    code, out, _ = command(recorded.root, "list")
    line = next(line for line in out.splitlines() if line.startswith(recorded.second))
    assert code == 0 and "training.epochs=2" in line and f"{recorded.versions[1]} (newest)" in line
    assert f"{accuracy:.4f} ({rows[2]['interval'][0]:.4f} … " in line
    assert [row["run"] for row in answer(command, recorded.root, "list", "--limit", "1")] == [recorded.refused]


@pytest.mark.slow
def test_show_tells_everything_about_a_run(command: Command, recorded: Recorded) -> None:
    code, out, _ = command(recorded.root, "show", recorded.second[:-2])
    assert code == 0
    for words in (
        "✓ accuracy of class 9: ",
        f"version {recorded.versions[0]}",
        "run.log",
        "Trainer",
        "training.epochs=2",
    ):
        assert words in out
    shown = answer(command, recorded.root, "show", "last")
    assert shown["run"] == recorded.refused and shown["blessed"] is False
    assert Path(shown["log"]).is_file() and Path(shown["report"]).is_file()
    steps = {step["step"]: step for step in shown["steps"]}
    assert steps["Trainer"]["state"] == "CACHED" and steps["Evaluator"]["state"] == "COMPLETE"
    assert Path(steps["Evaluator"]["artifacts"]["evaluation"]["path"]).is_dir()


@pytest.mark.slow
def test_compare_tells_the_differences_and_the_examples_that_changed(command: Command, recorded: Recorded) -> None:
    root = recorded.root
    found = answer(command, root, "compare", recorded.first, recorded.second, "--limit", "1000")
    assert found["settings"] == {**found["settings"], "training.epochs": [3, 2]}
    assert found["code"] == {} and found["packages"] == {} and len(set(found["data"]["digest"])) == 1
    history = RunRoot(root, _config()).history()
    one, two = (
        read_predictions(history.run(name).output("Evaluator", "evaluation").uri)
        for name in (recorded.first, recorded.second)
    )
    was, now = one.class_ids == one.labels, two.class_ids == two.labels
    (entry,) = found["examples"]
    assert entry["shared"] == 1000
    assert entry["right_to_wrong"] == (was & ~now).sum() and entry["wrong_to_right"] == (now & ~was).sum()
    assert entry["p_value"] == mcnemar(entry["right_to_wrong"], entry["wrong_to_right"])
    positions = np.flatnonzero(was != now)
    assert [change["position"] for change in entry["changes"]] == positions.tolist()
    assert [int(change["id"], 16) for change in entry["changes"]] == one.ids[positions].tolist()
    assert [change["first"] for change in entry["changes"]] == [str(one.class_ids[p]) for p in positions]
    code, out, _ = command(root, "compare", recorded.first, recorded.second, recorded.refused, "--limit", "1")
    assert code == 0 and "Packages: the same." in out and "exact McNemar test p = " in out
    assert f"… and {len(positions) - 1} more" in out and re.search(r"gates.accuracy +0.75 +0.75 +0.999", out)


@pytest.mark.slow
def test_compare_says_what_is_missing(command: Command, recorded: Recorded) -> None:
    history = RunRoot(recorded.root, _config()).history()
    shutil.rmtree(history.run(recorded.first).output("Evaluator", "evaluation").uri)
    file = Path(history.run("last").output("Evaluator", "evaluation").uri) / "predictions.npz"
    file.write_bytes(bytes(file.stat().st_size))
    (recorded.root / "logs" / recorded.first / RECORD).unlink()
    code, out, _ = command(recorded.root, "compare", recorded.second, recorded.first, "last")
    assert code == 0
    assert f"They cannot be compared: {recorded.first}: the evaluation's files are gone or have changed." in out
    assert f"{recorded.refused}: the file of predictions is damaged" in out
    assert f"Settings: not recorded for {recorded.first}." in out
    assert answer(command, recorded.root, "list")[0]["settings"] is None


@pytest.mark.slow
def test_lineage_tells_what_made_a_version_also_of_a_copy(command: Command, recorded: Recorded, tmp_path: Path) -> None:
    version = recorded.versions[1]
    found = answer(command, recorded.root, "lineage", version)
    assert found["run"] == recorded.second and found["unknown"] == [] and found["packages"] == environment()
    assert [run["run"] for run in found["runs"]] == [recorded.second]
    assert {artifact["state"] for artifact in found["artifacts"]} == {"live"}
    folder = tmp_path / "copied away"
    shutil.copytree(recorded.root / "serving_models" / "mnist" / version, folder)
    copied = answer(command, tmp_path / "nowhere", "lineage", str(folder))
    for part in ("run", "settings", "data", "fingerprints", "gates", "evaluation", "packages"):
        assert copied[part] == found[part], part
    code, out, _ = command(tmp_path / "nowhere", "lineage", str(folder))
    assert code == 0 and "✓ accuracy: " in out and found["data"]["digest"] in out
    assert f"tfx  {installed('tfx')}" in out
    assert "ML Metadata adds nothing: There are no runs in" in out
    (folder / PROVENANCE).write_text('{"run": ')
    code, _, err = command(recorded.root, "lineage", str(folder))
    assert code == 1 and f"{folder / PROVENANCE} is damaged: it is not JSON" in err and "Traceback" not in err
    for damaged in ("[]", '{"gates": [1]}', '{"data": "none"}'):
        (folder / PROVENANCE).write_text(damaged)
        code, _, err = command(recorded.root, "lineage", str(folder))
        assert code == 1 and "has not the form of a provenance" in err
    (folder / PROVENANCE).unlink()
    code, _, err = command(recorded.root, "lineage", str(folder))
    assert code == 1 and "Nothing is known about" in err


@pytest.mark.slow
def test_lineage_of_a_version_without_provenance_comes_from_ml_metadata(command: Command, recorded: Recorded) -> None:
    version = recorded.versions[0]
    folder = recorded.root / "serving_models" / "mnist" / version
    (folder / PROVENANCE).unlink()
    found = answer(command, recorded.root, "lineage", version)
    assert found["source"] == "ML Metadata" and found["unknown"] == ["gates"]
    assert found["run"] == recorded.first and found["settings"]["training"]["epochs"] == 3
    assert len(found["data"]["files"]) == 4
    shutil.rmtree(folder)
    code, out, _ = command(recorded.root, "lineage", version)
    assert code == 0 and f"{folder} (removed)" in out and recorded.first in out
    other = recorded.root / "serving_models" / "other" / recorded.versions[1]
    shutil.copytree(recorded.root / "serving_models" / "mnist" / recorded.versions[1], other)
    code, _, err = command(recorded.root, "lineage", recorded.versions[1])
    assert code == 1 and f"Several models have a version {recorded.versions[1]}" in err and str(other) in err


@pytest.mark.slow
def test_a_run_in_progress_is_said_to_be_running(command: Command, recorded: Recorded) -> None:
    from ml_metadata.proto import metadata_store_pb2

    root = RunRoot(recorded.root, _config())
    store = root.history().store
    with root.held():
        log = root.new_log()
        (pipeline,) = store.get_contexts_by_type("pipeline")
        kind = store.get_context_type("pipeline_run").id
        (run,) = store.put_contexts([metadata_store_pb2.Context(type_id=kind, name=log.parent.name)])
        store.put_parent_contexts([metadata_store_pb2.ParentContext(child_id=run, parent_id=pipeline.id)])
        node = next(c for c in store.get_contexts_by_type("node") if c.name.endswith(".Trainer"))
        trainer = next(iter(store.get_executions_by_context(node.id)))
        execution = metadata_store_pb2.Execution(type_id=trainer.type_id, last_known_state=2)
        store.put_execution(execution, [], [store.get_contexts_by_id([run])[0], node])
        assert answer(command, recorded.root, "list")[-1]["verdict"] == "running in Trainer"
        code, _, err = command(recorded.root, "gc", "--keep", "1")
        assert code == 1 and "is held by process" in err
        code, _, err = command(recorded.root, "rollback")
        assert code == 1 and "is held by process" in err
    assert answer(command, recorded.root, "list")[-1]["verdict"] == "stopped in Trainer"


@pytest.mark.slow
def test_only_rollback_loads_tensorflow(recorded: Recorded) -> None:
    commands = [
        ["list"],
        ["show", "last"],
        ["compare", recorded.first, "last"],
        ["lineage", recorded.versions[0]],
        ["gc", "--keep", "1", "--keep-versions", "1", "--dry-run"],
    ]
    code = (
        "import sys\nfrom pipeline.history.__main__ import main\n"
        f"for command in {commands}: assert main([*command, '--run-root', {str(recorded.root)!r}]) == 0, command\n"
        "assert not {'tensorflow', 'tfx', 'tensorflow_model_analysis', 'apache_beam'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom pipeline.history.__main__ import main\ntry: main(['gc', '--help'])\n"
        "finally: assert not {'tensorflow', 'ml_metadata', 'numpy', 'pydantic', 'rich'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "the run that --resume would take up" in done.stdout, done.stderr


def test_mistakes_are_sentences(command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["list"], ["show", "last"], ["gc", "--keep", "1"], ["rollback"]):
        code, _, err = command(tmp_path / "nothing", *arguments)
        assert code == 1 and err.startswith("history: There are no runs in "), arguments
    assert not (tmp_path / "nothing").exists()
    code, _, err = command(tmp_path, "lineage", "7")
    assert code == 1 and "There is no version 7" in err
    code, _, err = command(tmp_path, "list", "--set", "metadata.connection=nonsense")
    assert code == 2 and "metadata.connection is not" in err
    for arguments in (["gc", "--keep", "0"], ["compare", "last"], ["list", "--set", "training.epochs=1"], []):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
    assert "only metadata.connection can be set here" in capsys.readouterr().err


def test_intervals_and_p_values_are_those_of_the_formulas() -> None:
    from scipy.stats import binomtest

    for k, n in ((0, 10), (10, 10), (1, 3), (870, 1000), (9913, 10_000)):
        interval = binomtest(k, n).proportion_ci(confidence_level=0.95, method="wilson")
        assert wilson(k, n) == pytest.approx((interval.low, interval.high), abs=1e-12)
    assert wilson(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="not a proportion"):
        wilson(11, 10)
    assert mcnemar(0, 0) == 1.0 and mcnemar(5, 5) == 1.0
    assert mcnemar(1, 5) == mcnemar(5, 1) == pytest.approx(2 * (1 + 6) / 2**6)


def test_examples_are_joined_by_id_and_repeated_ones_in_order() -> None:
    def predictions(ids: list[int], right: list[bool]) -> Predictions:
        none, labels = np.zeros(0, np.int64), np.zeros(len(ids), np.int64)
        return Predictions(np.array(ids, np.uint64), labels, 1 - np.array(right, np.int64), *[none] * 5)

    one = predictions([7, 2**64 - 1, 7, 3, 7], [True, False, False, True, True])
    other = predictions([2**64 - 1, 7, 5, 7], [True, False, True, True])
    found = compare_predictions(one, other, ("nought",))
    assert (found["shared"], found["right_to_wrong"], found["wrong_to_right"]) == (3, 1, 2)
    assert [(c["position"], c["id"], c["first"], c["other"]) for c in found["changes"]] == [
        (0, f"{7:016x}", "nought", "1"),
        (1, "f" * 16, "1", "nought"),
        (2, f"{7:016x}", "1", "nought"),
    ]
    assert compare_predictions(one, predictions([], []), ())["p_value"] is None


def _config() -> Any:
    from pipeline.config import Config

    return Config()
