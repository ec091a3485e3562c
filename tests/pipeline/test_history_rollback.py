"""The roll-back and gc on real runs: what is served, what is recorded, and what the next runs do."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from components.baseline import find_baseline
from components.evaluator.predictions import read_predictions
from components.version_folder import read_provenance, same_model
from data.readers import Images
from pipeline.config import Config
from pipeline.exit_codes import PUSHED, WRONG_USE
from pipeline.history.__main__ import main
from pipeline.history.gc import size
from pipeline.runs.root import RunRoot
from serving.client import Client
from serving.launch import model_server, wait_until_available
from tests.conftest import last_run, run_pipeline, states, versions
from tests.data.test_signature import key_pair
from tests.pipeline import test_history
from tests.pipeline.few_digits import SMALL
from tests.pipeline.test_history import FIRST, Command, Recorded, answer

command, recorded, roots = test_history.command, test_history.recorded, test_history.roots

pytestmark = pytest.mark.slow
OPTIONS = test_history.SECOND


def test_a_roll_back_serves_the_earlier_model_and_is_recorded(
    command: Command,
    recorded: Recorded,
    tmp_path: Path,
    digits: dict[str, Images],
) -> None:
    base, (one, two) = recorded.root / "serving_models" / "mnist", recorded.versions
    flags = ["--model_name=mnist", f"--model_base_path={base}", "--file_system_poll_wait_seconds=1"]
    with model_server(flags, tmp_path / "log") as server:
        wait_until_available(server, "mnist")
        with Client(server.address) as client:
            assert client.metadata().version == int(two)
            done = answer(command, recorded.root, "rollback")
            end = time.monotonic() + 60
            while client.metadata().version != done["version"] and time.monotonic() < end:
                time.sleep(0.1)
            prediction = client.predict(digits["test"].pixels)
    assert prediction.versions == (done["version"],)
    first = RunRoot(recorded.root, Config()).history().run(recorded.first)
    evaluated = read_predictions(first.output("Evaluator", "evaluation").uri)
    np.testing.assert_array_equal(prediction.class_ids, evaluated.class_ids)
    assert versions(recorded.root) == [one, two, str(int(two) + 1)]
    assert (done["from"], done["to"], done["version"]) == (int(two), int(one), int(two) + 1)
    new = base / str(done["version"])
    assert same_model(str(new), str(base / one)) and not same_model(str(new), str(base / two))
    provenance = read_provenance(str(new))
    back = provenance.pop("rolled_back")
    assert provenance == read_provenance(str(base / one))
    assert (back["from"], back["to"]) == (int(two), int(one)) and len(back["models"]) == 1
    assert find_baseline(str(base), str(base / two)) == str(new)
    assert not list(base.glob(".*"))
    # In ML Metadata: input, output, pipeline.
    store = RunRoot(recorded.root, Config()).history().store
    (execution,) = store.get_executions_by_type("Rollback")
    assert execution.last_known_state == 3
    assert [c.name for c in store.get_contexts_by_execution(execution.id)] == ["digit-rows"]
    events = {event.type: event.artifact_id for event in store.get_events_by_execution_ids([execution.id])}
    source, result = store.get_artifacts_by_id([events[3], events[4]])
    assert source.custom_properties["pushed_version"].string_value == one
    assert result.custom_properties["pushed_destination"].string_value == str(new) and result.state == 2
    row = answer(command, recorded.root, "list")[-1]
    assert (row["kind"], row["version"], row["served"]) == ("rollback", done["version"], True)
    found = answer(command, recorded.root, "lineage", str(done["version"]))
    assert found["run"] == recorded.first and found["rolled_back"] == back
    assert [run["run"] for run in found["runs"]] == [recorded.first] and len(found["rollbacks"]) == 1
    # A second one returns.
    code, out, _ = command(recorded.root, "rollback")
    assert code == 0 and f"is a copy of version {two}" in out
    assert same_model(str(base / str(done["version"] + 1)), str(base / two))


def test_a_model_that_was_rolled_back_is_not_pushed_again_and_is_compared_with_the_other(
    recorded: Recorded,
    small_mnist: Path,
) -> None:
    assert main(["rollback", "--run-root", str(recorded.root)]) == 0
    before = versions(recorded.root)
    for _ in range(2):
        outcome = run_pipeline(recorded.root, small_mnist, *OPTIONS)
        assert outcome.code == PUSHED, outcome.text
        assert versions(recorded.root) == before
    assert states(recorded.root)["Trainer"] == "CACHED"
    base, baseline = recorded.root / "serving_models" / "mnist", last_run(recorded.root).baseline_version
    assert baseline and same_model(str(base / baseline), str(base / before[-1]))
    assert f"version {before[1]} by an earlier run" in outcome.text and f"version {before[2]} is newer" in outcome.text
    # Also if the version that was rolled back is removed.
    shutil.rmtree(recorded.root / "serving_models" / "mnist" / before[1])
    outcome = run_pipeline(recorded.root, small_mnist, *OPTIONS)
    assert versions(recorded.root) == [before[0], before[2]]
    assert "The model is not pushed: a roll-back serves version" in outcome.text
    # The model that is served again counts as pushed.
    outcome = run_pipeline(recorded.root, small_mnist, *FIRST)
    assert outcome.code == PUSHED, outcome.text
    assert versions(recorded.root) == [before[0], before[2]]


def test_a_signed_version_is_pushed_and_rolled_back_signed_and_no_record_has_the_key(
    command: Command, recorded: Recorded, small_mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = key_pair(tmp_path / "keys")
    monkeypatch.setenv("SIGN_KEY", private.read_text())
    options = (*OPTIONS, "serving.sign_key=$SIGN_KEY")
    outcome = run_pipeline(recorded.root, small_mnist, *options)
    assert outcome.code == PUSHED and "Signed with the key" in outcome.text, outcome.text
    assert states(recorded.root)["Trainer"] == "CACHED"
    one, two, three = versions(recorded.root)
    assert run_pipeline(recorded.root, small_mnist, *options).code == PUSHED
    assert states(recorded.root)["Pusher"] == "CACHED" and versions(recorded.root) == [one, two, three]
    code, out, _ = command(recorded.root, "verify", three, "--key", str(public))
    assert code == 0 and out.endswith("all unchanged.\n")
    code, _, error = command(recorded.root, "verify", two, "--key", str(public))
    assert code == 1 and "has no signature model.sig" in error

    code, _, error = command(recorded.root, "rollback")
    assert code == 1 and f"Version {three} is signed, and a roll-back is a new version: sign it with" in error
    assert versions(recorded.root) == [one, two, three]
    done = answer(command, recorded.root, "rollback", "--sign-key", str(private))
    assert done["to"] == int(one)
    assert command(recorded.root, "verify", str(done["version"]), "--key", str(public))[0] == 0

    secret = private.read_text().splitlines()[1].encode()
    files = [path for path in recorded.root.rglob("*") if path.is_file()]
    assert not [path for path in files if secret in path.read_bytes()]


def test_a_key_that_cannot_sign_ends_a_run_before_it_starts(small_mnist: Path, tmp_path: Path) -> None:
    outcome = run_pipeline(tmp_path / "root", small_mnist, f"serving.sign_key={tmp_path / 'none.pem'}")
    assert outcome.code == WRONG_USE and "none.pem cannot be read (No such file or directory)" in outcome.text
    assert not (tmp_path / "root").exists()


def test_what_cannot_be_rolled_back_is_a_sentence_and_changes_nothing(
    command: Command,
    recorded: Recorded,
) -> None:
    base, (one, two) = recorded.root / "serving_models" / "mnist", recorded.versions
    for arguments, words in (
        (["7"], f"There is no version 7 in {base}; the versions before {two}: {one}."),
        ([two], "Nothing to do: version"),
        (["--model", "other"], "There is no version of a model other"),
    ):
        code, _, err = command(recorded.root, "rollback", *arguments)
        assert code == 1 and words in err, err
    shutil.copytree(base, base.parent / "second")
    code, _, err = command(recorded.root, "rollback")
    assert code == 1 and "has several models: name one with --model, one of mnist, second." in err
    shutil.rmtree(base.parent / "second")
    graph = base / one / "saved_model.pb"
    graph.write_bytes(graph.read_bytes()[: graph.stat().st_size // 2])
    code, _, err = command(recorded.root, "rollback", one)
    assert code == 1 and f"Version {one} is damaged: " in err and "Traceback" not in err
    assert versions(recorded.root) == [one, two] and not list(base.glob(".*"))
    shutil.rmtree(base / one)
    code, _, err = command(recorded.root, "rollback")
    assert code == 1 and "holds no other model" in err
    shutil.rmtree(base)
    code, _, err = command(recorded.root, "rollback")
    assert code == 1 and "holds no version" in err
    assert RunRoot(recorded.root, Config()).history().rollbacks() == []


def test_a_roll_back_that_is_interrupted_leaves_no_version(
    command: Command,
    recorded: Recorded,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("components.pusher.component.publish", fail)
    code, _, err = command(recorded.root, "rollback")
    assert code == 1 and "no space is left on the device" in err
    assert versions(recorded.root) == list(recorded.versions)
    assert not list((recorded.root / "serving_models" / "mnist").glob(".*"))
    assert [row["kind"] for row in json.loads(command(recorded.root, "list", "--json")[1])] == ["run"] * 3


def test_after_a_gc_real_runs_still_find_what_they_need(
    command: Command,
    recorded: Recorded,
    small_mnist: Path,
) -> None:
    root, options = recorded.root, ("gates.class_accuracy=0.0", "gates.max_drop=1.0")
    third = run_pipeline(root, small_mnist, "training.epochs=2", *options)
    assert third.code == PUSHED
    # The newest version and its baseline are those of both runs that pushed: of them, nothing goes.
    done = answer(command, root, "gc", "--keep", "1", "--keep-versions", "1")
    assert recorded.refused not in done["kept_runs"] and {recorded.first, recorded.second} <= set(done["kept_runs"])
    assert versions(root) == list(recorded.versions)
    assert not (root / "logs" / recorded.refused / "run.log").exists()
    # A third model is pushed. The first version is then neither served nor the baseline.
    weak = (SMALL, "training.epochs=1", "training.warmup_epochs=0", "gates.accuracy=0.1", *options)
    assert run_pipeline(root, small_mnist, *weak).code == PUSHED
    before, models = size(root), root / "artifacts" / "Trainer" / "model"
    on_disk = size(models)
    done = answer(command, root, "gc", "--keep", "1", "--keep-versions", "1")
    now = versions(root)
    assert now[0] == recorded.versions[1] and len(now) == 2 and size(models) < on_disk
    assert before - size(root) == pytest.approx(done["bytes"], rel=0.05)
    # The newest run is cached as before, and what was removed is neither used nor pushed.
    assert run_pipeline(root, small_mnist, *weak).code == PUSHED
    assert {state for step, state in states(root).items() if step != "Baseline"} == {"CACHED"}
    assert run_pipeline(root, small_mnist, *FIRST, *options, options=("--to", "Trainer")).code == PUSHED
    assert states(root)["Trainer"] == "COMPLETE" and states(root)["Transform"] == "CACHED"
    assert versions(root) == now and not list((root / "serving_models" / "mnist").glob(".*"))
    removed = answer(command, root, "lineage", recorded.versions[0])
    assert removed["present"] is False and {"deleted", "live"} == {a["state"] for a in removed["artifacts"]}
