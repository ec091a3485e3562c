"""The monitor on logs on disk: what it says, its exit codes, its files, and what it refuses."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.reference import IN_VERSION
from serving.monitor.__main__ import AS_TRAINED, FAILED, RETRAIN, main
from tests.conftest import ROOT
from tests.endpoint import listening
from tests.serving.monitored import NAMES, UNSURE, answers, classified, record, write_log, write_records, write_version


@dataclass(frozen=True)
class Said:
    """How the monitor ended."""

    code: int
    out: str
    err: str


Monitor = Callable[..., Said]


@pytest.fixture
def monitor(capsys: pytest.CaptureFixture[str]) -> Monitor:
    """monitor(*arguments) runs the command."""

    def run(*arguments: object) -> Said:
        code = main([str(argument) for argument in arguments])
        return Said(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base path of the model `letters` with the versions 1, 2 and, without a reference, 3."""
    base = tmp_path_factory.mktemp("models") / "letters"
    for version, count in ((1, 3_000), (2, 3_000), (3, 0)):
        write_version(base, version, count)
    return base


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of 1,200 answers of version 1, as trained."""
    log = tmp_path_factory.mktemp("usual") / "log"
    write_log(log, 1, answers(1_200)[0])
    return log


@pytest.fixture(scope="module")
def worse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of 1,200 answers of version 1 that is less sure than it was."""
    log = tmp_path_factory.mktemp("worse") / "log"
    write_log(log, 1, answers(1_200, UNSURE)[0])
    return log


def found(said: Said) -> list[dict[str, Any]]:
    versions = json.loads(said.out)["versions"]
    assert isinstance(versions, list)
    return versions


def test_it_needs_neither_tensorflow_nor_tfx(usual: Path, base: Path, tmp_path: Path) -> None:
    code = f"""if True:
        import sys
        from serving.monitor.__main__ import main
        code = main([{str(usual)!r}, "--model", {str(base)!r}, "-o", {str(tmp_path / "page.html")!r}])
        print(*sys.modules)
        sys.exit(code)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}
    assert not loaded & {"tensorflow", "tensorflow_serving", "tfx", "apache_beam", "pandas"}


def test_what_is_as_trained_says_so_and_ends_with_0(monitor: Monitor, usual: Path, base: Path) -> None:
    said = monitor(usual, "--model", base)
    assert (said.code, said.err) == (AS_TRAINED, "")
    head, verdict, p_value, estimate = said.out.splitlines()
    assert head == "letters, version 1: 1,200 answers"
    assert verdict == "  As trained: the answers are distributed as those to the held-out examples."
    assert p_value.startswith("  The smallest of 11 p-values is ") and "below 0.00091" in p_value
    assert re.fullmatch(
        r"  Estimated accuracy 0\.9\d{3} \(0\.9\d{3} … 0\.9\d{3}\); on 3,000 held-out examples it was 0\.9\d{3}\.",
        estimate,
    )


def test_what_is_worse_asks_for_a_training(monitor: Monitor, worse: Path, base: Path) -> None:
    said = monitor(worse, "--model", base, "--json")
    assert (said.code, json.loads(said.out)["exit_code"]) == (RETRAIN, RETRAIN)
    (version,) = found(said)
    assert (version["model"], version["version"], version["answers"]) == ("letters", 1, 1_200)
    assert version["verdict"] == "retrain" and version["drop"] > 0.02
    assert min(*version["p_values"]["probability"].values(), version["p_values"]["classes"]) < version["alarm_below"]
    assert version["p_values"]["probability"].keys() == version["classes"].keys() == {*NAMES}
    assert version["interval"][0] < version["estimated_accuracy"] < version["interval"][1]
    assert list(version["days"]) == ["2026-05-04", "2026-05-05", "2026-05-06", "2026-05-07"]
    assert sum(day["answers"] for day in version["days"].values()) == 1_200
    assert "retrain" not in monitor(worse, "--model", base, "--drop", "0.5", "--json").out


def test_a_change_that_costs_nothing_asks_for_none(monitor: Monitor, base: Path, tmp_path: Path) -> None:
    probabilities, labels = answers(4_000)
    write_log(tmp_path / "log", 1, probabilities[labels < 6])
    said = monitor(tmp_path / "log", "--model", base)
    assert said.code == AS_TRAINED and "Changed, but not worse by 0.005: no reason to train again." in said.out


@pytest.mark.parametrize(
    ("count", "words"),
    [(150, "Too few: a verdict needs 200 answers, and there are 150."), (900, "with 1,000 answers there is a verdict")],
)
def test_few_answers_ask_for_none(monitor: Monitor, base: Path, tmp_path: Path, count: int, words: str) -> None:
    write_log(tmp_path / "log", 1, answers(count, UNSURE)[0])
    said = monitor(tmp_path / "log", "--model", base)
    assert said.code == AS_TRAINED and words in said.out


def test_the_newest_of_several_versions_decides(monitor: Monitor, base: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    write_log(log, 1, answers(1_000, UNSURE)[0])
    write_log(log, 2, answers(1_000)[0], prefix="s")
    said = monitor(log, "--model", base, "--json")
    assert said.code == AS_TRAINED
    assert [(each["version"], each["verdict"]) for each in found(said)] == [(1, "retrain"), (2, "as trained")]
    alone = monitor(log, "--model", base / "1", "--json")
    assert alone.code == RETRAIN and [each["version"] for each in found(alone)] == [1]


def test_since_and_the_days(monitor: Monitor, usual: Path, base: Path) -> None:
    (version,) = found(monitor(usual, "--model", base, "--since", "2026-05-06T20:00", "--json"))
    assert version["answers"] == 400 and list(version["days"]) == ["2026-05-06", "2026-05-07"]
    said = monitor(usual, "--model", base, "--since", "1m")
    assert said.code == AS_TRAINED and said.out.startswith(f"Too few: {usual} has no answers since 20")


def test_labels_that_come_later(monitor: Monitor, base: Path, tmp_path: Path) -> None:
    probabilities, labels = answers(600)
    log, table, right = tmp_path / "log", tmp_path / "late.csv", probabilities.argmax(axis=1) == labels
    write_log(log, 1, probabilities[:500])
    images = {"images": np.zeros((100, 4, 3), np.uint8)}
    write_records(log, [record(1, {"probabilities": probabilities[500:]}, "batch", inputs=images)])
    rows = [f"r{index},{NAMES[labels[index]] if index % 3 else labels[index]}" for index in range(0, 500, 2)]
    rows += [f"batch,{NAMES[label]}" for label in labels[500:]]  # in the order of the images
    table.write_text("\n".join(["id,label", *rows, "nobody,a", "r1,"]))
    (version,) = found(monitor(log, "--model", base, "--labels", table, "--json"))
    known = np.concatenate([right[:500:2], right[500:]])
    true = version["true_accuracy"]
    assert (true["labels"], true["accuracy"]) == (350, pytest.approx(known.mean()))
    assert true["interval"][0] < true["accuracy"] < true["interval"][1]
    table.write_text("id,label\nbatch,a\nr0,b\nr0," + NAMES[labels[0]])
    parquet = tmp_path / "late.parquet"
    pq.write_table(pa.table({"id": ["batch", "r0", "r0"], "label": ["a", "b", NAMES[labels[0]]]}), parquet)
    for file in (table, parquet):
        said = monitor(log, "--model", base, "--labels", file)
        assert f"True accuracy {float(right[0]):.4f}" in said.out and "of 1 answers with a label." in said.out
        assert "Requests whose labels are not as many as their answers: 1." in said.out


def test_what_the_signatures_answer(monitor: Monitor, base: Path, tmp_path: Path) -> None:
    """The last row of predict_rows, batches, Classify with its own order of classes; all else is counted and told."""
    probabilities, _ = answers(400)
    rows = np.full((150, 4, 10), 0.1, np.float32)
    rows[:, -1] = probabilities[:150]
    bad = np.array([[0.5] * 10, [np.nan] * 10, probabilities[0]], np.float32)
    write_records(
        tmp_path / "log",
        [
            record(1, {"probabilities": rows}, "rows"),
            record(1, {"probabilities": probabilities[150:300]}, "images"),
            classified(1, probabilities[300:399], range(9, -1, -1), "examples"),
            record(1, {"probabilities": bad}, "bad"),
            record(1, {"class_names": np.array([[b"a", b"b"]], object)}, "describe"),
            record(1, {"probabilities": np.full((1, 3), 1 / 3, np.float32)}, "other classes"),
        ],
    )
    said = monitor(tmp_path / "log", "--model", base)
    assert said.code == AS_TRAINED and "letters, version 1: 400 answers" in said.out and "As trained" in said.out
    assert "Left out, without probabilities of the version's classes: 4." in said.out


def test_the_tables_of_a_batch_prediction(
    monitor: Monitor, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    probabilities, labels = answers(1_100, UNSURE)
    columns = {
        "id": [str(number) for number in range(1_100)],
        "probabilities": pa.array(probabilities.tolist(), pa.list_(pa.float32())),
        "model_version": pa.array([1] * 1_100),
        "label": pa.array([None, *labels[1:].tolist()], pa.int64()),
    }
    pq.write_table(pa.table(columns), tmp_path / "predictions-00000-of-00001.parquet")
    said = monitor(tmp_path, "--model", base, "--json")
    (version,) = found(said)
    assert said.code == RETRAIN and (version["model"], version["answers"]) == ("letters", 1_100)
    assert version["true_accuracy"]["labels"] == 1_099
    assert abs(version["true_accuracy"]["accuracy"] - version["estimated_accuracy"]) < 0.05
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "serving_models").symlink_to(base.parent)
    assert found(monitor(".", "--json"))[0]["model"] == "letters"  # there is only one
    (tmp_path / "runs" / "serving_models").unlink()
    without = monitor(tmp_path)
    assert without.code == FAILED and "A table does not name the model: say with --model" in without.err
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "other.parquet")
    assert "other.parquet has no column probabilities" in monitor(tmp_path / "other.parquet", "--model", base).err
    (tmp_path / "other.parquet").write_bytes(b"no table")
    assert "other.parquet cannot be read: " in monitor(tmp_path / "other.parquet", "--model", base).err


def test_metrics_are_prometheus_text(monitor: Monitor, worse: Path, base: Path, tmp_path: Path) -> None:
    file = tmp_path / "monitor.prom"
    monitor(worse, "--model", base, "--metrics", file)
    lines = file.read_text().splitlines()
    samples = [line for line in lines if not line.startswith("#")]
    assert all(
        re.fullmatch(r'serving_monitor_\w+(\{model="letters",version="1"\})? \d+(\.\d+)?(e-\d+)?', s) for s in samples
    )
    assert 'serving_monitor_retrain{model="letters",version="1"} 1' in samples
    assert 'serving_monitor_answers{model="letters",version="1"} 1200' in samples
    for sample in samples:
        name = re.split(r"[ {]", sample)[0]
        assert f"# TYPE {name} gauge" in lines and any(line.startswith(f"# HELP {name} ") for line in lines)
    assert [path.name for path in tmp_path.iterdir()] == ["monitor.prom"]


def test_it_tells_who_is_to_know(monitor: Monitor, worse: Path, base: Path, tmp_path: Path) -> None:
    with listening(204) as endpoint:
        assert monitor(worse, "--model", base, "--notify", f"{endpoint.url}/hook").code == RETRAIN
        assert monitor(tmp_path / "none", "--model", base, "--notify", endpoint.url).code == FAILED
    retrain, failed = endpoint.got
    assert retrain["exit_code"] == RETRAIN and retrain["versions"][0]["verdict"] == "retrain" and not retrain["error"]
    assert failed["exit_code"] == FAILED and "none is not there" in failed["error"] and failed["versions"] == []
    said = monitor(worse, "--model", base, "--notify", endpoint.url)  # nobody listens any more
    assert said.code == RETRAIN and "the notification was not delivered: ConnectionError." in said.err


def test_a_version_without_a_reference(monitor: Monitor, base: Path, tmp_path: Path) -> None:
    write_log(tmp_path / "log", 1, answers(300)[0])
    write_log(tmp_path / "log", 3, answers(300)[0])
    said = monitor(tmp_path / "log", "--model", base, "-o", tmp_path / "page.html")
    assert said.code == FAILED and f"{base / '3'} has no {IN_VERSION}" in said.err
    assert (
        "As trained" in said.out and "No verdict." in said.out and "No verdict." in (tmp_path / "page.html").read_text()
    )
    write_log(tmp_path / "gone", 7, answers(300)[0])
    assert f"There is no version 7 in {base}" in monitor(tmp_path / "gone", "--model", base).err
    write_records(tmp_path / "unknown", [record(None, {"probabilities": answers(3)[0]}, "a")])
    assert "The log does not say which version answered." in monitor(tmp_path / "unknown", "--model", base).err


def test_the_versions_of_each_model_are_found(
    monitor: Monitor, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "serving_models").symlink_to(base.parent)
    monkeypatch.chdir(tmp_path)
    write_log(tmp_path / "log", 1, answers(300)[0])
    assert monitor("log").code == AS_TRAINED
    write_log(tmp_path / "log", 1, answers(300)[0], model="others")
    said = monitor("log")
    assert said.code == FAILED and "There is no version 1 in runs/serving_models/others" in said.err
    assert monitor("log", "--model", base).code == AS_TRAINED  # the folder has the name of one of them
    base.parent.joinpath("renamed").symlink_to(base)
    said = monitor("log", "--model", base.parent / "renamed")
    assert said.code == FAILED and "has answers of letters, others" in said.err


def test_mistakes_are_sentences(monitor: Monitor, usual: Path, base: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("id,label\nr0,z\n")
    (tmp_path / "two.csv").write_text("name,label\n")
    log = tmp_path / "log"
    write_log(log, 1, answers(300)[0])
    (first, *_) = sorted(log.rglob("*.tfrecord"))
    first.write_bytes(first.read_bytes()[:-5])
    broken = write_version(tmp_path / "broken", 1)
    (broken / IN_VERSION).write_bytes((broken / IN_VERSION).read_bytes()[:-500])
    for arguments, words in (
        ([tmp_path / "none", "--model", base], "none is not there"),
        ([ROOT / "serving", "--model", base], "holds no hour of a request log"),
        ([log, "--model", base], "damaged or cut off at byte"),
        ([usual, "--model", tmp_path / "none"], "none is no folder: --model names the folder"),
        ([usual, "--model", tmp_path / "broken"], "reference.npz is damaged. Restore it from a copy of the version."),
        ([usual, "--model", base, "--labels", labels], "The label z is neither one of the 10 classes nor the number"),
        ([usual, "--model", base, "--labels", tmp_path / "two.csv"], "two.csv has no column id: it needs the columns"),
        ([usual, "--model", base, "--labels", tmp_path / "no.csv"], "no.csv cannot be read: No such file"),
        ([usual, "--model", base, "--metrics", tmp_path], f"{tmp_path} cannot be written: Is a directory."),
    ):
        said = monitor(*arguments)
        assert said.code == FAILED and words in said.err and said.err.count("\n") == 1, said
    for wrong in (["--since", "yesterday"], ["--drop", "2"], ["--drop", "much"], []):
        with pytest.raises(SystemExit) as ended:
            main([*([str(usual)] if wrong else []), *wrong])
        assert ended.value.code == 2
