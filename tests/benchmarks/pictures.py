"""How well pictures are read: python -m tests.benchmarks.pictures [BASE_PATH]

300 test digits under some twenty conditions, by `python -m serving.client predict` and by the demo, without an option,
from the newest pushed model (default: runs/serving_models/mnist, after `make run`). With `--fits`: a folder of pictures
is built with each fit, and the accuracy of the pipeline on the test files is compared with the client's.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from serving.launch import model_server, wait_until_available
from tests.benchmarks.__main__ import MNIST, ROOT, run
from tests.benchmarks.conditions import CONDITIONS, save
from tests.conftest import read_images
from tests.serving.demos import demo

GOALS = {"grain": 0.9, "ruled": 0.9, "squared": 0.9}  # 0.95 for the others
KIND = {".jpg": "image/jpeg", ".png": "image/png"}


@contextmanager
def server(base_path: Path, model: str, scratch: str) -> Iterator[str]:
    """A model server, and its address."""
    flags = [f"--model_name={model}", f"--model_base_path={base_path}"]
    with model_server(flags, Path(scratch, "server.log")) as running:
        wait_until_available(running, model)
        yield running.address


def by_client(address: str, files: list[Path], model: str) -> list[int]:
    """The classes that the command line prints."""
    _, output = run(
        "-m", "serving.client", "predict", *map(str, files), "--target", address, "--model", model, "--json"
    )
    return [answer["class"] for answer in json.loads(output)]


def by_demo(url: str, files: list[Path]) -> list[int]:
    found = []
    for file in files:
        headers = {"Content-Type": KIND[file.suffix]}
        request = urllib.request.Request(f"{url}/api/read", file.read_bytes(), headers)
        with urllib.request.urlopen(request) as answer:
            found.append(json.loads(answer.read())["class"])
    return found


def conditions(base_path: Path, count: int) -> None:
    chosen = np.random.default_rng(0).permutation(10_000)[:count]
    test = read_images(MNIST, "test").take(chosen)
    with (
        tempfile.TemporaryDirectory() as scratch,
        server(base_path, "mnist", scratch) as address,
        demo("--target", address) as page,
    ):
        print(f"{'picture':36} {'client':>7} {'demo':>7}")
        for name in CONDITIONS:
            files = [
                save(name, pixels, np.random.default_rng(index), Path(scratch, str(index)))
                for index, pixels in enumerate(test.pixels)
            ]
            client, seen = (
                float((np.array(classes) == test.labels).mean())
                for classes in (by_client(address, files, "mnist"), by_demo(page.url, files))
            )
            goal = next((least for word, least in GOALS.items() if word in name), 0.95)
            missed = "" if client >= goal and client == seen else f"   goal: {goal}, and the same in both ways"
            print(f"{name:36} {client:7.3f} {seen:7.3f}{missed}", flush=True)


def fits() -> None:
    """A folder of pictures of several sizes, one data set for each fit."""
    train = read_images(MNIST, "train", count=3000)
    for fit in ("digit", "letterbox", "stretch"):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            for part, images in (("train", train), ("test", read_images(MNIST, "test", count=500))):
                for index, (pixels, label) in enumerate(zip(images.pixels, images.labels, strict=True)):
                    place = folder / "pictures" / part / str(label) / str(index)
                    place.parent.mkdir(parents=True, exist_ok=True)
                    save("on a 4:3 page" if index % 3 else "on a page", pixels, np.random.default_rng(index), place)
            built = ["-m", "data.build", str(folder / "pictures"), "--out", str(folder / "data"), "--eval", "500"]
            run(*built, "--fit", fit, "--size", "28x28")
            gates = ["gates.accuracy=0.2", "gates.class_accuracy=0.0", "training.epochs=4", "training.batch_size=64"]
            profile = ["--profile", str(folder / "data" / "profile.toml"), "--run-root", str(folder / "runs")]
            _, shown = run("-m", "pipeline.run_local", *profile, "--set", *gates)
            accuracy = re.search(r"Test accuracy +(\S+)", shown)
            (base_path,) = (folder / "runs" / "serving_models").iterdir()
            files = sorted((folder / "pictures" / "test").rglob("*.png"))
            with server(base_path, base_path.name, scratch) as address:
                found = by_client(address, files, base_path.name)
            right = np.mean([int(file.parent.name) == label for file, label in zip(files, found, strict=True)])
            print(f"{fit:10} the pipeline {accuracy[1] if accuracy else 'none'}, the client {right:.4f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.pictures", description=__doc__)
    default = ROOT / "runs" / "serving_models" / "mnist"
    parser.add_argument("base_path", nargs="?", type=Path, default=default, help="of the pushed models")
    parser.add_argument("--count", type=int, default=300, help="digits for each condition (default: %(default)s)")
    parser.add_argument("--fits", action="store_true", help="compare the pipeline with the client for each fit")
    options = parser.parse_args()
    if options.fits:
        fits()
    else:
        conditions(options.base_path.absolute(), options.count)


if __name__ == "__main__":
    main()
