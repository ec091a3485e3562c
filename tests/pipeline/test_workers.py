"""Two training hosts, as two processes on loopback: the same model as one process, and what happens if one is lost."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.exit_codes import FAILED, PUSHED
from serving.launch import free_port
from tests import processes
from tests.conftest import QUICK, versions
from tests.pipeline.few_digits import SMALL, Prepared, prepared

pytestmark = pytest.mark.slow
EPOCH = re.compile(r"epoch (\d)/\d  loss (\S+)  accuracy (\S+)  val_loss (\S+)  val_accuracy (\S+)")
# A training that is long enough to lose a host.
SETTINGS = (
    SMALL,
    "training.epochs=5",
    "training.batch_size=8",
    "training.steps_per_execution=1",
    "model.units=16",
    "gates.accuracy=0.0",
    "gates.class_accuracy=0.0",
)
PATIENCE = 600  # seconds a step may take on a busy machine


class Host:
    """A process of `python -m pipeline.run_local`, what it has shown so far, and how it ended."""

    def __init__(
        self, log: Path, root: Path, folder: Path, overrides: tuple[str, ...], config: dict, *options: str
    ) -> None:
        arguments = ["--run-root", str(root), *options, "--set", f"data.path={folder}", *QUICK, *SETTINGS, *overrides]
        environment = {**os.environ, "TF_CONFIG": json.dumps(config)}
        self._log = log
        log.touch()
        self.process = processes.start(
            log, processes.python, ["-m", "pipeline.run_local", *arguments], environment=environment
        )

    @property
    def text(self) -> str:
        return self._log.read_text()

    def wait_for(self, words: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while words not in self.text:
            assert self.process.is_alive(), f"ended before {words!r}:\n{self.text}"
            assert time.monotonic() < deadline, self.text
            time.sleep(0.05)

    def end(self, expected: int) -> str:
        self.process.join(PATIENCE)
        assert self.process.exitcode == expected, self.text
        assert "Traceback" not in self.text
        return self.text


@pytest.fixture
def few(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepared(tmp_path_factory.getbasetemp())


@pytest.fixture
def start(tmp_path: Path, few: Prepared) -> Iterator[Callable[[], list[Host]]]:
    """start(): a chief and its helper."""
    started: list[Host] = []

    def start() -> list[Host]:
        cluster = {"worker": [f"127.0.0.1:{free_port()}" for _ in range(2)]}
        for index in range(2):
            config = {"cluster": cluster, "task": {"type": "worker", "index": index}}
            started.append(Host(tmp_path / f"{len(started)}.txt", few.root, few.data, (), config))
        return started[-2:]

    yield start
    for host in started:
        host.process.kill()
        host.process.join()


def curve(text: str) -> dict[int, list[float]]:
    """Each epoch's figures: the losses and the accuracies."""
    return {int(number): [float(figure) for figure in figures] for number, *figures in EPOCH.findall(text)}


def test_two_hosts_that_are_lost_in_turn_train_the_model_of_one_process(
    tmp_path: Path, few: Prepared, start: Callable[[], list[Host]]
) -> None:
    root = few.root
    chief, helper = start()
    helper.wait_for("Worker 1 of 1: waits for the Trainer of the chief 127.0.0.1:")
    chief.wait_for("epoch 1/5")
    time.sleep(0.5)
    helper.process.kill()
    lost = re.search(r"A training host was lost in epoch (\d) of 5: .+ Start the same command", chief.end(FAILED))
    found = curve(chief.text)
    finished = len(found)
    assert lost and int(lost[1]) == finished + 1
    assert versions(root) == []

    chief, helper = start()
    chief.wait_for(f"Continues a training that was interrupted after epoch {finished}.")
    chief.wait_for(f"epoch {finished + 1}/5")
    chief.process.kill()
    assert re.search(r"Worker 1 of 1: A training host was lost in epoch \d of 5: ", helper.end(FAILED))
    found |= curve(chief.text)

    chief, helper = start()
    text = chief.end(PUSHED)
    assert "the training has ended" in helper.end(PUSHED) and "epoch" not in helper.text
    assert re.search(r"interrupted after epoch \d\.", text)
    assert len(versions(root)) == 1
    assert len(list(root.glob("artifacts/Trainer/model/*/Format-Serving/saved_model.pb"))) == 1
    assert not list((root / "artifacts" / "Trainer" / "backup").iterdir())
    assert len(list((root / "logs").iterdir())) == 1 + 3, "the helper has no log of its own"
    assert not list(root.rglob("workertemp*"))

    found |= curve(text)
    alone = Host(tmp_path / "alone.txt", root, few.data, ("training.replicas=2",), {}, "--to", "Trainer")
    expected = curve(alone.end(PUSHED))
    assert list(expected) == [1, 2, 3, 4, 5] and {1, 5} <= set(found)
    for epoch, figures in found.items():
        assert figures == pytest.approx(expected[epoch], abs=2e-3)
