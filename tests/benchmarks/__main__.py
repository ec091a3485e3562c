"""make bench: speed and memory of the pipeline, each with a reference in the same run.

python -m tests.benchmarks pipeline    the default pipeline and tfx.examples.mnist, step by step
python -m tests.benchmarks training    images per second of the Trainer and of plain Keras fit
python -m tests.benchmarks scale       time and peak memory of each step at 7,000, 70,000 and 280,000 records
python -m tests.benchmarks days        the choice of a window among 30 and 3,000 days, and ExampleGen
python -m tests.benchmarks history     how fast the history commands answer with 200 recorded runs
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
MNIST = ROOT / "data" / "mnist"
Seconds = dict[str, float]


def run(*command: str) -> tuple[float, str]:
    """Runs a command and waits for its end; returns its peak resident memory in MiB and its output."""
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
    """The sum without Trainer and InfraValidator: the example has another network and no infra check."""
    return sum(took for step, took in seconds.items() if not step.startswith(("Trainer", "InfraValidator")))


def pipeline() -> None:
    with tempfile.TemporaryDirectory() as folder:
        run("-m", "pipeline.run_local", "--run-root", f"{folder}/ours")
        ours = step_seconds(Path(folder, "ours", "metadata.db"), "digit-rows")
        print(f"this pipeline: {format_seconds(ours)}")
        for how in ("as_shipped", "in_memory"):
            run("-m", "tests.benchmarks.tfx_example", f"{folder}/{how}", how)
            theirs = step_seconds(Path(folder, how, "metadata.db"), "mnist_native_keras")
            print(f"tfx.examples.mnist, {how}: {format_seconds(theirs)}")
            ratio = beam(ours) / beam(theirs)
            print(f"  all but Trainer and infra check: {beam(ours):.1f} s / {beam(theirs):.1f} s = {ratio:.2f}")


def format_seconds(seconds: Seconds) -> str:
    return ", ".join(f"{step} {took:.1f} s" for step, took in sorted(seconds.items(), key=lambda item: -item[1]))


def training() -> None:
    for cell, profile in (("lstm", "default"), ("simple_rnn", "article-simple-rnn")):
        _, ours = run("-m", "tests.benchmarks.throughput", "ours", profile)
        _, theirs = run("-m", "tests.benchmarks.throughput", "keras", cell)
        left, right = float(ours.split()[-1]), float(theirs.split()[-1])
        print(f"{cell}: profile {profile} {left:,.0f} images/s, plain Keras {right:,.0f}, ratio {left / right:.2f}")


SCALED_STEPS = (
    "ExampleGen",
    "StatisticsGen",
    "DataGate",
    "Transform",
    "Trainer",
    "Evaluator",
    "InfraValidator",
    "Pusher",
)


def scale() -> None:
    measured = {}
    for name, make in (
        ("7,000", lambda folder: thinned(10, folder)),
        ("70,000", lambda folder: repeated(1, folder)),
        ("280,000", lambda folder: repeated(4, folder)),
        ("70,000 of 56 × 56", lambda folder: thinned(1, folder, zoom=2)),
    ):
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder, "data"))
            size = ["data.rows=56", "data.columns=56"] if "×" in name else []
            easy = [
                "training.epochs=2",
                "gates.accuracy=0.1",
                "gates.class_accuracy=0.0",
                "infra.max_latency_ratio=1000",
            ]
            options = ["--run-root", f"{folder}/root", "--set", f"data.path={folder}/data", *easy, *size]
            # Each step runs in its own process, so the peak memory belongs to this step alone.
            for step in SCALED_STEPS:
                peak, _ = run("-m", "pipeline.run_local", *options, "--to", step)
                seconds = step_seconds(Path(folder, "root", "metadata.db"), "digit-rows")
                measured[step, name] = seconds[step], peak
                print(f"{name} records, {step}: {seconds[step]:.1f} s, {peak:,.0f} MiB", flush=True)
    for step in SCALED_STEPS:
        (few, few_peak), (some, some_peak), (many, many_peak), (large, _) = (
            measured[step, name] for name in ("7,000", "70,000", "280,000", "70,000 of 56 × 56")
        )
        times = f"{few:.1f} s | {some:.1f} s | {many:.1f} s | {many / some:.2f}"
        peaks = f"{few_peak:,.0f} | {some_peak:,.0f} | {many_peak:,.0f} MiB | {many_peak / some_peak:.2f}"
        print(f"| {step} | {times} | {peaks} | {large / some:.2f} |")


def repeated(times: int, folder: Path) -> None:
    """A data folder with `times` copies of every shard of MNIST."""
    folder.mkdir()
    for shard in MNIST.glob("*.tfrecord.gz"):
        for copy in range(times):
            split, rest = shard.name.split("-", 1)
            (folder / f"{split}-{copy}-{rest}").symlink_to(shard)


def thinned(step: int, folder: Path, zoom: int = 1) -> None:
    """A data folder with every `step`-th digit; each pixel becomes `zoom` × `zoom` pixels."""
    from data.example import ExampleSpec
    from data.records import read_split, write_split

    folder.mkdir()
    for split in ("train", "eval", "test"):
        pixels, labels = read_split(MNIST, split, ExampleSpec())
        larger = pixels[::step].repeat(zoom, axis=1).repeat(zoom, axis=2)
        write_split(folder, split, larger, labels[::step], shards=1)


def days() -> None:
    """The choice of a window, and ExampleGen, with few and many days; a day is 700 digits."""
    from data.days import find_window

    with tempfile.TemporaryDirectory() as folder:
        thinned(100, Path(folder, "day"))
        for count in (30, 3000):
            for number in range(count):
                day = Path(folder, str(count), str(number))
                day.mkdir(parents=True)
                for shard in Path(folder, "day").iterdir():  # with names of its own, or the days would be the same
                    split, rest = shard.name.split("-", 1)
                    (day / f"{split}-{number}-{rest}").symlink_to(shard)
            for window in (7, 30):
                path, root = f"{folder}/{count}/{{SPAN}}", f"{folder}/root-{count}-{window}"
                began = time.perf_counter()
                find_window(path, window)
                took = time.perf_counter() - began
                options = [
                    "--run-root",
                    root,
                    "--to",
                    "ExampleGen",
                    "--set",
                    f"data.path={path}",
                    f"data.window={window}",
                ]
                peak, _ = run("-m", "pipeline.run_local", *options)
                seconds = step_seconds(Path(root, "metadata.db"), "digit-rows")["ExampleGen"]
                print(
                    f"| {count:,} | {window} | {1000 * took:.0f} ms | {seconds:.1f} s | {peak:,.0f} MiB |", flush=True
                )


def history() -> None:
    print(run("-m", "tests.benchmarks.history")[1], end="")


def main() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    measures = {"pipeline": pipeline, "training": training, "scale": scale, "days": days, "history": history}
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("measure", nargs="*", choices=[*measures, []], help="default: all of them")
    for name in parser.parse_args().measure or measures:
        measures[name]()


if __name__ == "__main__":
    main()
