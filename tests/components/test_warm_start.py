"""Which pushed model a training starts from, and when it starts from scratch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft

from components.trainer.input import read_splits
from components.trainer.settings import Model, TrainerSettings, Training
from components.trainer.warm_start import Start, find_start, read_weights
from components.version_folder import write_provenance
from data.errors import UserError
from data.example import ExampleSpec
from data.records import write_split
from tests.conftest import read_images

DAYS = {f"2026-11-{day}": f"digest of {day}" for day in (25, 26, 27)}


def files(days: Mapping[str, str]) -> dict[str, str]:
    return {f"{day}/train-00000-of-00001.tfrecord.gz": digest for day, digest in days.items()}


def imported(folder: Path, days: Mapping[str, str]) -> str:
    folder.mkdir(exist_ok=True)
    lines = (f"{digest}  {name}\n" for name, digest in files(days).items())
    (folder / "SHA256SUMS").write_text("".join(lines))
    return str(folder)


def settings(base: Path, **training: Any) -> TrainerSettings:
    return TrainerSettings(
        example=ExampleSpec(),
        model=Model(units=4),
        training=Training(warm_start=True, **training),
        backup_dir="",
        serving_dir=str(base),
        preprocessing="code",
    )


def push(base: Path, version: int, days: Mapping[str, str], **changes: Any) -> Path:
    """A version that has learned `days`; `changes` are of its provenance."""
    folder = base / str(version)
    (folder / "assets.extra").mkdir(parents=True)
    (folder / "saved_model.pb").touch()
    (folder / "assets.extra" / "model_id.txt").write_text(f"id of {version}\n")
    tf.train.Checkpoint(model_variables=[tf.Variable([float(version)])]).write(str(folder / "variables" / "variables"))
    known = settings(base)
    provenance = {
        "data": {"files": files(days)},
        "settings": {"model": known.model.model_dump(mode="json")},
        "example": known.example.model_dump(mode="json"),
        "fingerprints": {"Transform": "code"},
    }
    write_provenance(str(folder), provenance | changes)
    return folder


@pytest.mark.parametrize(("epochs", "warmup"), [(1, 0.5), (3, 1.0)])
def test_a_warm_start_has_a_schedule_of_its_own(epochs: int, warmup: float) -> None:
    found = Training(epochs=9, learning_rate=1e-2, warm_rate=0.25, warm_epochs=epochs).for_warm_start()
    assert (found.epochs, found.learning_rate, found.warmup_epochs) == (epochs, 2.5e-3, warmup)


def test_the_newest_model_of_other_days_is_the_base(tmp_path: Path) -> None:
    examples = imported(tmp_path / "examples", {**DAYS, "2026-11-28": "new", "2026-11-29/2": "new, too"})
    assert "no model of other days was pushed to" in find_start(settings(tmp_path), examples).reason
    first = push(tmp_path, 1, {"2026-11-24": "digest of 24", **DAYS})
    start = find_start(settings(tmp_path), examples)
    assert start.folder == str(first) and start.new_days == ["2026-11-28", "2026-11-29/2"]
    assert start.bases == [{"version": "1", "model_id": "id of 1", "days": "2026-11-24..2026-11-27"}]
    # The model that was trained on the same days is none: the same command must find the same base.
    push(tmp_path, 2, {**DAYS, "2026-11-28": "new", "2026-11-29/2": "new, too"})
    assert find_start(settings(tmp_path), examples) == start
    assert start.identity == "id of 1, new: 2026-11-28, 2026-11-29/2"
    assert str(start) == (
        "Starts from version 1, which has learned 2026-11-24..2026-11-27. New: 2026-11-28, 2026-11-29/2."
    )


def test_a_late_day_is_new_and_a_backfilled_one_starts_from_scratch(tmp_path: Path) -> None:
    push(tmp_path, 1, {day: DAYS[day] for day in ("2026-11-25", "2026-11-27")})

    def start(days: Mapping[str, str]) -> Start:
        return find_start(settings(tmp_path), imported(tmp_path / "examples", days))

    assert start(DAYS).new_days == ["2026-11-26"]
    corrected = {**DAYS, "2026-11-27": "other labels"}
    assert start(corrected).reason == "the day 2026-11-27 has changed since version 1 has learned it"
    replaced = {**{day: DAYS[day] for day in list(DAYS)[:2]}, "2026-11-27/1": "new"}
    assert "has learned the day 2026-11-27, which is gone or has a new version" in start(replaced).reason
    assert start({"2026-11-27": DAYS["2026-11-27"]}).reason == "no day is new to version 1"  # a smaller window
    assert start(corrected).identity == "from scratch"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": None}, "it has no provenance"),
        ({"settings": {"model": Model(units=5).model_dump(mode="json")}}, "its network is another one"),
        ({"example": ExampleSpec(classes=9).model_dump(mode="json")}, "it reads other examples"),
        ({"fingerprints": {"Transform": "older code"}}, "its sequences are made by other code"),
    ],
)
def test_a_model_that_does_not_fit_is_no_base(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    examples = imported(tmp_path / "examples", DAYS)
    push(tmp_path, 1, {"2026-11-24": "digest of 24"})
    push(tmp_path, 2, {"2026-11-24": "digest of 24"}, **changes)
    start = find_start(settings(tmp_path), examples)
    assert not start.folder and start.reason.startswith("version 2 does not fit") and words in start.reason


def test_damaged_variables_and_a_damaged_provenance_are_said(tmp_path: Path) -> None:
    examples = imported(tmp_path / "examples", DAYS)
    folder = push(tmp_path, 1, {"2026-11-24": "digest of 24"})
    (data,) = (folder / "variables").glob("variables.data*")
    data.write_bytes(data.read_bytes()[:2])
    assert find_start(settings(tmp_path), examples).reason == "version 1 does not fit, its variables are damaged"
    (folder / "assets.extra" / "provenance.json").write_text("{")
    assert find_start(settings(tmp_path), examples).reason == "the provenance of version 1 is damaged"


def test_after_so_many_models_one_is_trained_from_scratch(tmp_path: Path) -> None:
    examples = imported(tmp_path / "examples", DAYS)
    bases = [{"version": str(version), "model_id": "", "days": ""} for version in range(2)]
    push(tmp_path, 2, {"2026-11-24": "digest of 24"}, warm_start={"bases": bases})
    for every, warm in ((0, True), (4, True), (3, False), (1, False)):
        start = find_start(settings(tmp_path, from_scratch_every=every), examples)
        assert bool(start.folder) == warm
        assert warm or start.reason == "3 models have one start, as training.from_scratch_every says"


def test_the_weights_are_those_of_the_version(tmp_path: Path) -> None:
    folder = str(push(tmp_path, 5, DAYS))
    assert [array.tolist() for array in read_weights(folder, [(1,)])] == [[5.0]]
    with pytest.raises(UserError, match="is not that of this code"):
        read_weights(folder, [(1,), (2,)])


def test_as_many_old_examples_are_drawn_as_replay_says(tmp_path: Path, transform: tft.TFTransformOutput) -> None:
    images = read_images(Path("data/mnist"), "test", count=100)
    for day, part in (("new", slice(0, 20)), ("old", slice(20, 100))):
        (tmp_path / day).mkdir()
        write_split(tmp_path / day, "train", images.pixels[part], images.labels[part], 1)

    def drawn(replay: float, seed: int = 1) -> list[bytes]:
        training = Training(replay=replay, seed=seed, batch_size=7)
        new, old = ([f"{tmp_path}/{day}/*"] for day in ("new", "old"))
        data, _ = read_splits(new, new, transform, training, 7, None, old)
        found = [np.rint(255 * row).astype(np.uint8).tobytes() for rows, _ in data.dataset for row in rows.numpy()]
        assert len(found) == data.examples == len(set(found))
        return sorted(found)

    assert [len(drawn(replay)) for replay in (0, 0.5, 1, 10)] == [20, 30, 40, 100]
    assert drawn(0) == sorted(image.tobytes() for image in images.pixels[:20])
    assert drawn(1) == drawn(1) != drawn(1, seed=2) and set(drawn(0)) < set(drawn(1))
