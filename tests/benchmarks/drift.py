"""How often the monitor alarms without a reason, and how often with one: python -m tests.benchmarks.drift.

A model is trained by the pipeline on 40,000 digits of MNIST. Neither training nor early stopping sees the 25,000 of its
test split: the 10,000 test digits and the last 15,000 of the training file. For each stream another random half of
them is the reference, and the stream comes from the other half, so they never overlap. The same streams are given to
TensorFlow Data Validation's drift comparator, with the thresholds of Vertex AI's documented example, and to Evidently
with its defaults, in an environment of its own. About half an hour on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from data.example import ExampleSpec
from data.reference import summarize
from serving.monitor.verdict import ENOUGH, judge
from tests.benchmarks.__main__ import MNIST, run
from tests.benchmarks.streams import NONE, Streams

EVIDENTLY = ("evidently==0.7.23", "pandas==2.3.3")  # it does not import with pandas 3
SIZES = (200, 1_000, 10_000)
DROP = 0.005
Found = dict[str, dict[tuple[str, int], float]]
"""The share of streams with an alarm: method → shift and size → share."""


def write_data(folder: Path) -> None:
    """The data folder: the last 15,000 training digits are in the test split."""
    from data.records import read_split, write_split

    folder.mkdir(parents=True)
    (pixels, labels), evaluation, test = (
        read_split(MNIST, split, ExampleSpec()) for split in ("train", "eval", "test")
    )
    write_split(folder, "train", pixels[:40_000], labels[:40_000], shards=4)
    write_split(folder, "eval", *evaluation, shards=1)
    held_out = [np.concatenate(pair) for pair in zip(test, (pixels[40_000:], labels[40_000:]), strict=True)]
    write_split(folder, "test", *held_out, shards=1)


def students() -> np.ndarray:
    """The positions in the test split of digits by students, by QMNIST's labels of writers.

    C. Yadav and L. Bottou, "Cold case: the lost MNIST digits", NeurIPS 2019: the first 5,001 test digits, and the even
    rows of the training file.
    """
    return np.concatenate([np.arange(5_001), 10_000 + np.arange(0, 15_000, 2)])


def shifted(pixels: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """The same digits under each shift, uint8 [N, 28, 28]."""
    from scipy import ndimage

    levels = pixels.astype(np.float32)
    noise = np.random.default_rng(0).normal(0, 60, pixels.shape)
    shifts: dict[str, Callable[[], np.ndarray]] = {
        NONE: lambda: levels,
        "1 pixel": lambda: ndimage.shift(levels, (0, 0, 1), order=0),
        "2 pixels": lambda: ndimage.shift(levels, (0, 0, 2), order=0),
        "rotation": lambda: ndimage.rotate(levels, 20, axes=(1, 2), reshape=False, order=1),
        "blur": lambda: ndimage.gaussian_filter(levels, (0, 1.5, 1.5)),
        "noise": lambda: levels + noise,
        "inversion": lambda: 255 - levels,
    }
    for name, change in shifts.items():
        yield name, np.rint(np.clip(change(), 0, 255)).astype(np.uint8)


def small_digits() -> tuple[np.ndarray, np.ndarray]:
    """The 1,797 digits of scikit-learn, 8 × 8, enlarged to 20 × 20 in the middle of 28 × 28, as MNIST's lie."""
    from PIL import Image
    from sklearn.datasets import load_digits

    found = load_digits()
    large = [Image.fromarray((image * 15.9375).astype(np.uint8)).resize((20, 20), 2) for image in found.images]
    return np.pad(np.stack([np.asarray(image) for image in large]), ((0, 0), (4, 4), (4, 4))), found.target


def write_predictions(model: Path, data: Path, file: Path) -> None:
    """The file of `Streams`."""
    import tensorflow as tf

    from data.records import read_split

    signature = tf.saved_model.load(str(model)).signatures["predict_images"]

    def predict(images: np.ndarray) -> np.ndarray:
        parts = range(0, len(images), 500)
        answers = [signature(images=tf.constant(images[start : start + 500]))["probabilities"] for start in parts]
        return np.concatenate(answers)

    pixels, labels = read_split(data, "test", ExampleSpec())
    saved = {"members students": students()}
    for name, images in shifted(pixels):
        saved |= {f"probabilities {name}": predict(images), f"labels {name}": labels}
    images, labels = small_digits()
    saved |= {"probabilities 8 × 8": predict(images), "labels 8 × 8": labels}
    shifts = [NONE, "students", "1 pixel", "2 pixels", "rotation", "blur", "noise", "inversion", "8 × 8"]
    np.savez(file, shifts=np.array(shifts), **saved)


def ours(streams: Streams, counts: dict[str, int]) -> Found:
    """The monitor's test and its rule; and prints how far the estimated accuracy is off."""
    test, rule = dict[tuple[str, int], float](), dict[tuple[str, int], float]()
    print(f"{'shift':10} {'n':>6} {'true':>6} {'estimated':>9} {'mean error':>10} {'in interval':>11}", flush=True)
    for shift, count in counts.items():
        for size in SIZES:
            rows = []
            for number in range(count):
                reference = summarize(*streams.reference(number), ExampleSpec())
                probabilities, labels = streams.stream(shift, number, size)
                verdict = judge(reference, probabilities, np.zeros(size, np.int32) + 1, labels, DROP)
                assert verdict.whole is not None and verdict.whole.true is not None
                true, found = verdict.whole.true.share, verdict.whole.estimate
                low, high = found.interval
                alarms = verdict.word in ("changed", "retrain"), verdict.word == "retrain"
                rows.append((*alarms, true, found.accuracy, abs(found.accuracy - true), low <= true <= high))
            alarm, retrain, true, estimated, error, within = np.mean(np.array(rows, float), axis=0)
            test[shift, size] = alarm
            if size >= ENOUGH:
                rule[shift, size] = retrain
            print(f"{shift:10} {size:6} {true:6.4f} {estimated:9.4f} {error:10.4f} {within:11.2f}", flush=True)
    return {"monitor, test": test, "monitor, retrain": rule}


def tfdv(streams: Streams, counts: dict[str, int]) -> Found:
    """TensorFlow Data Validation's drift comparator of the answers and of their confidence."""
    import pandas as pd
    import tensorflow_data_validation as tfdv

    def statistics(probabilities: np.ndarray) -> object:
        classes = probabilities.argmax(axis=1).astype(str)
        return tfdv.generate_statistics_from_dataframe(
            pd.DataFrame({"class": classes, "confidence": probabilities.max(axis=1)}), n_jobs=1
        )

    found: Found = {"TFDV, L∞ of the classes > 0.01": {}, "TFDV, JS of the confidence > 0.02": {}}
    for shift, count in counts.items():
        for size in SIZES:
            alarms = []
            for number in range(count):
                before = statistics(streams.reference(number)[0])
                schema = tfdv.infer_schema(before)
                tfdv.get_feature(schema, "class").drift_comparator.infinity_norm.threshold = 0.01
                comparator = tfdv.get_feature(schema, "confidence").drift_comparator
                comparator.jensen_shannon_divergence.threshold = 0.02
                now = statistics(streams.stream(shift, number, size)[0])
                measured = tfdv.validate_statistics(now, schema, previous_statistics=before).drift_skew_info
                over = {
                    info.path.step[0]: any(m.value > m.threshold for m in info.drift_measurements) for info in measured
                }
                alarms.append((over["class"], over["confidence"]))
            for values, share in zip(found.values(), np.mean(alarms, axis=0).tolist(), strict=True):
                values[shift, size] = share
    return found


def evidently(python: Path, file: Path, counts: dict[str, int]) -> Found:
    """Evidently's defaults for the answers and the probabilities."""
    script = str(Path(__file__).with_name("evidently_drift.py"))
    given = json.dumps({"file": str(file), "sizes": SIZES, "counts": counts})
    done = subprocess.run([str(python), script, given], check=True, capture_output=True, text=True)
    rows = json.loads(done.stdout.splitlines()[-1])
    return {
        method: {(shift, size): share for name, shift, size, share in rows if name == method}
        for method in dict.fromkeys(row[0] for row in rows)
    }


def environment(folder: Path) -> Path:
    """The Python of an environment with Evidently, made if it is not there."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *EVIDENTLY]
        subprocess.run(pip, check=True)
    return python


def show(found: Found, shifts: list[str]) -> None:
    """The share of streams with an alarm, as a table in Markdown."""
    print(f"| alarms | n | {' | '.join(shifts)} |\n| --- | --- |{' --- |' * len(shifts)}")
    for method, shares in found.items():
        for size in SIZES:
            if (NONE, size) in shares:
                cells = (
                    f"{shares[shift, size]:.2f}" if shift != NONE else f"{shares[shift, size]:.3f}" for shift in shifts
                )
                print(f"| {method} | {size:,} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.drift", description=__doc__)
    parser.add_argument("--folder", type=Path, metavar="DIR", help="keep the model and its predictions in DIR")
    parser.add_argument("--environment", type=Path, metavar="DIR", help="keep Evidently in DIR")
    parser.add_argument("--streams", type=int, default=300, help="without a shift (default: %(default)s)")
    parser.add_argument("--shifted", type=int, default=50, help="of each shift (default: %(default)s)")
    args = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.folder or Path(scratch)
        data, root, file = folder / "data", folder / "root", folder / "predictions.npz"
        if not file.exists():
            write_data(data)
            run("-m", "pipeline.run_local", "--run-root", str(root), "--set", f"data.path={data}")
            (model,) = (root / "serving_models" / "mnist").iterdir()
            write_predictions(model, data, file)
        streams = Streams(file)
        counts = {NONE: args.streams, **dict.fromkeys(streams.shifts, args.shifted)}
        found = ours(streams, counts)
        found |= tfdv(streams, counts)
        found |= evidently(environment(args.environment or Path(scratch, "environment")), file, counts)
        show(found, [NONE, *streams.shifts])


if __name__ == "__main__":
    sys.exit(main())
