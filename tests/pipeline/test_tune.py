"""python -m pipeline.tune: real trials on real digits, what they leave, and what a user gets wrong."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import optuna
import pytest

from data.errors import UserError
from pipeline.config import load
from pipeline.exit_codes import FAILED, INTERRUPTED, WRONG_USE
from pipeline.tune.__main__ import main
from pipeline.tune.ranges import Range, check_ranges, parse_range, value_of
from pipeline.tune.report import importances, toml, write_report
from pipeline.tune.search import next_trial, work
from pipeline.tune.study import SPENT, Search
from tests import processes
from tests.conftest import ROOT, last_run, suspend
from tests.pipeline.few_digits import prepared

RANGES = ("training.learning_rate=1e-3..3e-2", "model.units=8..16", "model.cell=gru,simple_rnn")
QUICK = ("training.epochs=20", "training.batch_size=200", "model.units=8", "training.warmup_epochs=0.5")


def command(root: Path, data: Path, *options: str) -> list[str]:
    return [*("--run-root", str(root), "--set", f"data.path={data}", *QUICK, "--set-range", *RANGES), *options]


def the_study(root: Path) -> optuna.Study:
    (folder,) = (root / "tune").iterdir()
    return optuna.load_study(study_name=folder.name, storage=f"sqlite:///{folder / 'study.db'}")


def test_several_hosts_are_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TF_CONFIG", "{}")
    assert main(["--set-range", RANGES[0]]) == WRONG_USE
    assert "pipeline.tune trains on this host alone" in capsys.readouterr().err


def test_what_a_range_means() -> None:
    assert parse_range("training.learning_rate=1e-3..3e-2") == Range("training.learning_rate", 1e-3, 3e-2)
    assert parse_range("training.learning_rate=1e-3..3e-2").log and not parse_range("model.dropout=0.1..0.5").log
    assert parse_range("model.units=64..256").ends == (64, 256)
    assert parse_range("model.cell=lstm,gru").ends == ("lstm", "gru")
    assert parse_range("model.bidirectional=true,false").ends == (True, False)
    assert parse_range("model.cell=gru,lstm,gru").choices == ("gru", "lstm")
    config = load("default")
    assert check_ranges([parse_range("model.dropout=0..0.5"), parse_range("model.bidirectional=true,false")], config)
    (floats,) = check_ranges([parse_range("augmentation.shift=0..4")], config)
    assert isinstance(floats.low, float) and isinstance(floats.high, float), "a shift of 1.5 is among them"
    assert parse_range("model.cell=lstm,gru").holds("gru") and not parse_range("model.units=64..256").holds(300)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["gates.accuracy=0.5..0.9"], "the search varies settings of model, training, augmentation only."),
        (["training.learning_rate=3e-2..1e-3"], "it must be section.key=LOW..HIGH"),
        (["training.learning_rate=fast"], "it must be section.key=LOW..HIGH"),
        (["training.learning_rate"], "it must be section.key=LOW..HIGH"),
        (["training.speed=1..2"], "--set-range training.speed=1: there is no setting training.speed"),
        (
            ["model.units=0..8"],
            "--set-range model.units=0: model.units = 0: input should be greater than or equal to 1.",
        ),
        (["model.units=1.5..8.0"], "model.units = 1.5: input should be a valid integer"),
        (["model.cell=lstm,transformer"], "model.cell = 'transformer'"),
        (["model.units=8..16", "model.units=8..32"], "--set-range varies model.units twice: give it one range."),
        (["training.seed=1..9"], "a seed is luck: use python -m pipeline.seeds"),
        (["training.replicas=1..2"], "TensorFlow takes the number of devices once"),
        (["training.validation_split=0.1..0.2"], "trials must be judged on the same examples"),
        (["model.units=[64],[128]"], "it must be section.key=LOW..HIGH"),
        (["model.bidirectional=false..true"], "it must be section.key=LOW..HIGH"),
        (["model.bidirectional=yes,no"], "model.bidirectional = 'yes': input should be a valid boolean"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_wrong_range_is_a_sentence(
    options: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--run-root", str(tmp_path / "root"), "--set-range", *options]) == WRONG_USE
    error = capsys.readouterr().err
    assert error.startswith("tune: ") and sentence in error and not (tmp_path / "root").exists()


def test_a_profile_is_written_as_toml(tmp_path: Path) -> None:
    tree = {"name": 'a "name"', "model": {"units": 8, "bidirectional": True}, "data": {"class_names": ["ä", "b"]}}
    (tmp_path / "p.toml").write_text("\n".join(toml(tree)))
    assert list(toml({"a": {"cloud.org/kind": "x"}})) == ["\n[a]", '"cloud.org/kind" = "x"']
    config = load(str(tmp_path / "p.toml"), ["name=other", "data.classes=2"])
    assert (config.model.units, config.model.bidirectional) == (8, True)
    assert config.data.class_names == ("ä", "b")


@pytest.mark.slow
def test_an_interrupted_search_continues_its_trial_and_leaves_a_profile_and_a_page(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, capfd: pytest.CaptureFixture[str]
) -> None:
    few, log = prepared(tmp_path_factory.getbasetemp()), tmp_path / "log"
    root, data = few.root, few.data
    options = [*command(root, data, "--trials", "2"), "--set", "notify.url=http://127.0.0.1:9/hook5ecret"]
    process = processes.start(log, processes.python, ["-m", "pipeline.tune", *options], str(ROOT))
    deadline = time.monotonic() + 600
    while not list(root.glob("tune/*/trials/0/backup/state/chief/checkpoint")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.terminate()
    process.join(60)
    assert process.exitcode == INTERRUPTED
    assert log.read_text().splitlines()[-1] == "tune: Interrupted; the same command goes on with the search."
    assert the_study(root).trials[0].state == optuna.trial.TrialState.RUNNING

    assert main([*options, "--jobs", "2"]) == 0
    text = capfd.readouterr().out
    study = the_study(root)
    folder = root / "tune" / study.study_name
    first, again, *others = study.trials
    assert (first.state.name, again.state.name) == ("FAIL", "COMPLETE") and first.params == again.params
    assert "Continues a training that was interrupted after epoch" in (folder / "search.log").read_text()
    # It begins with the profile's own values. Its cell, lstm, is not among the choices.
    assert (first.params["training.learning_rate"], first.params["model.units"]) == (1e-2, 8)
    assert len(others) == 1 and "The best of 2 trials" in text
    rates = {trial.params["training.learning_rate"] for trial in (again, *others)}
    assert len(rates) == 2, "no trial is repeated after a restart"
    assert not [step for step in last_run(root).steps if step.id == "Trainer"], "no run has a Trainer"

    best = load(str(folder / "best.toml"))
    for key, value in study.best_params.items():
        assert value_of(best, key) == value
    assert (best.training.epochs, best.training.batch_size) == (20, 200) and best.data.path == str(data)
    assert "hook5ecret" not in (folder / "best.toml").read_text()
    assert not list(folder.glob("trials/*/backup")), "what a trial would continue from is gone"
    page = (folder / "report.html").read_text()
    assert f"{study.best_value:.4f}" in page and page.count("<svg") == 4 and "<script" not in page
    # The same command has nothing to do.
    assert main(options) == 0 and len(the_study(root).trials) == 3


@pytest.mark.slow
def test_a_trial_is_cut_where_its_time_is_over_and_judged_as_it_stands(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    last = last_run(prepared(tmp_path_factory.getbasetemp()).root)
    config = load("default", ["model.cell=simple_rnn", "model.units=8", "training.epochs=100000"])
    transform, examples = last.output("Transform", "transform_graph"), last.output("ExampleGen", "examples")
    assert transform and examples
    ranges = (parse_range("training.learning_rate=1e-3..3e-2"),)
    search = Search(tmp_path, "default", config, ranges, "val_loss", 1, transform.uri, examples.uri, budget=1)
    work(search)
    study = search.open_study()
    (trial,) = study.trials
    assert trial.state.name == "COMPLETE" and trial.value and 1 < trial.user_attrs[SPENT] < 60
    write_report(search, study)
    assert re.search(r"cut in epoch \d+ of 100000", capsys.readouterr().out)
    best = (tmp_path / "best.toml").read_text()
    assert re.search(r"# It trained \d+ s, cut in epoch \d+ of 100000. With this profile it trains to the end.", best)


@pytest.mark.parametrize("text", ["75", "0s", "1.5m", "1d", "soon"])
def test_a_wrong_budget_is_a_sentence(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--set-range", RANGES[0], "--budget", text])
    assert f"{text} must be a time such as 75s, 20m or 1h" in capsys.readouterr().err


def test_a_full_disk_is_a_sentence(small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(bytes(4 * 2**20 - 2**16))
    search = f'Search(Path("{small_disk}/study"), "default", load("default"), (), "val_loss", 1, "", "")'
    script = f"""
import sys
from pathlib import Path
from pipeline.config import load
from pipeline.tune.__main__ import go_on
from pipeline.tune.study import SPENT, Search
sys.exit(go_on({search}, jobs=1))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == FAILED and "Traceback" not in done.stderr
    assert re.match(r"tune: The search .* cannot be written: no space is left on the device", done.stderr)


def a_search(folder: Path) -> Search:
    ranges = (parse_range("training.learning_rate=1e-3..3e-2"),)
    return Search(folder, "default", load("default"), ranges, "val_loss", 2, str(folder / "none"), str(folder / "none"))


def test_a_running_trial_is_tried_again_when_its_process_ended(tmp_path: Path) -> None:
    search = a_search(tmp_path)
    study = search.open_study()
    script = f"""
from pathlib import Path
from pipeline.config import load
from pipeline.tune.ranges import Range
from pipeline.tune.study import SPENT, Search
search = Search(Path("{tmp_path}"), "default", load("default"), {search.ranges!r}, "val_loss", 2, "", "")
with search.own(0):
    search.settings(search.open_study().ask())
    print("has it", flush=True)
    input()
"""
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdin=pipe, stdout=pipe, text=True)
    try:
        assert process.stdout and process.stdout.readline() == "has it\n"
        suspend(process)
        search.retry_lost(study)  # a suspended process keeps its trial
        assert [trial.state.name for trial in study.trials] == ["RUNNING"]
    finally:
        process.kill()
        process.wait()
    search.retry_lost(study)
    first, again = study.trials
    assert (first.state.name, again.state.name) == ("FAIL", "WAITING")
    assert again.system_attrs["fixed_params"] == first.params == {"training.learning_rate": 1e-2}
    assert search.trial_folder(again) == search.trial_folder(first)


def test_two_processes_do_not_make_more_trials_than_there_are(tmp_path: Path) -> None:
    search = a_search(tmp_path)
    study = search.open_study()
    owned = [next_trial(search, study) for _ in range(3)]
    assert [found is not None for found in owned] == [True, True, False], "there are two"
    trial, lock = owned[0] or pytest.fail()
    lock.close()  # what the end of its process does
    again, _ = next_trial(search, study) or pytest.fail()
    assert study.trials[trial.number].state.name == "FAIL"
    assert search.trial_folder(study.trials[again.number]) == search.trial_folder(study.trials[trial.number])


def test_a_trial_that_fails_is_tried_again_with_the_same_values(tmp_path: Path) -> None:
    search = a_search(tmp_path)
    with pytest.raises(UserError, match="holds no examples"):  # what ExampleGen wrote was removed
        work(search)
    first, again = search.open_study().trials
    assert (first.state.name, again.state.name) == ("FAIL", "WAITING")
    assert again.system_attrs["fixed_params"] == first.params


def test_the_importance_names_the_setting_that_decides() -> None:
    study, random = optuna.create_study(), np.random.default_rng(0)
    spaces = {name: optuna.distributions.FloatDistribution(0, 1) for name in ("none", "much")}
    for number in range(20):
        assert importances(study) == {} or number >= 10, "too few trials to say"
        values = {name: random.random() for name in spaces}
        study.add_trial(optuna.trial.create_trial(params=values, distributions=spaces, value=values["much"] ** 2))
    assert next(iter(importances(study))) == "much" and sum(importances(study).values()) == pytest.approx(1)


def test_trials_that_are_all_alike_have_no_important_setting() -> None:
    study, space = optuna.create_study(), {"x": optuna.distributions.FloatDistribution(0, 1)}
    for _ in range(10):
        study.add_trial(optuna.trial.create_trial(params={"x": 0.5}, distributions=space, value=1.0))
    assert set(importances(study)) <= {"x"}


def test_a_trial_that_is_worse_than_the_others_is_pruned() -> None:
    from pipeline.tune.trial import Pruning

    study = optuna.create_study(pruner=optuna.pruners.MedianPruner(n_warmup_steps=3))
    for number in range(6):
        trial = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
        good = Pruning(trial, "val_loss")
        good.set_params({"epochs": 10})
        for epoch in range(5):
            good.on_epoch_end(epoch, {"val_loss": 0.1 - 0.001 * number, "val_accuracy": 0.9})
        study.tell(trial, 0.1 - 0.001 * number)
    bad = Pruning(study.ask({"x": optuna.distributions.FloatDistribution(0, 1)}), "val_loss")
    bad.set_params({"epochs": 20})  # half of them are compared with half of the others'
    bad.on_epoch_end(0, {"val_loss": float("nan")})
    bad.on_epoch_end(1, {"val_loss": 3.0})
    with pytest.raises(optuna.TrialPruned, match="in epoch 8"):
        bad.on_epoch_end(7, {"val_loss": 3.0})
