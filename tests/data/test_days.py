"""Days: which folders are days, which of them make a window, and how data.build adds one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data import build
from data.days import days_problem, find_days, find_window, in_order, new_folder, to_text
from data.errors import DataError
from data.shards import GOLDEN, find_source
from data.splits import SPLITS, shard_name
from pipeline.config import load
from tests.conftest import Images, read_images

DATES = "{YYYY}-{MM}-{DD}"


def put(folder: Path, splits: tuple[str, ...] = SPLITS, shards: int = 1, missing: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for split in splits:
        for index in range(shards - missing):
            (folder / shard_name(split, index, shards)).write_bytes(b"x")


def taken(path: Path, count: int = 7) -> tuple[str, str]:
    """The window as a text, and what is said of the days that are left out."""
    window = find_window(str(path), count)
    return to_text(day.label for day in window.days), " ".join(window.left_out)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("digits/{YYYY}-{MM}-{DD}", ""),
        ("digits/{YYYY}/{MM}/{DD}/v{VERSION:2}", ""),
        ("{SPAN}", ""),
        ("digits/{SPAN:4}-{VERSION}", ""),
        ("digits/{yyyy}", "knows no {yyyy}: use {SPAN}, or {YYYY}"),
        ("digits/{YYYY:2}{MM}{DD}", "knows no {YYYY:2}"),
        ("digits/{SPAN:x}", "has {SPAN:x}, whose width is no number of digits"),
        ("digits/{SPAN:0}", "has {SPAN:0}, whose width"),
        ("digits/{YYYY}-{MM}", "must have all of {YYYY}, {MM} and {DD}"),
        ("digits/{VERSION}", "must name a day by {SPAN}, or"),
        ("digits/{SPAN}/{YYYY}{MM}{DD}", "must name a day by {SPAN}, or"),
        ("digits/{SPAN}/{SPAN}", "names a part twice"),
        ("v{VERSION}/{SPAN}", "must have {VERSION} below the day"),
        ("digits/{SPAN", "a brace without its partner"),
        ("digits*/{SPAN}", "has the character *"),
    ],
)
def test_a_path_that_tfx_or_we_would_misread_is_said(path: str, words: str) -> None:
    assert words in days_problem(path) and bool(words) == bool(days_problem(path))


def test_the_newest_days_that_exist_make_the_window_whatever_their_gaps(tmp_path: Path) -> None:
    for name in ("2026-11-02", "2026-11-03", "2026-11-27", "2026-11-28", "2026-12-01"):
        put(tmp_path / name)
    assert taken(tmp_path / DATES, 4) == ("2026-11-03, 2026-11-27..2026-11-28, 2026-12-01", "")
    assert taken(tmp_path / DATES, 100)[0].startswith("2026-11-02..2026-11-03, ")
    put(tmp_path / "2026-11-29")
    put(tmp_path / "2026-11-30")  # two days at once
    assert taken(tmp_path / DATES, 4)[0] == "2026-11-28..2026-12-01"


def test_what_is_no_day_does_not_count(tmp_path: Path) -> None:
    put(tmp_path / "2026-11-27")
    for name in ("2026-11-31", "2026-11-28.old", ".2026-11-28.unfinished-abc", "golden", "tmp", "12", "2026-1-2"):
        put(tmp_path / name)
    (tmp_path / "2026-11-29").write_text("a file")
    assert taken(tmp_path / DATES) == ("2026-11-27", "")
    with pytest.raises(DataError, match=r"There is no complete day .*/v\{SPAN\}: build one with"):
        find_window(f"{tmp_path}/v{{SPAN}}", 7)
    with pytest.raises(DataError, match="There is no complete day"):
        find_window(f"{tmp_path}/nowhere/{{SPAN}}", 7)


@pytest.mark.parametrize(
    "arriving",
    [
        lambda day: day.mkdir(),
        lambda day: put(day, ("train",)),
        lambda day: put(day, shards=4, missing=1),
        lambda day: (put(day), (day / shard_name("test", 0, 1)).write_bytes(b"")),
        lambda day: (put(day), (day / "train-00000-of-00001.tfrecord.gz.part").write_bytes(b"x")),
    ],
)
def test_a_day_that_is_still_being_copied_is_left_out_and_said(
    tmp_path: Path, arriving: Callable[[Path], object]
) -> None:
    put(tmp_path / "2026-11-27")
    arriving(tmp_path / "2026-11-28")
    text, said = taken(tmp_path / DATES)
    assert text == "2026-11-27" and said.startswith("The day 2026-11-28 is not complete and is left out: ")
    shutil.rmtree(tmp_path / "2026-11-27")
    with pytest.raises(DataError, match=r"There is no complete day .* The day 2026-11-28 is not complete"):
        find_window(f"{tmp_path}/{DATES}", 7)


def test_what_copying_does_not_explain_stops(tmp_path: Path) -> None:
    put(tmp_path / "2026-11-27")
    (tmp_path / "2026-11-27" / "train-x.tfrecord.gz").mkdir()
    with pytest.raises(DataError, match=r"2026-11-27 holds a folder that is named like a shard"):
        find_window(f"{tmp_path}/{DATES}", 7)


def test_the_newest_complete_version_of_a_day_counts(tmp_path: Path) -> None:
    put(tmp_path / "2026-11-27")
    put(tmp_path / "2026-11-28")
    put(tmp_path / "2026-11-27" / "2")
    put(tmp_path / "2026-11-27" / "10")
    put(tmp_path / "2026-11-27" / "11", ("train",))
    text, said = taken(tmp_path / DATES)
    assert text == "2026-11-27/10, 2026-11-28" and "The day 2026-11-27/11 is not complete" in said
    put(tmp_path / "v" / "0007" / "a1")
    put(tmp_path / "v" / "0007" / "a3")
    assert taken(tmp_path / "v" / "{SPAN:4}" / "a{VERSION}")[0] == "7/3"
    put(tmp_path / "w" / "007")
    put(tmp_path / "w" / "8")
    assert taken(tmp_path / "w" / "{SPAN}")[0] == "7..8"
    put(tmp_path / "w" / "08")
    with pytest.raises(DataError, match=r"(08|8) and .*8 are the same day: remove one of them"):
        find_window(f"{tmp_path}/w/{{SPAN}}", 7)


def test_a_window_can_be_written_and_found_again(tmp_path: Path) -> None:
    for name in ("1", "2", "3", "9/4", "10"):
        put(tmp_path / name)
    text = taken(tmp_path / "{SPAN}")[0]
    assert text == "1..3, 9/4, 10"
    put(tmp_path / "11")
    assert [day.label for day in find_days(f"{tmp_path}/{{SPAN}}", text)] == ["1", "2", "3", "9/4", "10"]
    shutil.rmtree(tmp_path / "2")
    with pytest.raises(DataError, match=r"The day 2 of .* is gone: put it back"):
        find_days(f"{tmp_path}/{{SPAN}}", text)
    assert in_order(["10", "9/4", "2026-11-28", "1"])[:3] == ["1", "9/4", "10"]


def test_shards_have_the_names_of_their_days(tmp_path: Path) -> None:
    put(tmp_path / "2026-11-28")
    put(tmp_path / "2026-11-28" / "1")
    put(tmp_path / "golden", ("test",))
    source = find_source(f"{tmp_path}/{DATES}", 3, str(tmp_path / "golden"))
    assert source.window == "2026-11-28/1"
    assert [(shard.split, shard.name) for shard in source.shards] == [
        *((split, f"2026-11-28/1/{split}-00000-of-00001.tfrecord.gz") for split in SPLITS),
        (GOLDEN, "golden/test-00000-of-00001.tfrecord.gz"),
    ]
    (tmp_path / "golden" / shard_name("test", 0, 1)).unlink()
    with pytest.raises(DataError, match="golden holds no file test-"):
        find_source(f"{tmp_path}/{DATES}", 3, str(tmp_path / "golden"))


@pytest.mark.parametrize(
    ("path", "day", "folders"),
    [
        ("d/{YYYY}/{MM}/{DD}", "2026-01-02", ("d/2026/01/02", "d/2026/01/02/1", "d/2026/01/02/2")),
        ("d/{SPAN:3}/v{VERSION:2}", "7", ("d/007/v01", "d/007/v02", "d/007/v03")),
        ("d/{SPAN}-{VERSION}/shards", "7", ("d/7-1/shards", "d/7-2/shards", "d/7-3/shards")),
    ],
)
def test_a_new_version_has_the_next_number(tmp_path: Path, path: str, day: str, folders: tuple[str, ...]) -> None:
    for index, folder in enumerate(folders):
        assert new_folder(f"{tmp_path}/{path}", day) == (f"{tmp_path}/{folder}", index > 0)
        put(tmp_path / folder)
        if index == 0:
            put(Path(f"{tmp_path}/{folder}"))
    assert to_text(day.label for day in find_window(f"{tmp_path}/{path}", 7).days).endswith(f"/{folders[-1][-1]}") or (
        "shards" in path
    )


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """An .npz of some digits."""
    images = read_images(Path("data/mnist"), "test", count=400)
    folder = tmp_path_factory.mktemp("archives")

    def save(start: int, stop: int, name: str = "", least: int = 0) -> Path:
        chosen = Images(images.pixels[start:stop], images.labels[start:stop])
        kept = chosen.labels >= least
        path = folder / f"{name or start}.npz"
        np.savez(path, images=chosen.pixels[kept], labels=chosen.labels[kept])
        return path

    return save


def test_a_day_is_added_by_one_rename_and_replaced_by_a_new_version(
    tmp_path: Path, archive: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "digits"
    first = [str(archive(0, 200)), "--day", "2026-11-27", "--out", str(out), "--shards", "1"]
    assert build.main(first) == 0
    assert {path.name for path in out.iterdir()} == {"2026-11-27", "profile.toml"}
    assert build.main(first) == 1
    assert f"The day 2026-11-27 is in {out} already: --replace adds a new version" in capfd.readouterr().err
    # A day without a zero has the labels of the days before, and no others.
    second = [str(archive(200, 400, "less", least=1)), "--day", "2026-11-28", "--out", str(out), "--shards", "1"]
    assert build.main(second) == 0
    assert read_images(out / "2026-11-28", "train").labels.min() == 1
    assert build.main([*first, "--replace"]) == 0
    data = load(str(out / "profile.toml")).data
    assert data.path == f"{out}/{DATES}" and data.classes == 10
    assert taken(Path(data.path))[0] == "2026-11-27/1, 2026-11-28"
    for options, words in (
        (("--day", "12"), "names a day by a date: give --day 2026-11-28"),
        (("--day", "2026-11-29", "--size", "20x20"), "have another --size, as"),
        (("--day", "2026-11-29", "--classes", "9"), "have another --classes, as"),
    ):
        assert build.main([*first[:1], "--out", str(out), *options]) == 1
        assert words in capfd.readouterr().err
    names = np.load(archive(0, 100))
    np.savez(tmp_path / "words.npz", images=names["images"], labels=np.char.add(names["labels"].astype(str), "th"))
    assert build.main([str(tmp_path / "words.npz"), "--out", str(out), "--day", "2026-11-29"]) == 1
    assert "holds the class 0th, and" in capfd.readouterr().err and not (out / "2026-11-29").exists()


def test_classes_keep_their_labels_on_a_day_that_lacks_one(tmp_path: Path) -> None:
    images = read_images(Path("data/mnist"), "test", count=30).pixels
    for day, names in (("1", "abc"), ("2", "ac")):
        for name in names:
            (tmp_path / day / name).mkdir(parents=True)
            for index, image in enumerate(images[:12]):
                Image.fromarray(image).save(tmp_path / day / name / f"{index}.png")
        assert build.main([str(tmp_path / day), "--day", day, "--out", str(tmp_path / "days"), "--shards", "1"]) == 0
    labels = read_images(tmp_path / "days" / "2", "train").labels
    assert set(labels.tolist()) == {0, 2}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--day", "yesterday"), "'yesterday' is no day, such as 2026-11-28 or 12"),
        (("--day", "2026-11-31"), "'2026-11-31' is no day"),
        (("--replace",), "--replace makes a new version of a day: say which with --day"),
        (("--out", "d/{SPAN}"), "--out d/{SPAN} names days: say which with --day"),
        (("--day", "1", "--out", "d/{SPAM}"), "--out d/{SPAM} knows no {SPAM}"),
    ],
)
def test_a_wrong_day_is_a_wrong_command_line(
    options: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        build.main(["x.npz", "--out", "d", *options])
    assert ended.value.code == 2 and words in capsys.readouterr().err
