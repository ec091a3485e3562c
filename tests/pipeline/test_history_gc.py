"""The command gc: what it removes, and that it never touches what is needed. Real runs: test_history_rollback.py."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from ml_metadata.proto import metadata_store_pb2

from components.version_folder import PROVENANCE
from pipeline.config import Config
from pipeline.definition import STEPS
from pipeline.history.gc import size
from pipeline.runs.root import RunRoot
from pipeline.runs.store import History
from tests.conftest import ROOT
from tests.pipeline import test_history
from tests.pipeline.test_history import Command, answer

command = test_history.command

LIVE, DELETED = metadata_store_pb2.Artifact.LIVE, metadata_store_pb2.Artifact.DELETED
COMPLETE, RUNNING = metadata_store_pb2.Execution.COMPLETE, metadata_store_pb2.Execution.RUNNING


class Records:
    """A run root of recorded runs whose steps have a file each."""

    def __init__(self, folder: Path) -> None:
        self.root = RunRoot(folder, Config())
        folder.mkdir(parents=True, exist_ok=True)
        self.history: History = self.root.history(create=True)
        self.store = self.history.store
        kinds = (metadata_store_pb2.ContextType(name=name) for name in ("pipeline", "pipeline_run", "node"))
        self.kinds = {kind.name: self.store.put_context_type(kind) for kind in kinds}
        self.artifact_type = self.store.put_artifact_type(metadata_store_pb2.ArtifactType(name="PushedModel"))
        self.execution_type = self.store.put_execution_type(metadata_store_pb2.ExecutionType(name="step"))

    def context(self, kind: str, name: str) -> metadata_store_pb2.Context:
        found = self.store.get_context_by_type_and_name(kind, name)
        if found is None:
            self.store.put_contexts([metadata_store_pb2.Context(type_id=self.kinds[kind], name=name)])
            found = self.store.get_context_by_type_and_name(kind, name)
        return found

    def artifact(self, uri: Path, **properties: str) -> metadata_store_pb2.Artifact:
        """A live artifact of 1,000 bytes."""
        uri.mkdir(parents=True, exist_ok=True)
        (uri / "file").write_bytes(bytes(1000))
        artifact = metadata_store_pb2.Artifact(type_id=self.artifact_type, uri=str(uri), state=LIVE)
        for name, value in properties.items():
            artifact.custom_properties[name].string_value = value
        if properties:
            artifact.custom_properties["pushed"].int_value = 1
        (artifact.id,) = self.store.put_artifacts([artifact])
        return artifact

    def run(
        self,
        name: str,
        steps: Sequence[str] = STEPS,
        *,
        pipeline: str = "digit-rows",
        last_state: int = COMPLETE,
        pushed_to: Path | None = None,
        baseline: str | None = None,
    ) -> None:
        """A run whose step S wrote artifacts/S/out/<name>; the log and the report of the run."""
        run, parent = self.context("pipeline_run", name), self.context("pipeline", pipeline)
        if not self.store.get_parent_contexts_by_context(run.id):
            self.store.put_parent_contexts([metadata_store_pb2.ParentContext(child_id=run.id, parent_id=parent.id)])
        for key, value in self.history.begin(name, {"settings": {"name": name}}).items():
            run.custom_properties[key].string_value = value
        self.store.put_contexts([run])
        for step in steps:
            state = last_state if step == steps[-1] else COMPLETE
            execution = metadata_store_pb2.Execution(type_id=self.execution_type, last_known_state=state)
            pushed = {"pushed_destination": str(pushed_to)} if pushed_to and step == "Pusher" else {}
            key = "pushed_model" if step == "Pusher" else "evaluation" if step == "Evaluator" else "out"
            compared = {"baseline_version": baseline} if baseline and step == "Evaluator" else {}
            written = self.artifact(self.path(step, name), **pushed, **compared)
            pairs = [(written, _event(metadata_store_pb2.Event.OUTPUT, key))]
            if baseline and step == "Evaluator":
                copy = self.artifact(self.root.artifacts / "Baseline" / "model" / f"{baseline}-{name}")
                copy.custom_properties["version"].string_value = baseline
                self.store.put_artifacts([copy])
                pairs.append((copy, _event(metadata_store_pb2.Event.INPUT, "baseline_model")))
            self.store.put_execution(execution, pairs, [run, self.context("node", f"{pipeline}.{step}")])
        for file in (self.root.log(name), self.root.report(name)):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(bytes(10))

    def path(self, step: str, run: str) -> Path:
        return self.root.artifacts / step / "out" / run

    def version(self, number: int, model: str, run: str, **provenance: object) -> Path:
        """A version folder with the fingerprint `model`."""
        folder = self.root.serving_dir / str(number)
        (folder / PROVENANCE).parent.mkdir(parents=True)
        (folder / "saved_model.pb").write_text(model)
        (folder / "fingerprint.pb").write_text(model)
        (folder / PROVENANCE).write_text(json.dumps({"run": run, **provenance}))
        return folder

    def runs_on_disk(self, step: str = "Trainer") -> list[str]:
        return sorted(path.name for path in (self.root.artifacts / step / "out").iterdir())

    def states(self) -> dict[str, int]:
        return {artifact.uri: artifact.state for artifact in self.store.get_artifacts()}

    def versions(self) -> list[int]:
        return sorted(int(path.name) for path in self.root.serving_dir.glob("[0-9]*"))


def _event(kind: int, key: str) -> metadata_store_pb2.Event:
    event = metadata_store_pb2.Event(type=kind)
    event.path.steps.add().key = key
    return event


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records(tmp_path / "root")


def test_old_runs_go_and_the_newest_of_each_pipeline_stay(command: Command, records: Records) -> None:
    for number in range(5):
        records.run(f"a{number}")
        records.run(f"b{number}", pipeline="other")
    before = size(records.root.path)
    planned = answer(command, records.root.path, "gc", "--keep", "2", "--dry-run")
    assert len(records.runs_on_disk()) == 10 and set(records.states().values()) == {LIVE}
    code, out, _ = command(records.root.path, "gc", "--keep", "2", "--dry-run")
    assert code == 0 and "Would free 66.1 kB; 66 artifacts would be marked as deleted" in out, out
    done = answer(command, records.root.path, "gc", "--keep", "2")
    assert {**done, "dry_run": True} == planned
    assert records.runs_on_disk() == ["a3", "a4", "b3", "b4"] == records.runs_on_disk("Pusher")
    files = [p for p in records.root.path.rglob("*") if p.is_file() and p.parent.parent.name == "out"]
    assert before - done["bytes"] >= sum(p.stat().st_size for p in files) and done["bytes"] == 6 * (11 * 1000 + 20)
    for uri, state in records.states().items():
        assert state == (LIVE if Path(uri).name in ("a3", "a4", "b3", "b4") else DELETED)
    assert sorted(path.parent.name for path in records.root.path.glob("logs/*/run.log")) == ["a3", "a4", "b3", "b4"]
    assert sorted(path.stem for path in records.root.path.glob("reports/*")) == ["a3", "a4", "b3", "b4"]
    rows = answer(command, records.root.path, "list")
    assert len(rows) == 10 and all(row["settings"] for row in rows)
    code, out, _ = command(records.root.path, "gc", "--keep", "2")
    assert code == 0 and out.startswith("Nothing to do.\nKept: 4 of 10 runs (4 among the newest).")


def test_what_resume_and_from_need_stays(command: Command, records: Records) -> None:
    records.run("old")
    records.run("complete")
    records.run("unfinished", STEPS[:7], last_state=RUNNING)
    for number in range(3):
        records.run(f"short{number}", STEPS[:1])
        records.history.record(f"short{number}", to=STEPS[0])
    done = answer(command, records.root.path, "gc", "--keep", "1")
    assert records.runs_on_disk() == ["complete", "unfinished"]
    assert records.runs_on_disk("CuratedSchema") == ["complete", "short2", "unfinished"]
    assert done["kept_runs"]["unfinished"] in ("--resume takes up", "--from reuses")
    assert done["kept_runs"]["complete"] == "--from reuses"


def test_what_is_served_and_its_baseline_stay(command: Command, records: Records) -> None:
    for number, model in ((1, "A"), (2, "B"), (3, "C"), (4, "D"), (5, "D")):
        records.version(number, model, f"run{number}")
        baseline = {4: "2"}.get(number)
        records.run(f"run{number}", pushed_to=records.root.serving_dir / str(number), baseline=baseline)
    for number in range(3):
        records.run(f"later{number}")
    answer(command, records.root.path, "gc", "--keep", "1")
    # Version 3 is the newest with another model than version 5. No version goes.
    assert records.runs_on_disk() == ["later2", "run3", "run5"]
    assert records.versions() == [1, 2, 3, 4, 5]
    code, out, _ = command(records.root.path, "gc", "--keep", "1", "--keep-versions", "1", "--dry-run")
    assert code == 0 and "versions of mnist" in out and records.versions() == [1, 2, 3, 4, 5]
    answer(command, records.root.path, "gc", "--keep", "1", "--keep-versions", "1")
    assert records.versions() == [3, 5] and not list(records.root.serving_dir.glob(".*"))


def test_the_version_that_the_newest_was_compared_with_stays(command: Command, records: Records) -> None:
    """The versions between may have other inputs: then they are no baseline."""
    for number in (1, 2, 3, 4):
        records.version(number, f"model {number}", f"run{number}")
        baseline = {4: "1"}.get(number)
        records.run(f"run{number}", pushed_to=records.root.serving_dir / str(number), baseline=baseline)
    answer(command, records.root.path, "gc", "--keep", "1", "--keep-versions", "1")
    assert records.versions() == [1, 3, 4]
    pushed = {Path(uri).name: state for uri, state in records.states().items() if "Pusher" in uri}
    assert pushed == {"run1": LIVE, "run2": DELETED, "run3": LIVE, "run4": LIVE}
    assert records.runs_on_disk("Pusher") == ["run1", "run3", "run4"]
    assert (records.root.artifacts / "Baseline" / "model" / "1-run4" / "file").exists()


def test_the_run_whose_model_was_rolled_back_to_stays(command: Command, records: Records) -> None:
    for number in (1, 2, 3):
        records.version(number, f"model {number}", f"run{number}")
        records.run(f"run{number}", pushed_to=records.root.serving_dir / str(number))
    records.version(4, "model 1", "run1", rolled_back={"from": 3, "to": 1})
    for number in range(2):
        records.run(f"later{number}")
    answer(command, records.root.path, "gc", "--keep", "1", "--keep-versions", "1")
    assert records.versions() == [3, 4]
    assert records.runs_on_disk() == ["later1", "run1", "run3"]


def test_nothing_outside_of_the_artifacts_and_nothing_shared_goes(
    command: Command,
    records: Records,
    tmp_path: Path,
) -> None:
    records.run("old")
    elsewhere = tmp_path / "elsewhere"
    shutil.move(records.path("Trainer", "old"), elsewhere)
    records.path("Trainer", "old").symlink_to(elsewhere)
    inner = records.path("Transform", "old") / "inner"
    records.run("new")
    event = _event(metadata_store_pb2.Event.INPUT, "inner")
    execution = metadata_store_pb2.Execution(type_id=records.execution_type, last_known_state=COMPLETE)
    contexts = [records.context("pipeline_run", "new"), records.context("node", "digit-rows.Extra")]
    records.store.put_execution(execution, [(records.artifact(inner), event)], contexts)
    outside = records.artifact(tmp_path / "outside")
    dotted = records.artifact(tmp_path / "dotted")
    dotted.uri = f"{records.root.artifacts}/x/../../../dotted"
    records.store.put_artifacts([dotted])
    backup = records.root.artifacts / "Trainer" / "backup" / "state"
    unknown = records.root.artifacts / "Trainer" / "model" / "99"
    for folder in (backup, unknown):
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(bytes(500))
    done = answer(command, records.root.path, "gc", "--keep", "1")
    for path in (elsewhere / "file", inner / "file", tmp_path / "outside" / "file", tmp_path / "dotted" / "file"):
        assert path.exists(), path
    assert (backup / "file").exists() and (unknown / "file").exists()
    assert records.runs_on_disk("Evaluator") == ["new"]
    assert records.states()[outside.uri] == LIVE and records.states()[str(inner)] == LIVE
    assert records.states()[str(records.path("Transform", "old"))] == LIVE
    assert done["left_alone"] == [{"path": str(unknown), "bytes": 500}]
    code, out, _ = command(records.root.path, "gc", "--keep", "1")
    assert code == 0 and "Left alone, as ML Metadata does not know them: 1 folders, 500 bytes:" in out


def test_a_gc_that_was_killed_is_finished_by_the_next(
    command: Command,
    records: Records,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for number in (1, 2, 3):
        records.version(number, f"model {number}", f"run{number}")
        records.run(f"run{number}", pushed_to=records.root.serving_dir / str(number))
    with monkeypatch.context() as patched:
        patched.setattr("pipeline.history.gc.shutil.rmtree", _denied)
        code, _, err = command(records.root.path, "gc", "--keep", "1", "--keep-versions", "1")
    assert code == 1 and "could not be removed: permission was denied" in err
    # What is marked is still there, never the other way round.
    for artifact in records.store.get_artifacts():
        assert artifact.state == DELETED or Path(artifact.uri).exists()
    (records.root.serving_dir / "1").rename(records.root.serving_dir / ".removing-1")
    done = answer(command, records.root.path, "gc", "--keep", "1", "--keep-versions", "1")
    assert done["marked_deleted"] == 0 and done["bytes"] > 11_000
    assert records.runs_on_disk() == ["run2", "run3"] and not list(records.root.serving_dir.glob(".*"))


def _denied(path: Path) -> None:
    raise PermissionError(13, "Permission denied", str(path))


def test_a_run_root_that_was_moved_or_is_held_is_left_alone(
    command: Command,
    records: Records,
    tmp_path: Path,
) -> None:
    for number in range(3):
        records.run(f"run{number}")
    shutil.copytree(records.root.path, tmp_path / "copy")
    code, _, err = command(tmp_path / "copy", "gc", "--keep", "1")
    assert code == 1 and "gc works where the runs were made" in err
    holder = subprocess.Popen(
        [
            *(sys.executable, "-c"),
            "import sys\nfrom pathlib import Path\nfrom pipeline.config import Config\n"
            "from pipeline.runs.root import RunRoot\n"
            f"with RunRoot(Path({str(records.root.path)!r}), Config()).held(): print(flush=True); sys.stdin.read()",
        ],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None and holder.stdout.readline()
    for options in ([], ["--dry-run"]):
        code, _, err = command(records.root.path, "gc", "--keep", "1", *options)
        assert code == 1 and f"is held by process {holder.pid}" in err
    holder.communicate("")
    assert records.runs_on_disk() == ["run0", "run1", "run2"] and set(records.states().values()) == {LIVE}


def test_a_store_of_two_run_roots_keeps_what_the_other_uses(tmp_path: Path, command: Command) -> None:
    here, there = Records(tmp_path / "here"), Records(tmp_path / "there")
    for number in range(3):
        here.run(f"run{number}")
    other = metadata_store_pb2.Artifact(type_id=here.artifact_type, uri=str(there.path("Trainer", "x")), state=LIVE)
    used = next(a for a in here.store.get_artifacts() if a.uri == str(here.path("ExampleGen", "run0")))
    contexts = [here.context("pipeline_run", "foreign"), here.context("node", "digit-rows.Trainer")]
    parent = here.context("pipeline", "digit-rows").id
    here.store.put_parent_contexts([metadata_store_pb2.ParentContext(child_id=contexts[0].id, parent_id=parent)])
    events = [(used, _event(metadata_store_pb2.Event.INPUT, "examples")), (other, _event(4, "model"))]
    execution = metadata_store_pb2.Execution(type_id=here.execution_type, last_known_state=COMPLETE)
    here.store.put_execution(execution, events, contexts)
    answer(command, here.root.path, "gc", "--keep", "1")
    assert here.runs_on_disk() == ["run2"] and here.runs_on_disk("ExampleGen") == ["run0", "run2"]
    assert here.states()[other.uri] == LIVE
