"""Our training beside plain PyTorch, in one run: python -m tests.benchmarks.pytorch.

PyTorch is installed into an environment of its own, in a temporary folder or in the folder of --environment. Its
network is nn.LSTM with the same sizes, batch, optimizer and clipping; its digits are in memory. Ours reads and parses
TFRecords as the Trainer does, with one replica and with two that share each batch.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import numpy as np

from tests.benchmarks.__main__ import MNIST, run

TORCH = "torch==2.9.1"
TWO = ("training.replicas=2", "training.batch_size=128")
NETWORKS = {
    "default": ("LSTM(128)", ["--layers=1"]),
    "best": ("2 × bidirectional LSTM(128)", ["--layers=2", "--bidirectional", "--dropout=0.2"]),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.pytorch", description=__doc__)
    parser.add_argument("--environment", type=Path, metavar="DIR", help="keep PyTorch in DIR, about 6 GB")
    args = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryDirectory() as folder:
        python = environment(args.environment or Path(folder, "environment"))
        write_digits(Path(folder, "digits.npz"))
        for profile, (network, options) in NETWORKS.items():
            measured = {}
            for name, overrides in {
                "ours, float32": ["training.precision=float32"],
                "ours, auto": ["training.precision=auto"],
                "ours, float32, two replicas": ["training.precision=float32", *TWO],
                "ours, auto, two replicas": ["training.precision=auto", *TWO],
            }.items():
                _, output = run("-m", "tests.benchmarks.throughput", "ours", profile, *overrides, "augmentation={}")
                measured[name] = float(output.split()[-1])
            for name, more in {"PyTorch, float32": [], "PyTorch, bfloat16": ["--bfloat16"]}.items():
                script = [str(python), str(Path(__file__).with_name("torch_lstm.py")), f"{folder}/digits.npz"]
                done = subprocess.run([*script, *options, *more], check=True, capture_output=True, text=True)
                measured[name] = float(done.stdout.split()[-1])
            best = max(value for name, value in measured.items() if name.startswith("PyTorch"))
            for name, value in measured.items():
                print(f"{network}, {name}: {value:,.0f} images/s, {value / best:.2f} × PyTorch's best", flush=True)


def environment(folder: Path) -> Path:
    """The Python of an environment with PyTorch, made if it is not there."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", TORCH, "numpy"]
        subprocess.run(pip, check=True)
    return python


def write_digits(file: Path) -> None:
    from data.example import ExampleSpec
    from data.records import read_split

    pixels, labels = read_split(MNIST, "train", ExampleSpec())
    np.savez(file, pixels=pixels, labels=labels)


if __name__ == "__main__":
    sys.exit(main())
