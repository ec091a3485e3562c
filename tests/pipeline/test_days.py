"""Days that arrive: a run takes the newest, follows the pushed model, and does nothing when nothing is new."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from components.version_folder import read_provenance, version_folders
from data.splits import SPLITS
from pipeline.exit_codes import DATA_REFUSED, FAILED, MODEL_REFUSED, PUSHED
from pipeline.history.__main__ import main as history
from tests.benchmarks.month import mean, month
from tests.conftest import MNIST, Images, Outcome, last_run, read_images, run_pipeline, states, versions, write_folder

pytestmark = pytest.mark.slow

COUNTS = {"train": 300, "eval": 60, "test": 100}
SETTINGS = ("training.epochs=2", "training.warm_start=true", "model.units=16", "gates.accuracy=0", "gates.max_drop=1")
SETTINGS += ("gates.class_accuracy=0", "validation.min_class_examples=0", "data.window=3")


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


def run(root: Path, days: Path, *overrides: str, to: str = "") -> Outcome:
    options = ("--to", to) if to else ()
    return run_pipeline(root, days / "{YYYY}-{MM}-{DD}", *SETTINGS, *overrides, options=options)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[Outcome]]:
    """Two days, and a run; nothing new, and a run; one more day and a golden set, and a run."""
    folder = tmp_path_factory.mktemp("story")
    root, days = folder / "root", folder / "days"
    add(days, 0)
    add(days, 1)
    outcomes = [run(root, days), run(root, days)]
    add(days, 2)
    write_folder(days / "golden", {"test": digits_of(9)["test"]})
    outcomes.append(run(root, days, f"data.golden={days}/golden"))
    return root, days, outcomes


def test_a_run_follows_the_pushed_model_and_without_a_new_day_nothing_runs(
    story: tuple[Path, Path, list[Outcome]], capsys: pytest.CaptureFixture[str]
) -> None:
    root, _, (first, second, third) = story
    assert [outcome.code for outcome in story[2]] == [PUSHED] * 3
    assert "Takes 2 days: 2026-11-20..2026-11-21." in first.text
    assert "Trains from scratch: no model of other days was pushed to" in first.text
    assert "No day is new since 2026-11-20..2026-11-21: every step came from the cache." in second.text
    old, new = versions(root)
    assert f"Starts from version {old}, which has learned 2026-11-20..2026-11-21. New: 2026-11-22." in third.text
    assert "Trains on 300 new examples, and on 300 older ones again." in third.text
    about = read_provenance(str(root / "serving_models" / "mnist" / new))["warm_start"]
    assert [base["version"] for base in about["bases"]] == [old] and about["new_days"] == ["2026-11-22"]
    assert last_run(root).days == "2026-11-20..2026-11-22"
    assert history(["--run-root", str(root), "lineage", new]) == 0
    assert f"version {old}, 2026-11-20..2026-11-21" in capsys.readouterr().out
    assert history(["--run-root", str(root), "gc", "--keep", "1", "--keep-versions", "1"]) == 0
    assert versions(root) == [old, new]  # a training of the same days would look at it


def test_the_gates_hold_on_the_golden_set_too(story: tuple[Path, Path, list[Outcome]]) -> None:
    root, days, (_, _, third) = story
    run_of_third = last_run(root)
    evaluation = run_of_third.evaluation()
    assert evaluation and (evaluation.examples, evaluation.golden_examples) == (300, 100)
    assert "of 300 examples" in third.text and "Golden accuracy" in third.text and "of 100 examples" in third.text
    compared = [gate.name for gate in evaluation.gates if "baseline" in gate.name]
    assert compared == ["accuracy against the baseline on the golden set"]
    assert run_of_third.figures["golden_accuracy"] == pytest.approx(evaluation.golden_accuracy, abs=1e-6)
    page = Path(third.text.rpartition("Report             ")[2].split("\n")[0]).read_text()
    assert "Golden accuracy" in page and "Days: 2026-11-20..2026-11-22." in page and "Starts from version" in page
    # A model that reads the days and not the golden set is refused: there each digit is called otherwise.
    golden = digits_of(9)["test"]
    shutil.rmtree(days / "golden")
    write_folder(days / "golden", {"test": Images(golden.pixels, (golden.labels + 1) % 10)})
    outcome = run(root, days, f"data.golden={days}/golden", "gates.accuracy=0.2")
    assert outcome.code == MODEL_REFUSED and "✓ accuracy: 0." in outcome.text
    assert "✗ accuracy on the golden set: 0." in outcome.text
    assert states(root)["Trainer"] == "COMPLETE"  # the golden set is a part of the data


def test_a_corrected_day_starts_from_scratch_and_a_window_forgets_the_oldest(
    story: tuple[Path, Path, list[Outcome]], tmp_path: Path
) -> None:
    root, days = (shutil.copytree(path, tmp_path / path.name) for path in story[:2])
    add(days / "2026-11-21", 5, name="1")
    outcome = run(root, days, to="Trainer")
    assert "Takes 3 days: 2026-11-20, 2026-11-21/1, 2026-11-22." in outcome.text
    assert "has learned the day 2026-11-21, which is gone or has a new version" in outcome.text
    add(days, 3)
    add(days, 4)
    assert run(root, days, to="ExampleGen").code == PUSHED
    assert last_run(root).days == "2026-11-22..2026-11-24"


def test_a_resumed_run_keeps_its_days_though_more_have_come(tmp_path: Path) -> None:
    root, days = tmp_path / "root", tmp_path / "days"
    day = add(days, 0)
    broken = day / "test-00000-of-00001.tfrecord.gz"
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    outcome = run(root, days, to="DataGate")
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
    outcome = run(root, days, to="DataGate")
    assert outcome.code == DATA_REFUSED
    assert "2026-11-22/train: expected a mean value as in train of the days before" in outcome.text
    assert "2026-11-21" not in outcome.text.partition("nothing was trained")[2]
    shutil.rmtree(days / "2026-11-22")
    day = add(days, 3)
    images = digits_of(3)
    shutil.rmtree(day)
    labels = np.where(np.arange(COUNTS["train"]) == 7, 10, images["train"].labels)
    write_folder(day, {**images, "train": Images(images["train"].pixels, labels)})
    outcome = run(root, days, to="DataGate")
    assert outcome.code == DATA_REFUSED and "2026-11-23/train-00000-of-00002.tfrecord.gz, record 7" in outcome.text


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


def test_a_small_month_of_drift(tmp_path: Path) -> None:
    def pipeline(root: Path, settings: Sequence[str]) -> None:
        outcome = run_pipeline(root, tmp_path, *settings)
        assert outcome.code == PUSHED, outcome.text

    settings = ("gates.max_drop=1", "training.warm_rate=0.5", "infra.max_latency_ratio=1000")
    nights = month(tmp_path / "month", 6, 2, 600, ("warm", "never"), settings, pipeline)
    assert [night.day for night in nights if night.way == "warm"] == [2, 3, 4, 5]
    assert mean(nights, "warm", "golden") > mean(nights, "never", "golden") + 0.01
    assert mean(nights, "warm", "accuracy") > mean(nights, "never", "accuracy")
    lineage = read_provenance(version_folders(str(tmp_path / "month" / "warm" / "serving_models" / "mnist"))[0])
    assert len(lineage["warm_start"]["bases"]) == 4
