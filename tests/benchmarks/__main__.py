"""make bench: speed and memory of the pipeline, each against its peer in the same run.

python -m tests.benchmarks pipeline    the default pipeline against tfx.examples.mnist, step by step
python -m tests.benchmarks training    images per second against plain Keras fit
python -m tests.benchmarks memory      peak memory of each step at 70,000 and at 280,000 records
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
MNIST = ROOT / "data" / "mnist"
Seconds = dict[str, float]


def run(*command: str) -> tuple[float, str]:
    """Runs a command to its end; returns its peak resident memory in MiB and its output."""
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            errors.seek(0)
            raise SystemExit(f"{' '.join(command)} failed:\n{output}\n{errors.read()}")
    return usage.ru_maxrss / 1024, output


def step_seconds(database: Path, pipeline: str) -> Seconds:
    """Each step's duration in the last run, from ML Metadata."""
    import ml_metadata as mlmd
    from ml_metadata.proto import metadata_store_pb2

    connection = metadata_store_pb2.ConnectionConfig()
    connection.sqlite.filename_uri = str(database)
    store = mlmd.MetadataStore(connection)
    context = store.get_contexts_by_type("pipeline_run")[-1]
    seconds = {}
    for execution in store.get_executions_by_context(context.id):
        node = next(c.name for c in store.get_contexts_by_execution(execution.id) if c.type == "node")
        took = (execution.last_update_time_since_epoch - execution.create_time_since_epoch) / 1000
        seconds[node.removeprefix(f"{pipeline}.")] = took
    return seconds


def beam(seconds: Seconds) -> float:
    """All but the Trainer, whose network is another, and the infra check, which the example does not have."""
    return sum(took for step, took in seconds.items() if not step.startswith(("Trainer", "InfraValidator")))


def pipeline() -> None:
    with tempfile.TemporaryDirectory() as folder:
        run("-m", "pipeline.run_local", "--run-root", f"{folder}/ours")
        ours = step_seconds(Path(folder, "ours", "metadata.db"), "digit-rows")
        print(f"this pipeline: {told(ours)}")
        for how in ("as_shipped", "in_memory"):
            run("-m", "tests.benchmarks.tfx_example", f"{folder}/{how}", how)
            theirs = step_seconds(Path(folder, how, "metadata.db"), "mnist_native_keras")
            print(f"tfx.examples.mnist, {how}: {told(theirs)}")
            ratio = beam(ours) / beam(theirs)
            print(f"  all but Trainer and infra check: {beam(ours):.1f} s / {beam(theirs):.1f} s = {ratio:.2f}")


def told(seconds: Seconds) -> str:
    return ", ".join(f"{step} {took:.1f} s" for step, took in sorted(seconds.items(), key=lambda item: -item[1]))


def training() -> None:
    for cell, profile in (("lstm", "default"), ("simple_rnn", "article-simple-rnn")):
        _, ours = run("-m", "tests.benchmarks.throughput", "ours", profile)
        _, theirs = run("-m", "tests.benchmarks.throughput", "keras", cell)
        left, right = float(ours.split()[-1]), float(theirs.split()[-1])
        print(f"{cell}: profile {profile} {left:,.0f} images/s, plain Keras {right:,.0f}, ratio {left / right:.2f}")


def memory() -> None:
    steps = ("ExampleGen", "StatisticsGen", "Transform", "Trainer", "Evaluator")
    peaks: dict[int, dict[str, float]] = {}
    for times in (1, 4):
        with tempfile.TemporaryDirectory() as folder:
            repeated(times, Path(folder, "data"))
            options = ["--run-root", f"{folder}/root", "--set", f"data.path={folder}/data", "training.epochs=2"]
            # Each step runs in a process of its own, so that its peak is its own.
            for step in steps:
                peaks.setdefault(times, {})[step], _ = run("-m", "pipeline.run_local", *options, "--to", step)
    for step in steps:
        one, four = peaks[1][step], peaks[4][step]
        print(f"{step}: {one:,.0f} MiB at 70,000 records, {four:,.0f} MiB at 280,000, ratio {four / one:.2f}")


def repeated(times: int, folder: Path) -> None:
    """A data folder with every shard of MNIST `times` times."""
    folder.mkdir()
    for shard in MNIST.glob("*.tfrecord.gz"):
        for copy in range(times):
            (folder / shard.name.replace("-of-", f"{copy}-of-")).symlink_to(shard)


def main() -> None:
    measures = {"pipeline": pipeline, "training": training, "memory": memory}
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("measure", nargs="*", choices=[*measures, []], help="default: all of them")
    for name in parser.parse_args().measure or measures:
        measures[name]()


if __name__ == "__main__":
    main()
