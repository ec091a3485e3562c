"""Batch prediction: python -m tests.benchmarks.predict [VERSION_FOLDER] [--times N]

All 70,000 digits by `python -m pipeline.predict` and by TFX's BulkInferrer; 10,000 PNG files; then N times the digits
(default: 20, which is 1,400,000). Each in a process of its own, with its start; the model is the newest pushed one
(default: below runs/serving_models/mnist, after `make run`).
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

from PIL import Image

from components.version_folder import version_folders
from data.splits import SPLITS
from tests.benchmarks.__main__ import MNIST, ROOT, run
from tests.conftest import read_images


def peer(folder: str, model: str, out: str) -> None:
    """TFX's BulkInferrer on the shards in `folder`, with Beam in memory, as ours."""
    from tfx.components.bulk_inferrer.executor import Executor
    from tfx.proto import bulk_inferrer_pb2
    from tfx.types import artifact_utils, standard_artifacts
    from tfx.utils import path_utils, proto_utils

    from pipeline.engines.settings import Beam, pipeline_args

    examples, trained = standard_artifacts.Examples(), standard_artifacts.Model()
    result = standard_artifacts.InferenceResult()
    examples.uri, trained.uri, result.uri = (f"{out}/{name}" for name in ("examples", "model", "result"))
    examples.split_names = artifact_utils.encode_split_names(["all"])
    for link, target in ((f"{examples.uri}/Split-all", folder), (path_utils.serving_model_dir(trained.uri), model)):
        Path(link).parent.mkdir(parents=True)
        Path(link).symlink_to(Path(target).resolve())
    properties = {
        "data_spec": proto_utils.proto_to_json(bulk_inferrer_pb2.DataSpec()),
        "model_spec": proto_utils.proto_to_json(bulk_inferrer_pb2.ModelSpec()),
    }
    context = Executor.Context(beam_pipeline_args=pipeline_args(Beam()), tmp_dir=f"{out}/tmp")
    inputs = {"examples": [examples], "model": [trained]}
    Executor(context).Do(inputs, {"inference_result": [result]}, properties)


def measured(title: str, count: int, *command: str) -> tuple[float, float]:
    """Seconds, and peak memory in MiB, of a command that reads `count` inputs."""
    began = time.perf_counter()
    peak, _ = run(*command)
    seconds = time.perf_counter() - began
    print(f"{title:44} {count:>9,} {seconds:8.1f} s {count / seconds:9,.0f}/s {peak:8,.0f} MiB", flush=True)
    return seconds, peak


def shards(folder: Path, times: int) -> Path:
    """Links to all shards of MNIST, `times` times each. They are in one split, as a nightly batch is."""
    folder.mkdir()
    found = sorted(file for split in SPLITS for file in MNIST.glob(f"{split}-*.tfrecord.gz"))
    for number in range(times * len(found)):
        (folder / f"batch-{number:05d}.tfrecord.gz").symlink_to(found[number % len(found)])
    return folder


def pictures(folder: Path, count: int) -> Path:
    for number, pixels in enumerate(read_images(MNIST, "test", count=count).pixels):
        path = folder / f"{number // 1000}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.predict", description=__doc__)
    base = ROOT / "runs" / "serving_models" / "mnist"
    parser.add_argument("model", nargs="?", help="version folder (default: the newest pushed one)")
    parser.add_argument("--times", type=int, default=20, help="how often 70,000 for the large job (default: 20)")
    parser.add_argument("--peer", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        peer(options.peer[0], options.model, options.peer[1])
        return
    model = options.model or next(iter(version_folders(str(base))))
    ours = ("-m", "pipeline.predict", "--model", model)
    with tempfile.TemporaryDirectory() as scratch:
        few = shards(Path(scratch, "few"), 1)
        theirs, _ = measured(
            "TFX's BulkInferrer",
            70_000,
            "-m",
            "tests.benchmarks.predict",
            model,
            "--peer",
            str(few),
            f"{scratch}/peer",
        )
        seconds, small = measured("pipeline.predict", 70_000, *ours, str(few), "-o", f"{scratch}/few-out")
        print(f"  {theirs / seconds:.2f} × as fast", flush=True)
        logs = ("-o", f"{scratch}/logs", "--format", "prediction-log")
        measured("pipeline.predict, to PredictionLogs", 70_000, *ours, str(few), *logs)
        png = pictures(Path(scratch, "png"), 10_000)
        measured("pipeline.predict, PNG files", 10_000, *ours, str(png), "-o", f"{scratch}/png-out")
        shutil.rmtree(png)
        many = shards(Path(scratch, "many"), options.times)
        count = 70_000 * options.times
        _, large = measured("pipeline.predict", count, *ours, str(many), "-o", f"{scratch}/many-out")
        print(f"  {options.times} × the inputs need {large / small:.2f} × the memory", flush=True)


if __name__ == "__main__":
    main()
