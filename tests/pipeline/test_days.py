"""Days that arrive: a run takes the newest, follows the pushed model, and does nothing when nothing is new."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from components.version_folder import read_provenance
from data.splits import SPLITS
from pipeline.exit_codes import DATA_REFUSED, FAILED, PUSHED
from pipeline.history.__main__ import main as history
from tests.benchmarks.month import Night, mean, month
from tests.conftest import MNIST, Images, Outcome, last_run, read_images, run_pipeline, versions, write_folder
from tests.pipeline.few_digits import SMALL

pytestmark = pytest.mark.slow

COUNTS = {"train": 300, "eval": 60, "test": 100}
SETTINGS = ("training.epochs=2", "training.warm_start=true", "model.units=16", "gates.accuracy=0", "gates.max_drop=1")
SETTINGS += ("gates.class_accuracy=0", "validation.min_class_examples=0", SMALL)


def digits_of(day: int) -> dict[str, Images]:
    """The digits of a day, which no other day has."""
    found = {}
    for split, count in COUNTS.items():
        images = read_images(MNIST, split, count=(day + 1) * count)
        found[split] = Images(images.pixels[day * count :], images.labels[day * count :])
    return found


def add(folder: Path, day: int, change: Callable[[Images], Images] = lambda images: images, name: str = "") -> Path:
    """Adds a day by one rename."""
    folder.mkdir(exist_ok=True)
    whole = write_folder(folder / ".copied", {split: change(images) for split, images in digits_of(day).items()})
    return whole.rename(folder / (name or f"2026-11-{day + 20}"))


def run(root: Path, days: Path, *overrides: str, to: str = "", window: int = 3) -> Outcome:
    options = ("--to", to) if to else ()
    path = days / "{YYYY}-{MM}-{DD}"
    return run_pipeline(root, path, *SETTINGS, f"data.window={window}", *overrides, options=options)


@pytest.fixture(scope="module")
def small_month(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[Night], list[Outcome]]:
    """The run root, the days, the nights and the runs of a month of six days, with a golden set."""
    folder = tmp_path_factory.mktemp("month")
    outcomes = []

    def pipeline(root: Path, settings: Sequence[str]) -> None:
        # Of the three nights, the report of the last is read.
        outcomes.append(run_pipeline(root, folder, *settings, report=len(outcomes) == 2))

    settings = (*SETTINGS, "training.epochs=3", "model.units=32")
    nights = list(month(folder / "month", 6, 4, 450, 200, ("warm", "never"), settings, pipeline))
    return folder / "month" / "warm", folder / "month" / "days", nights, outcomes


def test_each_night_follows_the_pushed_model(
    small_month: tuple[Path, Path, list[Night], list[Outcome]], capsys: pytest.CaptureFixture[str]
) -> None:
    root, days, nights, outcomes = small_month
    assert [outcome.code for outcome in outcomes] == [PUSHED] * 3
    assert "Trains from scratch: no model of other days was pushed to" in outcomes[0].text
    pushed = versions(root)
    for number, (outcome, base) in enumerate(zip(outcomes[1:], pushed, strict=False), start=5):
        assert f"Takes {number} days: 2026-11-01..2026-11-0{number}." in outcome.text
        learned = f"2026-11-01..2026-11-0{number - 1}"
        assert f"Starts from version {base}, which has learned {learned}. New: 2026-11-0{number}." in outcome.text
        assert "Trains on 360 new examples, and on 360 older ones again." in outcome.text
    assert [night.day for night in nights if night.way == "warm"] == [4, 5]
    assert mean(nights, "warm", "golden") > mean(nights, "never", "golden") + 0.01
    assert mean(nights, "warm", "accuracy") > mean(nights, "never", "accuracy")
    # Nothing new, nothing done.
    settings = (*SETTINGS, "training.epochs=3", "model.units=32")
    again = run(root, days, *settings, f"data.golden={days}/golden", window=6)
    assert again.code == PUSHED
    assert "No day is new since 2026-11-01..2026-11-06: every step came from the cache." in again.text
    # What a version carries, and gc keeps.
    about = read_provenance(str(root / "serving_models" / "mnist" / pushed[-1]))["warm_start"]
    assert [base["version"] for base in about["bases"]] == pushed[:-1] and about["new_days"] == ["2026-11-06"]
    assert history(["lineage", pushed[-1], "--run-root", str(root)]) == 0
    assert re.search(rf"Started from +version {pushed[-2]}, 2026-11-01..2026-11-05", capsys.readouterr().out)
    assert history(["gc", "--run-root", str(root), "--keep", "1", "--keep-versions", "1"]) == 0
    assert versions(root) == pushed[-2:]  # a training of the same days would look at the older one


def test_the_gates_hold_on_the_golden_set_too(
    small_month: tuple[Path, Path, list[Night], list[Outcome]],
) -> None:
    text = small_month[3][-1].text
    evaluation = last_run(small_month[0]).evaluation()
    assert evaluation and (evaluation.examples, evaluation.golden_examples) == (6 * 60, 200)
    assert "of 360 examples" in text and "Golden accuracy" in text and "of 200 examples" in text
    compared = [gate.name for gate in evaluation.gates if "baseline" in gate.name]
    assert compared == ["accuracy against the baseline on the golden set"]
    assert last_run(small_month[0]).figures["golden_accuracy"] == pytest.approx(evaluation.golden_accuracy, abs=1e-6)
    page = Path(text.rpartition("Report             ")[2].split("\n")[0]).read_text()
    assert "Golden accuracy" in page and "Days: 2026-11-01..2026-11-06." in page and "Starts from version" in page


def test_a_window_forgets_the_oldest_day_and_takes_the_newest_version(tmp_path: Path) -> None:
    root, days = tmp_path / "root", tmp_path / "days"
    for day in range(4):
        add(days, day)
    add(days / "2026-11-21", 5, name="1")
    assert run(root, days, to="ExampleGen").code == PUSHED
    assert last_run(root).days == "2026-11-21/1, 2026-11-22..2026-11-23"
    add(days, 3, name="2026-11-24")
    outcome = run(root, days, to="ExampleGen")
    assert outcome.code == FAILED and "The days 2026-11-23 and 2026-11-24 have the same shards" in outcome.text


def test_a_resumed_run_keeps_its_days_though_more_have_come(tmp_path: Path) -> None:
    root, days = tmp_path / "root", tmp_path / "days"
    day = add(days, 0)
    broken = day / "test-00000-of-00001.tfrecord.gz"
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    outcome = run(root, days, to="ExampleGen")
    assert outcome.code == FAILED and "damaged or cut-off TFRecord: 1 in split test" in outcome.text
    assert "2026-11-20/test-00000-of-00001.tfrecord.gz, record" in outcome.text
    broken.write_bytes(whole)
    add(days, 1)
    from pipeline.local.cli import main

    assert main(["--run-root", str(root), "--resume"]) == PUSHED
    assert last_run(root).days == "2026-11-20"
    assert run(root, days, to="ExampleGen").code == PUSHED
    assert last_run(root).days == "2026-11-20..2026-11-21"


def test_the_data_gate_names_the_day(tmp_path: Path) -> None:
    root, days = tmp_path / "root", tmp_path / "days"
    add(days, 0)
    add(days, 1)
    add(days, 2, lambda images: Images(255 - images.pixels, images.labels))
    images = digits_of(3)
    labels = np.where(np.arange(COUNTS["train"]) == 7, 10, images["train"].labels)
    write_folder(days / "2026-11-23", {**images, "train": Images(images["train"].pixels, labels)})
    outcome = run(root, days, to="DataGate", window=4)
    assert outcome.code == DATA_REFUSED
    assert "2026-11-22/train: expected a mean value as in train of the days before" in outcome.text
    assert "2026-11-23/train-00000-of-00002.tfrecord.gz, record 7" in outcome.text
    assert "2026-11-21" not in outcome.text.partition("nothing was trained")[2]


def test_days_have_numbers_too_and_the_artifact_has_the_span(tmp_path: Path) -> None:
    for number in (7, 8, 12):
        add(tmp_path / "days", number - 7, name=f"{number:04}")
    outcome = run_pipeline(
        tmp_path / "root", tmp_path / "days" / "{SPAN:4}", *SETTINGS, "data.window=2", options=("--to", "ExampleGen")
    )
    assert outcome.code == PUSHED and "Takes 2 days: 8, 12." in outcome.text
    examples = last_run(tmp_path / "root").output("ExampleGen", "examples")
    assert examples and examples.properties["span"] == 12 and examples.properties["days"] == "8, 12"
    names = {path.name.split(".")[0] for path in Path(examples.uri).glob("Split-*/*")}
    assert names == {"8", "12"} and len(SPLITS) == len(list(Path(examples.uri).glob("Split-*")))
    record = json.loads(next((tmp_path / "root" / "logs").glob("*/run.json")).read_text())
    assert record["days"] == "8, 12"
