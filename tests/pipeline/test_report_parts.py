"""The parts of a report that need no run: intervals, charts, licences, colours, and how the file is written."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tfx.types import standard_artifacts

from components.evaluator.predictions import Predictions
from components.evaluator.report import Gate
from components.example_gen import DIGEST, write_digests
from data.files import write_file
from data.shards import find_source
from pipeline.report import charts, dataset, evaluated
from pipeline.report.evaluated import Epoch, kept_epoch
from tests.conftest import MNIST, ROOT
from tests.own_sequences import example as own_sequences

CSS = (ROOT / "data" / "pages" / "page.css").read_text()


def test_intervals_margins_and_the_kept_epoch() -> None:
    low, high = evaluated.Proportion(8, 10).interval
    assert (low, high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    assert evaluated.Proportion(0, 10).interval == (0, pytest.approx(0.2775, abs=1e-4))
    ids = np.arange(100, dtype=np.uint64)
    labels = np.zeros(100, np.int64)
    one, two = labels.copy(), labels.copy()
    one[:2], two[2:12] = 1, 1
    nothing = np.zeros(0)
    comparison = evaluated.compare(Predictions(ids, labels, one, nothing, two, nothing, nothing, nothing))
    assert (comparison.only_candidate, comparison.only_baseline, comparison.both) == (10, 2, 88)
    assert comparison.p == pytest.approx(2 * (1 + 12 + 66) / 2**12)
    assert Gate("accuracy", 0.9, "at least", 0.95, False).margin == pytest.approx(-0.05)
    assert Gate("calibration", 0.03, "at most", 0.02, False).margin == pytest.approx(-0.01)
    assert Gate("accuracy", 0.94999999, "at least", 0.95, True).margin == 0
    assert Gate("accuracy", float("nan"), "at least", 0.95, False).margin is None
    epochs = [Epoch(1, 1, 0.5, 0.9, 0.5), Epoch(2, 0.5, 0.7, 0.6, 0.7), Epoch(3, 0.2, 0.9, 0.8, 0.7)]
    for patience, kept in ((2, 2), (0, 3)):
        assert kept_epoch(patience, epochs).number == kept
    assert kept_epoch(None, epochs) is None


def test_the_licence_is_that_of_the_data_wherever_they_lie(tmp_path: Path) -> None:
    examples = standard_artifacts.Examples()
    examples.uri = str(tmp_path)
    write_digests(examples, find_source(str(MNIST), 1))
    digest = examples.get_string_custom_property(DIGEST)
    assert digest == dataset.OWN_DATA
    assert "MNIST by Y. LeCun and C. Cortes, CC BY-SA 3.0" in dataset.licence("/app/data/mnist", digest)
    described = dataset.licence(str(MNIST), "")
    assert "Their licence is not recorded here" in described and str(MNIST / "README.md") in described


def test_a_chart_is_the_same_each_time_and_follows_the_page() -> None:
    epochs = [Epoch(1, 1, 0.5, 0.9, 0.5)]
    chart, again, other = (
        charts.curve_chart(name, name, epochs, kept)
        for name, kept in (("loss", epochs[0]), ("loss", epochs[0]), ("accuracy", None))
    )
    assert chart == again
    assert 'role="img"' in chart.svg and "<desc" in chart.svg and chart.lines == (("1", "1.0000", "0.9000"),)
    assert "var(--series-1)" in chart.svg and "<style" not in chart.svg and "<metadata" not in chart.svg
    assert not set(re.findall(r"#[0-9a-f]{6}", chart.svg)) and "201" not in re.findall("<metadata.*", chart.svg)
    ids = [re.findall(r' id="([^"]+)"', svg) for svg in (chart.svg, other.svg)]
    assert not set(ids[0]) & set(ids[1])


def test_an_example_of_a_fork_is_drawn_as_a_heat_map() -> None:
    values = np.array([[-2.0, 0.0], [1.0, 2.0]], np.float32)
    assert own_sequences.draw(values, own_sequences.ExampleSpec()).tolist() == [[0, 127], [191, 255]]
    assert own_sequences.draw(np.ones((3, 4), np.float32), own_sequences.ExampleSpec()).max() == 0


def test_a_page_is_replaced_as_a_whole(small_disk: Path) -> None:
    file = small_disk / "report.html"
    write_file("the first page, ä", file)
    with pytest.raises(OSError, match="No space left"):
        write_file("x" * 2**23, file)
    assert file.read_text(encoding="utf-8") == "the first page, ä" and list(small_disk.iterdir()) == [file]
    write_file("the second page", file)
    assert file.read_text() == "the second page" and file.stat().st_mode & 0o044


def test_help_loads_no_library() -> None:
    code = "import sys, pipeline.report.__main__ as c\ntry: c.main(['--help'])\nexcept SystemExit: pass\n"
    code += "assert not {'tensorflow', 'tfx', 'matplotlib', 'ml_metadata'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "RUN" in done.stdout, done.stderr


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_colours_have_the_contrast_of_wcag_aa_in_both_themes() -> None:
    blocks = re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)[:2]
    for block in blocks:
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))
        for background in ("surface", "panel"):
            for name, least in (
                *dict.fromkeys(("ink", "quiet", "good", "bad", "link"), 4.5).items(),
                *dict.fromkeys(("series-1", "series-2", "series-3"), 3.0).items(),
            ):
                one, two = sorted((luminance(colours[name]), luminance(colours[background])))
                assert (two + 0.05) / (one + 0.05) >= least, (name, background)
