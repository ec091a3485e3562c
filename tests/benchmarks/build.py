"""Time and peak memory of data.build: python -m tests.benchmarks.build.

It builds 50,000 and 500,000 images of 28 × 28 pixels from IDX files, and fewer from class folders, each in a process
of its own.
"""

from __future__ import annotations

import gzip
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tests.benchmarks.__main__ import run

BLOCK = 1000


def idx(folder: Path, count: int, zipped: bool) -> None:
    """Four IDX files: `count` training images, 1,000 test images. This process must stay small: it writes blocks."""
    generator = np.random.default_rng(0)
    ink = generator.integers(0, 256, (BLOCK, 28, 28), np.uint8) * (generator.random((BLOCK, 28, 28)) < 0.2)
    pixels, labels = ink.astype(np.uint8).tobytes(), bytes(generator.integers(0, 10, BLOCK, np.uint8))
    for prefix, size in (("train", count), ("t10k", BLOCK)):
        for name, numbers, block in (
            ("images-idx3", (0x803, size, 28, 28), pixels),
            ("labels-idx1", (0x801, size), labels),
        ):
            path = folder / f"{prefix}-{name}-ubyte"
            with gzip.open(f"{path}.gz", "wb", compresslevel=1) if zipped else path.open("wb") as file:
                file.write(np.array(numbers, ">u4").tobytes())
                for _ in range(size // BLOCK):
                    file.write(block)


def classes(folder: Path, count: int) -> None:
    """Ten class folders with `count` PNG files of 28 × 28 pixels."""
    generator = np.random.default_rng(0)
    for index in range(count):
        path = folder / f"class-{index % 10}" / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (28, 28), np.uint8)).save(path)


def compare(title: str, make: Callable[[Path, int], None], counts: tuple[int, int], *options: str) -> None:
    peaks = []
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "source")
            source.mkdir()
            make(source, count)
            began = time.perf_counter()
            peak, _ = run("-m", "data.build", options[0], str(source), "--out", f"{folder}/out", *options[1:])
            print(f"{title}, {count:,} images: {time.perf_counter() - began:.1f} s, {peak:,.0f} MiB", flush=True)
            peaks.append(peak)
    print(f"  {counts[1] // counts[0]} × the images need {peaks[1] / peaks[0]:.2f} × the memory", flush=True)


def main() -> None:
    few, many = 50_000, 500_000
    compare("IDX files", lambda folder, count: idx(folder, count, zipped=False), (few, many), "--idx")
    compare("IDX files, shuffled", lambda folder, count: idx(folder, count, False), (few, many), "--idx", "--seed", "1")
    compare("gzipped, shuffled", lambda folder, count: idx(folder, count, True), (few, many), "--idx", "--seed", "1")
    compare("class folders", classes, (2_000, 20_000), "--folder", "--seed", "1", "--eval", "200", "--test", "200")


if __name__ == "__main__":
    main()
