"""The report of a run: what it says of runs that ended in every way, and how a browser shows it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser

from components.evaluator.predictions import Predictions, read_predictions
from components.evaluator.report import Evaluation, Gate
from data.reference import IN_VERSION, read_reference
from pipeline.config import Config
from pipeline.exit_codes import DATA_REFUSED, FAILED, MODEL_REFUSED, PUSHED, WRONG_USE
from pipeline.report import charts, evaluated
from pipeline.report.__main__ import main
from pipeline.report.collect import Facts, collect
from pipeline.report.page import SECTIONS, render
from pipeline.runs.records import Artifact, Run
from pipeline.runs.root import RunRoot
from tests.browser import chromium, opened
from tests.conftest import Outcome, run_pipeline
from tests.pipeline.few_digits import SETTINGS, WORSE, few_digits, few_mnist

HOSTILE = "<script>alert('one')</script>"
NAMES = f'data.class_names=["zero", "{HOSTILE}", "two", "three", "4", "5", "6", "7", "eight & more", "nine"]'


@dataclass(frozen=True)
class Runs:
    """A run root with three runs of the data folder, and how each ended."""

    root: Path
    data: Path
    pushed: Run
    refused: Run
    no_data: Run
    outcomes: list[Outcome]

    def page(self, run: Run) -> str:
        """The page that the run itself wrote."""
        return (self.root / "reports" / f"{run.id}.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("report")
    root, data = folder / "root", few_mnist(folder)
    outcomes = [
        run_pipeline(root, data, *settings, report=True)
        for settings in ((*SETTINGS, NAMES), (*SETTINGS, NAMES, WORSE), ("data.classes=7",))
    ]
    history = RunRoot(root, Config()).history()
    return Runs(root, data, *(history.run(run_id) for run_id in history.ids()), outcomes)


@pytest.fixture(scope="module")
def facts(runs: Runs) -> Facts:
    return collect(runs.pushed)


@pytest.fixture(scope="module")
def predictions(runs: Runs) -> Predictions:
    found = read_predictions(runs.refused.output("Evaluator", "evaluation").uri)
    assert found is not None
    return found


def text_of(page: str) -> str:
    """What a reader sees of a page or a part of it."""
    return re.sub(r"\s+", " ", re.sub(r"<style.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL)).strip()


def sections(page: str) -> dict[str, str]:
    """The text of each section, without its heading."""
    found = re.findall(r'<section id="(\w+)".*?</h2>(.*?)</section>', page, re.DOTALL)
    return {name: text_of(content) for name, content in found}


@pytest.mark.slow
def test_every_run_ends_with_a_report_that_the_table_names(runs: Runs) -> None:
    assert [outcome.code for outcome in runs.outcomes] == [PUSHED, MODEL_REFUSED, DATA_REFUSED]
    for run, outcome in zip((runs.pushed, runs.refused, runs.no_data), runs.outcomes, strict=True):
        assert str(runs.root / "reports" / f"{run.id}.html") in outcome.text
        found = sections(runs.page(run))
        assert list(found) == list(SECTIONS) and all(len(text) > 20 for text in found.values()), found
        assert "This part could not be made" not in runs.page(run)
        assert "<script" not in runs.page(run) and not re.search(r'(src|href)="(?!data:|#)', runs.page(run))


@pytest.mark.slow
def test_a_pushed_run_answers_every_question(runs: Runs) -> None:
    found = sections(runs.page(runs.pushed))
    figures = runs.pushed.figures
    assert f"The model was pushed as version {runs.pushed.version}." in found["verdict"]
    assert f"{figures['accuracy']:.4f}" in found["accuracy"] and "of 200 examples" in found["accuracy"]
    assert "No other model with the same inputs" in found["accuracy"]
    assert "The model has the weights of epoch" in found["training"]
    assert found["classes"].count("0.0100") >= 10  # the floor of each class
    assert "The 40 test examples" in found["mistakes"] and runs.page(runs.pushed).count("<img") == 40
    assert "Accuracy after each of the 28 rows" in found["rows"]
    assert "what it answered for these 200 test examples" in found["reference"]
    assert read_reference(f"{runs.pushed.pushed_to}/{IN_VERSION}").examples == 200
    assert "train: 1,000 examples, eval: 100 examples, test: 200 examples" in found["data"]
    assert "None: every split matches the schema." in found["data"]
    assert "took the longest" in found["steps"]
    assert "train-00001-of-00002.tfrecord.gz" in found["lineage"] and "provenance.json" in found["lineage"]
    assert "training.epochs 4 7" in found["lineage"] and f"tf-keras {version('tf-keras')}" in found["lineage"]
    assert runs.pushed.step("Trainer").properties["fingerprint"] in found["lineage"]
    assert f"The data are in {runs.data}. Their licence is not recorded here" in found["card"]
    assert "Intended use" in found["card"] and "Limits" in found["card"]


@pytest.mark.slow
def test_a_refused_run_says_which_gate_and_by_how_much(runs: Runs) -> None:
    page = runs.page(runs.refused)
    verdict = sections(page)["verdict"]
    assert "The model was not pushed: a gate refused it." in verdict
    gates = [gate for gate in runs.refused.evaluation().gates if not gate.passed]
    assert "accuracy against the baseline" in {gate.name for gate in gates}
    missed = -0.002 - next(gate.value for gate in gates if gate.name == "accuracy against the baseline")
    assert f"It misses the bound by {missed:.4f}" in verdict.replace(" </strong>", "")
    assert f"Version {runs.pushed.version} has an accuracy of {runs.pushed.figures['accuracy']:.4f}" in text_of(page)


@pytest.mark.slow
def test_refused_data_are_explained_and_every_other_section_says_why_it_is_empty(runs: Runs) -> None:
    found = sections(runs.page(runs.no_data))
    assert "No model was trained: the data gate refused the data." in found["verdict"]
    assert "label 9, expected 0 … 6" in found["verdict"] and "Unexpectedly large value: 9" in found["data"]
    for name in ("accuracy", "confusion", "classes", "reliability", "mistakes", "rows"):
        assert found[name].startswith("The step Evaluator did not run: the data gate refused the data."), name
    assert found["training"].startswith("The step Trainer did not run")
    assert "DataGate failed" in found["steps"] and "Nothing was pushed." in found["lineage"]


@pytest.mark.slow
def test_names_of_classes_are_text_wherever_they_stand(runs: Runs) -> None:
    for run in (runs.pushed, runs.refused):
        page = runs.page(run)
        assert HOSTILE not in page and "<script" not in page
        assert "&lt;script&gt;alert(&#39;one&#39;)&lt;/script&gt;" in page and "eight &amp; more" in page


@pytest.mark.slow
def test_the_numbers_are_those_of_numpy(facts: Facts, runs: Runs) -> None:
    found, digits = read_predictions(runs.pushed.output("Evaluator", "evaluation").uri), few_digits()
    right = found.class_ids == found.labels
    assert np.array_equal(found.labels, digits["test"].labels)
    for label, result in enumerate(evaluated.classes(facts.evaluation)):
        of_class = found.labels == label
        assert (result.proportion.right, result.proportion.total) == (right[of_class].sum(), of_class.sum())
    bins = facts.reliability
    assert sum(item.proportion.total for item in bins) == 200
    gap = sum(abs(item.proportion.share - item.confidence) * item.proportion.total for item in bins) / 200
    assert gap == pytest.approx(facts.evaluation.calibration_error, abs=1e-5)
    assert facts.row_accuracy[-1] == pytest.approx(facts.evaluation.accuracy, abs=1e-6)
    for mistake in facts.mistakes:
        assert np.array_equal(mistake.picture, digits["test"].pixels[mistake.position])
    for values in facts.values:
        pixels = digits[values.split].pixels.astype(np.float64)
        assert values.examples == len(pixels) and (values.minimum, values.maximum) == (0, 255)
        assert values.mean == pytest.approx(pixels.mean()) and values.deviation == pytest.approx(pixels.std())
        assert values.zeros == pytest.approx((pixels == 0).mean())
        counts = np.bincount(digits[values.split].labels, minlength=10)
        assert [each[values.split] for each in facts.balance.counts.values()] == counts.tolist()
    assert [epoch.number for epoch in facts.epochs] == [1, 2, 3, 4]
    assert facts.kept == min(facts.epochs, key=lambda epoch: epoch.val_loss)


@pytest.mark.slow
def test_the_comparison_counts_the_same_examples(predictions: Predictions, runs: Runs) -> None:
    comparison = evaluated.compare(predictions)
    assert comparison.both + comparison.only_candidate == round(runs.refused.figures["accuracy"] * 200)
    assert comparison.both + comparison.only_baseline == round(runs.pushed.figures["accuracy"] * 200)
    assert comparison.only_baseline > comparison.only_candidate and 0 < comparison.p < 0.05
    same = predictions._replace(baseline_class_ids=predictions.class_ids)
    equal = evaluated.compare(same)
    assert equal.only_candidate == equal.only_baseline == 0 and equal.p == 1
    page = render(replace(collect(runs.refused), comparison=equal))
    assert "Both models are right on the same examples" in page


def with_outputs(run: Run, change: Callable[[Artifact], Artifact]) -> Run:
    """The run with other artifacts."""
    steps = [
        replace(step, outputs={key: change(found) for key, found in step.outputs.items()}, inputs=step.inputs)
        for step in run.steps
    ]
    return replace(run, steps=steps)


@pytest.mark.slow
def test_what_is_gone_or_damaged_costs_only_its_section(runs: Runs, tmp_path: Path) -> None:
    gone = with_outputs(replace(runs.pushed, record={}), lambda found: replace(found, live=False))
    found = sections(render(collect(gone)))
    for name in ("accuracy", "training", "confusion", "classes", "mistakes"):
        assert "are gone or have changed: " in found[name], name
    assert "The file with the settings is gone." in found["lineage"]
    assert "The file with the packages is gone." in found["lineage"]
    empty = sections(render(collect(replace(runs.pushed, steps=[], record={}))))
    assert list(empty) == list(SECTIONS) and "No step began." in empty["steps"]

    copies = {runs.pushed.output(*where).id for where in (("Evaluator", "evaluation"), ("Trainer", "model_run"))}

    def copy(artifact: Artifact) -> Artifact:
        if artifact.id not in copies:
            return artifact
        folder = shutil.copytree(artifact.uri, tmp_path / str(artifact.id), dirs_exist_ok=True)
        for name, content in (("predictions.npz", b"no zip"), ("epochs.csv", b"")):
            if (folder / name).exists():
                (folder / name).write_bytes(content)
        return replace(artifact, uri=str(folder), listing=None)

    found = sections(render(collect(with_outputs(runs.pushed, copy))))
    for name in ("mistakes", "training"):
        assert "This part could not be made" in found[name], name
    assert "95 % Wilson interval" in found["accuracy"] and "Confusion matrix:" in found["confusion"]


@pytest.mark.slow
def test_many_classes_stay_readable(facts: Facts) -> None:
    names = [f"class {number} with a long name" for number in range(120)]
    confusion = {(label, (label + step) % 120): 90 - 80 * step for label in range(120) for step in (0, 1)}
    gates = [Gate("accuracy", 0.9, "at least", 0.95, False)]
    gates += [Gate(f"accuracy of class {name}", 0.9, "at least", 0.8, True) for name in names]
    shares = dict.fromkeys(range(120), 0.9)
    evaluation = Evaluation(False, gates, 12000, 0.9, 0.3, 0.02, shares, None, confusion, names)
    found = sections(render(replace(facts, evaluation=evaluation)))
    assert "A picture of more than 30 classes is not readable" in found["confusion"]
    assert f"The {charts.MANY_CLASSES} classes with the lowest accuracy" in found["classes"]
    assert "All 121 gates" in found["verdict"] and "It misses the bound by 0.0500" in found["verdict"]


@pytest.mark.slow
def test_the_command_makes_it_again(runs: Runs, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "new" / "report.html"
    assert main([runs.pushed.id, "--run-root", str(runs.root), "-o", str(file)]) == 0
    shown = capfd.readouterr()
    assert shown.out == f"{file}\n" and not shown.err
    strip = re.compile(r"Report made [^<]*")
    assert strip.sub("", file.read_text()) == strip.sub("", runs.page(runs.pushed))
    default = runs.root / "reports" / f"{runs.no_data.id}.html"
    default.unlink()
    assert main(["--run-root", str(runs.root)]) == 0 and default.is_file()


@pytest.mark.slow
def test_a_mistake_is_a_sentence(runs: Runs, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    root = ("--run-root", str(runs.root))
    for arguments, code, words in (
        (("nowhere", *root), FAILED, "There is no run nowhere"),
        (("2", *root), FAILED, "3 runs begin with 2"),
        (("--run-root", str(tmp_path)), FAILED, "There are no runs in"),
        (("-o", str(tmp_path), *root), FAILED, "is a folder: name a file"),
        (("-o", str(tmp_path / "file" / "x.html"), *root), FAILED, "cannot be written"),
        (("--set", "metadata.connection=nonsense", *root), WRONG_USE, "is not an ml_metadata.ConnectionConfig"),
    ):
        assert main([*arguments]) == code
        shown = capfd.readouterr()
        assert not shown.out and words in shown.err and len(shown.err.splitlines()) == 1, shown.err


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.mark.slow
@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 400)])
def test_a_browser_shows_all_of_it_and_fetches_nothing(
    browser: Browser, runs: Runs, tmp_path: Path, theme: str, width: int
) -> None:
    pictures = []
    for run in (runs.pushed, runs.refused, runs.no_data):
        file = runs.root / "reports" / f"{run.id}.html"
        with opened(browser, file, width, theme) as shown:
            page = shown.page
            for name, title in SECTIONS.items():
                section = page.locator(f"section#{name}")
                assert section.is_visible() and section.locator("h2").inner_text() == title
                assert len(section.inner_text()) > len(title) + 20
            assert [url for url in shown.requests if not url.startswith("data:")] == [file.as_uri()]
            assert not shown.messages
            assert page.evaluate("document.documentElement.scrollWidth") == width
            small = "[...document.querySelectorAll('svg')].filter(e => e.getBoundingClientRect().width < 300).length"
            assert page.evaluate(small) == 0
            images = "[...document.images].every(image => image.complete && image.naturalWidth > 0 && image.alt)"
            assert page.evaluate(images)
            ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
            assert len(ids) == len(set(ids))
            pictures.append(page.screenshot(path=tmp_path / f"{run.id}.png", full_page=True))
            background = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert background == ("rgb(255, 255, 255)" if theme == "light" else "rgb(20, 23, 28)")
            page.emulate_media(media="print")
            assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
            assert not page.locator("nav").is_visible()
    assert all(len(picture) > 20_000 for picture in pictures)
