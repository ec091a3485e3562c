"""The pipeline on a job server and workers, each in a process of its own."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
import tensorflow_model_analysis as tfma
import tensorflow_transform as tft
from apache_beam.options.pipeline_options import PipelineOptions

from data.splits import SPLITS
from pipeline.config import Config
from pipeline.definition import create_pipeline
from pipeline.engines.settings import Beam, pipeline_args
from pipeline.exit_codes import FAILED, PUSHED
from pipeline.runs.root import RunRoot
from tests.conftest import ROOT, Outcome, run_pipeline, states, versions
from tests.pipeline.few_digits import COUNTS, SETTINGS, Prepared, prepared
from tests.pipeline.portable import BEAM_SERVER, PRISM, Engine, engine, needs_prism

Run = Callable[..., Outcome]
JAR = os.environ.get("BEAM_JOB_SERVER_JAR", "")
STEPS = ("ExampleGen", "StatisticsGen", "Transform")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepared(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def small_mnist(few: Prepared) -> Path:
    return few.data


@pytest.fixture(scope="module")
def preset(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Beam's own job server; and a worker pool, a process with only the installed package."""
    with engine(tmp_path_factory.mktemp("engine"), installed, prism=False) as started:
        yield started


@pytest.fixture(scope="module")
def in_memory(few: Prepared) -> Path:
    """The run root of the first steps on the direct engine."""
    return few.root


@pytest.fixture(scope="module")
def portable(tmp_path_factory: pytest.TempPathFactory, preset: Engine, small_mnist: Path) -> Path:
    """The run root of the whole pipeline on `preset`; some tests evaluate its model again."""
    root = tmp_path_factory.mktemp("portable") / "root"
    outcome = run_pipeline(root, small_mnist, *SETTINGS, *preset.overrides)
    assert outcome.code == PUSHED, outcome.text
    return root


def records(root: Path) -> dict[str, Counter[bytes]]:
    (examples,) = (root / "artifacts" / "ExampleGen" / "examples").iterdir()
    return {
        split.name: Counter(tf.data.TFRecordDataset([str(p) for p in split.iterdir()], "GZIP").as_numpy_iterator())
        for split in examples.glob("Split-*")
    }


def check_same(root: Path, other: Path) -> None:
    """Both runs have equal records, equal statistics, and Transform graphs with equal results.

    The order of the records and of the features is the engine's.
    """
    assert {step: states(root)[step] for step in STEPS} == dict.fromkeys(STEPS, "COMPLETE")
    found = records(root)
    assert found == records(other)
    assert {split: examples.total() for split, examples in found.items()} == {
        f"Split-{split}": count for split, count in zip(SPLITS, COUNTS, strict=True)
    }
    for split in found:
        ours, theirs = (
            tfdv.load_stats_binary(str(next(folder.glob(f"artifacts/StatisticsGen/statistics/*/{split}/*"))))
            for folder in (root, other)
        )
        for statistics in (ours, theirs):
            statistics.datasets[0].features.sort(key=lambda feature: feature.path.step[0])
        assert ours == theirs
    graphs = [
        tft.TFTransformOutput(str(next(folder.glob("artifacts/Transform/transform_graph/*"))))
        for folder in (root, other)
    ]
    raw = [graph.raw_feature_spec() for graph in graphs]
    assert raw[0] == raw[1] and graphs[0].transformed_feature_spec() == graphs[1].transformed_feature_spec()
    parsed = tf.io.parse_example(list(found["Split-eval"]), raw[0])
    ours, theirs = (graph.transform_features_layer()(dict(parsed)) for graph in graphs)
    assert set(ours) == set(theirs)
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name])


def test_the_whole_pipeline_pushes_a_model(portable: Path, in_memory: Path) -> None:
    check_same(portable, in_memory)
    assert len(versions(portable)) == 1


def test_loopback_workers_give_the_same_records(
    run: Run, preset: Engine, in_memory: Path, small_mnist: Path, tmp_path: Path
) -> None:
    """The worker is a thread of this process."""
    settings = ("beam.engine=flink", f"beam.job_server={preset.job_server}")
    outcome = run(tmp_path / "root", small_mnist, *settings, options=("--to", "Transform"))
    assert outcome.code == PUSHED, outcome.text
    check_same(tmp_path / "root", in_memory)


def evaluate_again(run: Run, root: Path, data: Path, accuracy: float, *overrides: str) -> Outcome:
    """Runs only the Evaluator, on the model of the last run. A gate of its own keeps it from the cache."""
    options = ("--from", "Evaluator", "--to", "Evaluator")
    return run(root, data, *SETTINGS, f"gates.accuracy={accuracy}", *overrides, options=options)


def slices(root: Path, number: int) -> list[tuple[Any, Any]]:
    """TFMA's metrics of a run by slice; run 0 is the first one."""
    history = RunRoot(root, Config()).history("digit-rows")
    evaluation = history.run(history.ids()[number]).output("Evaluator", "evaluation")
    assert evaluation
    return sorted(tfma.load_eval_result(evaluation.uri).slicing_metrics, key=lambda item: str(item[0]))


def test_the_evaluation_has_the_figures_of_the_direct_engine(run: Run, portable: Path, small_mnist: Path) -> None:
    outcome = evaluate_again(run, portable, small_mnist, 0.29)
    assert outcome.code == PUSHED, outcome.text
    assert states(portable)["Evaluator"] == "COMPLETE"
    found, expected = slices(portable, 0), slices(portable, -1)
    assert [key for key, _ in found] == [key for key, _ in expected] and len(found) > 10
    for (_, ours), (_, theirs) in zip(found, expected, strict=True):
        assert plain(ours)["sparse_categorical_accuracy"] > 0
        assert plain(ours) == pytest.approx(plain(theirs), rel=1e-6)


def plain(metrics: dict[str, Any]) -> dict[str, float]:
    """The metrics of a slice that are one number."""
    return {name: value["doubleValue"] for name, value in metrics[""][""].items() if "doubleValue" in value}


def test_every_step_and_module_comes_from_the_installed_package_in_a_worker(installed: Path, tmp_path: Path) -> None:
    chain = create_pipeline(Config(), pipeline_root=str(tmp_path), serving_dir=str(tmp_path / "serving"))
    steps = {node.executor_spec.class_path for node in chain.components}
    functions = {
        node.exec_properties[name]
        for node in chain.components
        for name in ("preprocessing_fn", "run_fn")
        if node.exec_properties.get(name)
    }
    assert functions == {"components.transform.preprocessing_fn", "components.trainer.run.run_fn"}
    folders = [ROOT / name for name in ("pipeline", "components", "data")]
    files = {path.relative_to(ROOT) for folder in folders for path in folder.rglob("*.py")}
    modules = {".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in files}
    named = {*steps, *functions, "components.evaluator.metrics.ExpectedCalibrationError", *modules}
    # Only builtins and text, because the workers do not have this test module.
    questions = [f"__import__('inspect').getfile(__import__('pydoc').locate({name!r}))" for name in named]
    # Prism's workers import in many threads at once, which Python may refuse as a deadlock.
    with engine(tmp_path / "engine", installed, prism=False, processes=True) as started:
        options = PipelineOptions(pipeline_args(Beam.model_validate(started.settings)))
        with beam.Pipeline(options=options) as pipeline:
            answers = pipeline | beam.Create(questions) | beam.Map(eval)
            answers | beam.io.WriteToText(str(tmp_path / "files"))
    found = [Path(line) for file in tmp_path.glob("files*") for line in file.read_text().splitlines()]
    assert len(found) == len(named)
    assert {path.relative_to(installed) for path in found if path.is_relative_to(installed)} == files
    theirs = {path for path in found if not path.is_relative_to(installed)}
    assert theirs and all(path.is_relative_to(Path(tfdv.__file__).parents[1] / "tfx") for path in theirs)


@pytest.fixture
def own_engine(installed: Path, tmp_path: Path) -> Iterator[Engine]:
    """An engine that the test may kill."""
    with engine(tmp_path / "engine", installed, prism=True) as started:
        yield started


def kill_during_a_job(own: Engine, victim: str) -> threading.Thread:
    """Kills the job server, or the pool with its workers, after a worker of the next job has connected."""

    def kill() -> None:
        end = time.monotonic() + 600
        while time.monotonic() < end and not any(sockets(pid) for pid in own.workers()):
            time.sleep(0.02)
        time.sleep(0.5)
        for pid in [own.pool.pid, *own.workers()] if victim == "pool" else [own.server.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    return thread


def sockets(pid: int) -> int:
    """How many sockets a process has open; a worker has none before it connects."""
    with suppress(OSError):
        return sum(file.readlink().name.startswith("socket:") for file in Path(f"/proc/{pid}/fd").iterdir())
    return 0


@needs_prism
@pytest.mark.parametrize(
    ("victim", "sentence"),
    [("pool", "the Beam engine reports"), ("server", "the connection to Beam's job server was lost")],
)
def test_a_killed_engine_ends_the_run_with_a_sentence_and_the_same_command_goes_on(
    run: Run, own_engine: Engine, preset: Engine, victim: str, sentence: str, small_mnist: Path, tmp_path: Path
) -> None:
    root, options = tmp_path / "root", ("--to", "ExampleGen")
    killer = kill_during_a_job(own_engine, victim)
    outcome = run(root, small_mnist, *own_engine.overrides, options=options)
    killer.join(10)
    assert not killer.is_alive() and outcome.code == FAILED, outcome.text
    assert f"ExampleGen failed: {sentence}" in outcome.text and "the same command, continues" in outcome.text
    assert "Traceback" not in outcome.text and states(root)["ExampleGen"] == "FAILED"
    again = run(root, small_mnist, *preset.overrides, options=options)
    assert again.code == PUSHED, again.text
    assert states(root)["ExampleGen"] == "COMPLETE"


def test_workers_without_the_package_are_named(run: Run, portable: Path, small_mnist: Path, tmp_path: Path) -> None:
    with engine(tmp_path / "engine", tmp_path / "empty", prism=bool(PRISM)) as bare:
        outcome = evaluate_again(run, portable, small_mnist, 0.27, *bare.overrides)
    assert outcome.code == FAILED
    assert "the workers have no module components: install the project where the worker pool runs" in outcome.text


@pytest.fixture
def interrupt_handler() -> Iterator[None]:
    """Restores the SIGINT handler. Beam replaces it when it starts the jar of a job server."""
    kept = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, kept)


@pytest.mark.usefixtures("interrupt_handler")
def test_a_step_starts_the_server_of_a_jar(run: Run, in_memory: Path, small_mnist: Path, tmp_path: Path) -> None:
    """Everything is real except the jar: Beam's own job server replaces Java on the same port."""
    jar, java = tmp_path / "server.jar", tmp_path / "java"
    jar.touch()
    java.write_text(
        f'#!/bin/sh\nwhile [ "$1" != --job-port ]; do shift; done\nexec {" ".join(BEAM_SERVER)} --job_port "$2"\n'
    )
    java.chmod(0o755)
    options = ("--to", "ExampleGen", f"--beam-arg=--job_server_java_launcher={java}")
    outcome = run(tmp_path / "root", small_mnist, "beam.engine=flink", f"beam.job_server={jar}", options=options)
    assert outcome.code == PUSHED, outcome.text
    assert records(tmp_path / "root") == records(in_memory)


@pytest.mark.usefixtures("interrupt_handler")
@pytest.mark.skipif(not JAR, reason="BEAM_JOB_SERVER_JAR names no Flink job server's jar")
def test_flink_runs_example_gen_and_transform__skipped_without_BEAM_JOB_SERVER_JAR(
    run: Run, in_memory: Path, small_mnist: Path, tmp_path: Path
) -> None:
    settings = ("beam.engine=flink", f"beam.job_server={JAR}")
    outcome = run(tmp_path / "root", small_mnist, *settings, options=("--to", "Transform"))
    assert outcome.code == PUSHED, outcome.text
    check_same(tmp_path / "root", in_memory)
