"""What the data gate knows of the splits: ranges, means, blank examples, and test examples that were trained on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from components.data_validation.contents import Contents, content_anomalies, from_json, measure, merge, to_json
from components.data_validation.places import places
from components.data_validation.settings import Validation
from components.data_validation.statistics import write_contents
from data.example import ExampleSpec, serialize
from data.shards import day_of, find_source
from pipeline.engines.settings import IN_MEMORY
from pipeline.exit_codes import DATA_REFUSED
from tests.conftest import Images, Outcome, write_folder

Splits = dict[str, Images]


def contents(tmp_path: Path, splits: Splits, runner: str = IN_MEMORY) -> dict[str, Contents]:
    """What the Beam pipeline finds in the splits."""
    folder = write_folder(tmp_path / "data", splits)
    with beam.Pipeline(options=PipelineOptions([f"--runner={runner}"])) as pipeline:
        files = [(shard.split, day_of(shard.name), shard.path) for shard in find_source(str(folder), 1).shards]
        write_contents(pipeline, files, ExampleSpec(), str(tmp_path / "contents.json"))
    return from_json((tmp_path / "contents.json").read_text())


def lines(splits: dict[str, Contents], **limits: float) -> list[str]:
    return [f"{split}: {line}" for split, line, _ in content_anomalies(splits, Validation(**limits))]


def few(digits: Splits, count: int, offset: int = 0) -> Splits:
    part = slice(offset, offset + count)
    return {split: Images(images.pixels[part].copy(), images.labels[part]) for split, images in digits.items()}


def test_digits_pass_also_in_small_splits(digits: Splits, tmp_path: Path) -> None:
    found = contents(tmp_path, digits)
    assert found["train"].examples == 3000 and (found["train"].low, found["train"].high) == (0, 255)
    assert found["test"].mean == pytest.approx(digits["test"].pixels.mean())
    assert lines(found) == []
    for offset in range(0, 300, 30):
        small = {split: measured(images) for split, images in few(digits, 30, offset).items()}
        assert lines(small) == []


def measured(images: Images) -> Contents:
    records = [serialize(pixels, label) for pixels, label in zip(images.pixels, images.labels, strict=True)]
    return measure(records, ExampleSpec())[0]


@pytest.mark.parametrize("split", ["eval", "test", "train"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            np.zeros_like,
            "expected at most 0.01 of the examples blank, with the same value everywhere; seen: 100 of 100",
        ),
        (lambda pixels: np.full_like(pixels, 255), "with the same value everywhere; seen: 100 of 100"),
        (lambda pixels: 255 - pixels, "as if black and white were exchanged"),
        (lambda pixels: pixels // 16, "expected values on the scale of train, 0 to 255"),
        (lambda pixels: (pixels > 127).astype(np.uint8), "seen: 0 to 1, 1 apart in an example"),
        (
            lambda pixels: np.repeat(pixels[:1], len(pixels), 0),
            "expected different examples; seen: all 100 are the same",
        ),
    ],
)
def test_a_split_unlike_the_others_is_named(
    digits: Splits, split: str, change: Callable[[np.ndarray], np.ndarray], words: str
) -> None:
    splits = few(digits, 100)
    splits[split] = Images(change(splits[split].pixels), splits[split].labels)
    found = lines({name: measured(images) for name, images in splits.items()})
    if split == "train" and "scale" in words:
        words = "expected values on the scale of train, 0 to 15"
    if split == "train" and words.startswith("seen"):
        words = "expected values on the scale of train, 0 to 1, 1 apart"
    assert found and all(words in line for line in found)
    unlike = (
        {"eval", "test"}
        if split == "train" and not words.startswith(("expected at", "with", "expected d"))
        else {split}
    )
    assert {line.partition(":")[0] for line in found} == unlike


def test_test_examples_that_are_trained_on_are_counted(digits: Splits, tmp_path: Path) -> None:
    train = digits["train"]
    leaked = few(digits, 200)["train"]
    found = contents(tmp_path, {**digits, "test": leaked})
    assert lines(found) == [
        "test: expected examples that are in no other split; seen: 200 of 200 are also in train or eval"
    ]
    assert lines(found, max_test_in_train=1.0) == []
    # One of 1,000 is allowed, and it counts as often as it is there.
    pixels = digits["test"].pixels.copy()
    pixels[7] = train.pixels[2999]
    (tmp_path / "one").mkdir()
    found = contents(tmp_path / "one", {**digits, "test": Images(pixels, digits["test"].labels)})
    assert found["test"].trained == 1 and lines(found) == []
    pixels[8] = digits["eval"].pixels[0]
    pixels[9] = train.pixels[2999]
    (tmp_path / "three").mkdir()
    found = contents(tmp_path / "three", {**digits, "test": Images(pixels, digits["test"].labels)})
    assert found["test"].trained == 3 and "seen: 3 of 1,000 are also in train" in lines(found)[0]


def test_blank_examples_that_are_allowed_are_no_copies(digits: Splits, tmp_path: Path) -> None:
    splits = few(digits, 50)
    for images in splits.values():
        images.pixels[:10] = 0
    found = contents(tmp_path, splits)
    assert found["test"].trained == 0 and lines(found, max_blank=0.2) == [] and len(lines(found)) == 3
    assert list(places(find_source(str(tmp_path / "data"), 1).shards, ExampleSpec(), [], ["test"])) == []


def test_a_few_blank_examples_are_allowed_and_more_if_told(digits: Splits) -> None:
    splits = few(digits, 100)
    for count, refused in ((1, False), (2, True)):
        splits["train"].pixels[:count] = 0
        found = {split: measured(images) for split, images in splits.items()}
        assert bool(lines(found)) == refused
    assert lines(found, max_blank=0.02) == []


def test_the_places_of_what_is_refused_are_found(digits: Splits, tmp_path: Path) -> None:
    splits = few(digits, 50)
    for index in (2, 4, 30, 40):
        splits["train"].pixels[index] = 255
    splits["test"].pixels[7] = splits["train"].pixels[26]
    splits["test"].pixels[9] = splits["eval"].pixels[1]
    folder = write_folder(tmp_path / "data", splits)
    shards = find_source(str(folder), 1).shards
    assert list(places(shards, ExampleSpec(), ["train"], ["test"])) == [
        "train-00000-of-00002.tfrecord.gz, record 2 is blank",
        "train-00000-of-00002.tfrecord.gz, record 4 is blank",
        "train-00001-of-00002.tfrecord.gz, record 5 is blank",
        "test-00000-of-00001.tfrecord.gz, record 7 is also train-00001-of-00002.tfrecord.gz, record 1",
        "test-00000-of-00001.tfrecord.gz, record 9 is also eval-00000-of-00001.tfrecord.gz, record 1",
    ]
    assert list(places(shards, ExampleSpec(), [], [])) == []


def test_contents_add_up_in_any_order_and_survive_their_file(digits: Splits) -> None:
    images = few(digits, 100)["train"]
    halves = [measured(Images(images.pixels[part], images.labels[part])) for part in (slice(0, 37), slice(37, 100))]
    whole = measured(images)
    for parts in (halves, halves[::-1]):
        merged = merge({"train": part} for part in parts)["train"]
        assert merged._replace(level=0, level_squares=0) == whole._replace(level=0, level_squares=0)
        assert (merged.level, merged.level_squares) == pytest.approx((whole.level, whole.level_squares))
    assert from_json(to_json({"train": whole, "test": Contents()})) == {"train": whole, "test": Contents()}


def test_records_that_are_no_examples_do_not_stop_the_count() -> None:
    records = [b"\xff\xff", serialize(np.zeros(783, np.uint8), 1), serialize(np.arange(784).astype(np.uint8), 1)]
    found, digests = measure(records, ExampleSpec())
    assert found.examples == len(digests) == 1
    assert measure(records[:1], ExampleSpec())[0] == Contents()


def test_the_gate_says_all_kinds_and_not_every_line(
    run: Callable[..., Outcome], digits: Splits, tmp_path: Path
) -> None:
    test = digits["test"]
    pixels = 255 - test.pixels
    pixels[:2] = digits["train"].pixels[5]
    folder = write_folder(tmp_path / "data", {**digits, "test": Images(pixels, test.labels)})
    names = ",".join(f'"class number {label}"' for label in range(130))
    outcome = run(
        tmp_path / "root", folder, "data.classes=130", f"data.class_names=[{names}]", options=("--to", "DataGate")
    )
    assert outcome.code == DATA_REFUSED
    lines = outcome.text.partition("nothing was trained:\n")[2].splitlines()
    assert "as if black and white were exchanged" in lines[0]
    assert lines[1].endswith("expected examples that are in no other split; seen: 2 of 1,000 are also in train or eval")
    assert lines[2].endswith("label: expected at least 1 examples of class class number 10; seen: 0")
    assert lines[20] == "  … and 342 more"
    place = "test-00000-of-00001.tfrecord.gz, record 1 is also train-00000-of-00002.tfrecord.gz, record 5"
    assert lines[21] == f"  in {folder}: {place}"
    assert lines[22] == (
        "Correct the data, or validation.max_mean_difference, or validation.max_test_in_train,"
        " or validation.min_class_examples, and run again."
    )
