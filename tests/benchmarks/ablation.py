"""What each part of the profile `best` is worth: python -m tests.benchmarks.ablation [--epochs 12] [VARIANT …].

Each variant trains on 50,000 digits and is judged on 10,000 others, the end of the train split and the eval split. The
test split is not read. Variants run one after the other.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from pipeline.config import load
from pipeline.local.cli import main as run_local
from pipeline.runs.root import RunRoot
from pipeline.tune.trial import judge

VARIANTS = {
    "best": [],
    "without elastic distortion": ["augmentation.elastic_alpha=0.0"],
    "without augmentation": ["augmentation={}"],
    "without moving average": ["training.ema_momentum=0.0"],
    "without dropout": ["model.dropout=0.0"],
    "with layer normalization": ["model.layer_norm=true"],
    "GRU": ["model.cell=gru"],
    "SimpleRNN": ["model.cell=simple_rnn"],
    "three layers": ["model.layers=3"],
    "one layer": ["model.layers=1"],
    "one direction, 192 units": ["model.bidirectional=false", "model.units=192"],
    "float32": ["training.precision=float32"],
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.ablation", description=__doc__)
    parser.add_argument("variant", nargs="*", choices=[*VARIANTS, []], help="default: all of them")
    parser.add_argument("--epochs", type=int, default=12)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        assert run_local(["--run-root", folder, "--to", "Transform"]) == 0
        run = RunRoot(Path(folder), load("default")).history().run("last")
        outputs = [run.output("Transform", "transform_graph"), run.output("ExampleGen", "examples")]
        transform, examples = (artifact.uri for artifact in outputs if artifact)
        for variant in args.variant or VARIANTS:
            common = [f"training.epochs={args.epochs}", "training.validation_split=0.16666"]
            config = load("best", [*common, *VARIANTS[variant]])
            began = time.perf_counter()
            kept = judge(config, transform, examples, Path(folder, "variants", variant))
            seconds = time.perf_counter() - began
            print(f"| {variant} | {kept['val_loss']:.4f} | {kept['val_accuracy']:.4f} | {seconds:.0f} s |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
