"""What tests share: real digits cut from the committed shards, and whole runs in this process."""

from __future__ import annotations

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# The networks of the tests are small: a second thread costs more than it brings.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

import atexit
import gc
import itertools
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import (
    AbstractContextManager,
    ExitStack,
    contextmanager,
    nullcontext,
    redirect_stderr,
    redirect_stdout,
)
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any, TextIO
from unittest.mock import patch
from weakref import WeakKeyDictionary

import numpy as np
import pytest
from xdist.scheduler import LoadFileScheduling

from data.readers import Images

if TYPE_CHECKING:
    from pipeline.runs.records import Run

ROOT = Path(__file__).parents[1]
MNIST = ROOT / "data" / "mnist"
PACKAGES = ("pipeline", "components", "data", "serving")
# A training of seconds on 3,000 digits, and bars it clears.
QUICK = (
    "training.batch_size=64",
    "training.epochs=3",
    "training.learning_rate=1e-2",
    "model.units=64",
    "augmentation.shift=0.0",
    "gates.accuracy=0.75",
    "gates.class_accuracy=0.4",
    "infra.max_latency_ratio=1000",  # the machine may be busy
)


# Files whose tests use what is made once in a process: the run root of tests/pipeline/test_history.py, the one of
# tests/pipeline/few_digits.py, the exported model of tests/components/conftest.py.
TOGETHER = {
    "shared root": ("end_to_end", "history", "history_rollback", "runs"),
    "few digits": ("interruptions", "notify", "portable", "seeds", "tune", "workers"),
    "exported": ("diverged", "evaluator", "export", "infra_validator", "reference", "trainer"),
}


class Scheduler(LoadFileScheduling):
    """The tests of a file run in one process, and so do the files that share something dear."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        name = Path(file).stem.removeprefix("test_")
        return next((group for group, names in TOGETHER.items() if name in names), file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduler:
    return Scheduler(config, log)


def pytest_collection() -> None:
    gc.disable()  # it would visit all that TFX loads again and again


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _two_logical_devices() -> None:
    from components.trainer.cluster import reserve_devices

    reserve_devices(2)


@pytest.fixture(scope="session")
def digits() -> dict[str, Images]:
    """The first digits of each split: 3,000 to train on, 500 to validate, 1,000 to test."""
    counts = {"train": 3000, "eval": 500, "test": 1000}
    return {split: read_images(MNIST, split, count=count) for split, count in counts.items()}


@pytest.fixture(scope="session")
def small_mnist(digits: dict[str, Images], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with `digits`."""
    return write_folder(tmp_path_factory.mktemp("data") / "mnist", digits)


def read_images(folder: Path, split: str, rows: int = 28, columns: int = 28, count: int | None = None) -> Images:
    """All images of a split, or the first ones."""
    from data.example import ExampleSpec, parse
    from data.records import list_shards, read_serialized

    records = itertools.chain.from_iterable(map(read_serialized, list_shards(folder, split)))
    spec = ExampleSpec(rows=rows, columns=columns)
    pixels, labels = zip(*(parse(record, spec) for record in itertools.islice(records, count)), strict=True)
    return Images(np.stack(pixels), np.asarray(labels, np.int64))


def write_folder(folder: Path, splits: dict[str, Images]) -> Path:
    from data.records import write_split

    folder.mkdir()
    for split, images in splits.items():
        write_split(folder, split, images.pixels, images.labels, shards=2 if split == "train" else 1)
    return folder


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its exit code and all it showed."""

    code: int
    text: str


@contextmanager
def captured() -> Iterator[TextIO]:
    """Sends all that this process writes into a file."""
    with tempfile.TemporaryFile("w+", errors="replace") as file:
        kept = os.dup(1), os.dup(2)
        try:
            for number in (1, 2):
                os.dup2(file.fileno(), number)
            with redirect_stdout(file), redirect_stderr(file):
                yield file
        finally:
            for number, original in enumerate(kept, start=1):
                os.dup2(original, number)
                os.close(original)


@cache
def infra_server() -> str:
    """The address of a model server that ends with this process: its runs share it for their infra checks."""
    from serving.launch import model_server

    started = ExitStack()
    atexit.register(started.close)
    folder = Path(started.enter_context(tempfile.TemporaryDirectory()))
    flags = ["--model_name=none", f"--model_base_path={folder}"]
    return started.enter_context(model_server(flags, folder / "log", real=False)).address


@cache
def inspect_once() -> None:
    """Makes Beam remember the arguments of a function.

    It inspects all methods of a DoFn each time that it asks whether the DoFn has state. That is a sixth of the time of
    a run on few digits.
    """
    from apache_beam.transforms import core

    inspect = core.get_function_args_defaults
    known: WeakKeyDictionary[Any, tuple[list, list]] = WeakKeyDictionary()

    def arguments(function: Any) -> tuple[list, list]:
        if not isinstance(function, MethodType):
            return inspect(function)
        if function.__func__ not in known:
            known[function.__func__] = inspect(function)
        names, defaults = known[function.__func__]
        return [*names], [*defaults]

    core.get_function_args_defaults = arguments


def without_reports() -> AbstractContextManager[Any]:
    """Runs write no report: to draw one takes a second, which is as long as most steps take on few digits."""
    from pipeline.local import runner

    return patch.object(runner, "_write_report", lambda root, run: None)


def run_pipeline(
    root: Path, folder: Path, *overrides: str, options: tuple[str, ...] = (), report: bool = False
) -> Outcome:
    """Runs the pipeline as `python -m pipeline.run_local` does; without a report, unless it is asked for."""
    from pipeline.local.cli import main

    inspect_once()
    server = [] if "--to" in options else [f"infra.server={infra_server()}"]
    arguments = ["--run-root", str(root), *options, "--set", f"data.path={folder}", *QUICK, *server, *overrides]
    # Beam's libraries read the command line too, which is pytest's here.
    with captured() as file, patch.object(sys, "argv", ["run_local"]), nullcontext() if report else without_reports():
        code = main(arguments)
        file.flush()
        file.seek(0)
        return Outcome(code, file.read())


@pytest.fixture
def run() -> Callable[..., Outcome]:
    """run(root, data_folder, *overrides, options=(…)): see `run_pipeline`."""
    return run_pipeline


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed project, to import it from."""
    return install_package(tmp_path_factory.mktemp("installed"))


def install_package(folder: Path) -> Path:
    """Installs the project, without what it depends on, as pip does; returns the folder to import it from."""
    for package in PACKAGES:
        ignore = shutil.ignore_patterns("*.gz", "__pycache__")
        shutil.copytree(ROOT / package, folder / "source" / package, ignore=ignore)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, folder / "source")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    target = ["--ignore-requires-python", "--target", str(folder / "site"), str(folder / "source")]
    subprocess.run([*pip, *target], check=True)
    return folder / "site"


def suspend(process: subprocess.Popen) -> None:
    """Stops a child, and waits until all its threads stand still: on a busy machine they go on for a moment."""
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)


def check_shell(page: str) -> None:
    """Fails unless every fenced block of a Markdown page is shell that bash can parse."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert blocks and page.count("```") == 2 * len(blocks)
    for block in blocks:
        done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, check=False)
        assert done.returncode == 0 and not done.stderr


def versions(root: Path) -> list[str]:
    """Names of the version folders TF Serving would find under a run root."""
    return sorted(path.name for path in root.glob("serving_models/mnist/*"))


def last_run(root: Path) -> Run:
    """The last run of a run root, as ML Metadata has it."""
    from pipeline.config import Config
    from pipeline.runs.root import RunRoot

    return RunRoot(root, Config()).history("digit-rows").run("last")


def states(root: Path) -> dict[str, str]:
    """The steps' states in the last run."""
    return {step.id: step.state for step in last_run(root).steps}


def random_images(count: int, rows: int, columns: int, classes: int, seed: int = 0) -> Images:
    """Noise with labels, for tests of formats rather than of learning."""
    generator = np.random.default_rng(seed)
    return Images(
        generator.integers(0, 256, (count, rows, columns), np.uint8), generator.integers(0, classes, count, np.int64)
    )


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB, a tmpfs where this process may mount one."""
    mount = tmp_path / "disk"
    mount.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(mount)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("mounting a small tmpfs needs root")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)
