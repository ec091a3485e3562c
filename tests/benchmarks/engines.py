"""python -m tests.benchmarks.engines [--copies N] [--to STEP]: the Beam steps in memory and on Prism, in one run.

Prism is Beam's portable runner in Go (`make prism`). Its workers are a pool of their own, on this machine. For each
step: seconds, peak memory of all processes together, and the files that ExampleGen wrote per split.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import threading
import time
from contextlib import nullcontext
from pathlib import Path

from tests.benchmarks.__main__ import repeated, run, step_seconds
from tests.conftest import install_package
from tests.pipeline.portable import PRISM, Engine, engine

STEPS = ("ExampleGen", "StatisticsGen", "Transform", "Evaluator")


class Memory(threading.Thread):
    """The largest sum, in MiB, of the resident memory of the job server, the pool and its workers."""

    def __init__(self, measured: Engine) -> None:
        super().__init__(daemon=True)
        self._engine, self._over, self.peak = measured, threading.Event(), 0.0

    def run(self) -> None:
        while not self._over.is_set():
            pids = [self._engine.server.pid, self._engine.pool.pid, *self._engine.workers()]
            self.peak = max(self.peak, sum(_resident(pid) for pid in pids))
            time.sleep(0.2)

    def end(self) -> float:
        self._over.set()
        self.join()
        return self.peak


def _resident(pid: int) -> float:
    try:
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:  # it ended
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


def measure(on: Engine | None, root: Path, data: Path, last: str) -> dict[str, str]:
    """Runs the steps to `last`, each in a process of its own; returns a cell of the table for each."""
    cells = {}
    options = ["--run-root", str(root), "--set", f"data.path={data}", "training.epochs=2", "gates.accuracy=0.9"]
    for step in STEPS[: STEPS.index(last) + 1]:
        if step == "Evaluator":  # the Trainer does not count
            run("-m", "pipeline.run_local", *options, "gates.class_accuracy=0.8", "--to", "Baseline")
        memory = Memory(on) if on else None
        if memory:
            memory.start()
        peak, _ = run(
            *("-m", "pipeline.run_local", *options, "gates.class_accuracy=0.8", *(on.overrides if on else ())),
            *("--to", step),
        )
        peak += memory.end() if memory else 0.0
        cells[step] = f"{step_seconds(root / 'metadata.db', 'digit-rows')[step]:.1f} s, {peak:,.0f} MiB"
        print(f"{'Prism' if on else 'in memory'}, {step}: {cells[step]}", flush=True)
    files = {split.name: len(list(split.iterdir())) for split in root.glob("artifacts/ExampleGen/examples/*/Split-*")}
    cells["files per split"] = ", ".join(
        f"{name.removeprefix('Split-')} {count}" for name, count in sorted(files.items())
    )
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.engines", description=__doc__)
    parser.add_argument("--copies", type=int, default=1, help="of the 70,000 digits (default: 1)")
    parser.add_argument("--to", choices=STEPS, default="Evaluator", help="last step (default: Evaluator)")
    args = parser.parse_args()
    if not PRISM:
        raise SystemExit("Prism is not built: make prism, which needs Go")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        repeated(args.copies, folder / "data")
        columns = {}
        for title in ("in memory", "Prism"):
            started = (
                engine(folder / "engine", install_package(folder), prism=True) if title == "Prism" else nullcontext()
            )
            with started as on:
                columns[title] = measure(on, folder / title, folder / "data", args.to)
    print(f"\n| {args.copies * 70_000:,} records | in memory | Prism, one external worker |\n| --- | --- | --- |")
    for row in columns["Prism"]:
        print(f"| {row} | {columns['in memory'][row]} | {columns['Prism'][row]} |")


if __name__ == "__main__":
    main()
