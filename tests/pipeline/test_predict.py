"""python -m pipeline.predict: what it reads, what it writes, and how it ends."""

from __future__ import annotations

import csv
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image

from data.example import serialize as serialize_labelled
from data.pictures import Reading, read
from data.readers import Images
from pipeline.exit_codes import FAILED, INTERRUPTED, PUSHED, WRONG_USE
from pipeline.predict.__main__ import main
from tests.conftest import MNIST, ROOT, Outcome, captured, read_images, write_folder
from tests.pipeline.portable import engine, needs_prism
from tests.serving.models import LABELS, save_digits, serialize

DIGITS = 300


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 7 of a small model with this project's signatures."""
    folder = tmp_path_factory.mktemp("models") / "7"
    save_digits(folder, seed=1)
    return folder


@pytest.fixture(scope="module")
def digits() -> Images:
    return read_images(MNIST, "test", count=DIGITS)


@pytest.fixture(scope="module")
def expected(model: Path, digits: Images) -> np.ndarray:
    """The probabilities of `digits`, float32 [300, 10]."""
    loaded = tf.saved_model.load(str(model))
    return loaded.signatures["predict_images"](images=tf.constant(digits.pixels))["probabilities"].numpy()


@pytest.fixture
def predict(model: Path, tmp_path: Path) -> Callable[..., Outcome]:
    def run(*arguments: str | Path, out: Path = tmp_path / "out", model: Path = model) -> Outcome:
        given = [*map(str, arguments), "-o", str(out), "--model", str(model)]
        with captured() as file, patch.object(sys, "argv", ["predict"]):
            code = main(given)
            file.flush()
            file.seek(0)
            return Outcome(code, file.read())

    return run


def check(out: Path, expected: np.ndarray, ids: list[str]) -> pd.DataFrame:
    found = pd.read_parquet(out)
    assert found["id"].tolist() == ids
    probabilities = np.stack(found["probabilities"])
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    assert found["class_id"].tolist() == probabilities.argmax(axis=1).tolist()
    assert found["class_name"].tolist() == [LABELS[label] for label in found["class_id"]]
    np.testing.assert_array_equal(found["confidence"], probabilities.max(axis=1))
    assert set(found["model_version"]) == {7}
    return found


def write_shards(folder: Path, records: list[list[bytes]]) -> Path:
    folder.mkdir(parents=True)
    for number, shard in enumerate(records):
        path = folder / f"test-{number:05d}-of-{len(records):05d}.tfrecord.gz"
        with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
            for record in shard:
                writer.write(record)
    return folder


def files(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir() if path.name[0] not in "._")


def test_a_data_folder_and_one_split(
    digits: Images, expected: np.ndarray, predict: Callable[..., Outcome], tmp_path: Path
) -> None:
    parts = {split: digits.take(slice(0, 20)) for split in ("train", "eval")} | {"test": digits}
    folder = write_folder(tmp_path / "data", parts)
    outcome = predict(folder / "test-*", out=tmp_path / "split")
    assert outcome.code == PUSHED and "TFRecords of the model's examples" in outcome.text
    name = "test-00000-of-00001.tfrecord.gz"
    found = check(tmp_path / "split", expected, [f"{name}:{number}" for number in range(DIGITS)])
    assert found["label"].tolist() == digits.labels.tolist()
    assert predict(folder, out=tmp_path / "all").code == PUSHED
    assert files(tmp_path / "all") == [
        "eval-00000-of-00001.parquet",
        "test-00000-of-00001.parquet",
        "train-00000-of-00002.parquet",
        "train-00001-of-00002.parquet",
    ]
    (folder / "train-00001-of-00002.tfrecord.gz").unlink()
    outcome = predict(folder, out=tmp_path / "lacks")
    assert outcome.code == FAILED and "lacks a part of the train split" in outcome.text
    assert not (tmp_path / "lacks").exists()


def test_unlabelled_records_keep_their_ids(
    digits: Images, expected: np.ndarray, predict: Callable[..., Outcome], tmp_path: Path
) -> None:
    def record(number: int) -> bytes:
        example = tf.train.Example.FromString(serialize(digits.pixels[number]))
        example.features.feature["id"].bytes_list.value.append(f"scan/{number:04d}.png".encode())
        return example.SerializeToString()

    folder = write_shards(tmp_path / "scans", [[record(number) for number in range(3)]])
    assert predict(folder).code == PUSHED
    found = check(tmp_path / "out", expected[:3], [f"scan/{number:04d}.png" for number in range(3)])
    assert "label" not in found


def test_pictures_are_read_as_in_training(
    digits: Images, expected: np.ndarray, predict: Callable[..., Outcome], tmp_path: Path
) -> None:
    """A folder, a glob and a list: as they are, and drawn dark on light in another size."""
    folder = tmp_path / "scans"
    for number in range(6):
        path = folder / ("a" if number % 2 else "b") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits.pixels[number]).save(path)
    large = Image.fromarray(255 - digits.pixels[6]).resize((90, 90))
    large.save(folder / "large.jpg")
    (folder / "empty.png").touch()
    (folder / "torn.png").write_bytes((folder / "b" / "0.png").read_bytes()[:60])
    outcome = predict(folder, "--max-bad", "2")
    assert outcome.code == PUSHED and "2 inputs could not be read" in outcome.text, outcome.text
    found = pd.read_parquet(tmp_path / "out").set_index("id")
    assert "label" not in found and len(found) == 7
    for number in range(6):
        row = found.loc[f"{'a' if number % 2 else 'b'}/{number}.png"]
        np.testing.assert_allclose(row["probabilities"], expected[number], atol=1e-5)
    with Image.open(folder / "large.jpg") as image:
        drawn, _ = read(np.asarray(image.convert("L"), np.float32), Reading((28, 28), "digit"))
    loaded = tf.saved_model.load(outcome.text.partition("model in ")[2].partition(".\n")[0])
    answer = loaded.signatures["predict_images"](images=tf.constant(drawn[None]))["probabilities"].numpy()[0]
    np.testing.assert_allclose(found.loc["large.jpg"]["probabilities"], answer, atol=1e-5)
    with (tmp_path / "out" / "_errors-part-00000-of-00001.csv").open() as file:
        assert [row["id"] for row in csv.DictReader(file)] == ["empty.png", "torn.png"]

    assert predict(str(folder / "*" / "*.png"), out=tmp_path / "glob").code == PUSHED
    assert len(pd.read_parquet(tmp_path / "glob")) == 6
    (tmp_path / "list.txt").write_text("scans/b/0.png\nscans/a/1.png\nscans/none.png\n")
    outcome = predict(tmp_path / "list.txt", out=tmp_path / "list")
    assert outcome.code == FAILED and "more than --max-bad allows, 1 %" in outcome.text
    assert pd.read_parquet(tmp_path / "list")["id"].tolist() == ["scans/b/0.png", "scans/a/1.png"]


def test_tables_and_arrays_without_labels(
    digits: Images, expected: np.ndarray, predict: Callable[..., Outcome], tmp_path: Path
) -> None:
    pixels, count = digits.pixels[:40], 40
    names = [f"pixel{at}" for at in range(784)]
    kaggle = pd.DataFrame(pixels.reshape(count, 784), columns=names)
    kaggle.to_csv(tmp_path / "test.csv", index=False)
    kaggle.assign(label=digits.labels[:count]).to_csv(tmp_path / "train.csv", index=False)
    numbers = [str(number) for number in range(count)]
    for source, label in (("test.csv", False), ("train.csv", True)):
        outcome = predict(tmp_path / source, out=tmp_path / f"{source}-out")
        assert outcome.code == PUSHED, outcome.text
        found = check(tmp_path / f"{source}-out", expected[:count], numbers)
        assert ("label" in found) == label
        assert not label or found["label"].tolist() == digits.labels[:count].tolist()

    ids = [f"007-{number}" for number in range(count)]
    pictures = [gzip.compress(b"no picture") if number == 5 else _png(pixels[number]) for number in range(count)]
    labels = [LABELS[label] for label in digits.labels[:count]]
    pd.DataFrame({"id": ids, "image": pictures, "label": labels}).to_parquet(tmp_path / "scans.parquet")
    outcome = predict(tmp_path / "scans.parquet", "--max-bad=1", out=tmp_path / "parquet")
    assert outcome.code == PUSHED, outcome.text
    kept = [number for number in range(count) if number != 5]
    found = check(tmp_path / "parquet", expected[kept], [ids[number] for number in kept])
    assert found["label"].tolist() == digits.labels[kept].tolist()

    np.save(tmp_path / "scans.npy", pixels / np.float32(255))
    outcome = predict(tmp_path / "scans.npy", out=tmp_path / "npy")
    assert outcome.code == PUSHED and "Levels 0 to 1, scaled" in outcome.text
    check(tmp_path / "npy", expected[:count], numbers)


def _png(pixels: np.ndarray) -> bytes:
    return bytes(tf.io.encode_png(pixels[:, :, None]).numpy())


def test_labels_that_are_no_classes_are_left_out(
    digits: Images, predict: Callable[..., Outcome], tmp_path: Path
) -> None:
    for name in ("cat", "seven"):
        for number in range(2):
            path = tmp_path / "pets" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(digits.pixels[number]).save(path)
    outcome = predict(tmp_path / "pets")
    assert outcome.code == PUSHED and "Leaves the labels out, as the model has no class cat: zero, one" in outcome.text
    assert "label" not in pd.read_parquet(tmp_path / "out")


def test_csv_and_prediction_logs(
    digits: Images, expected: np.ndarray, predict: Callable[..., Outcome], tmp_path: Path
) -> None:
    from tensorflow_serving.apis import prediction_log_pb2

    records = [serialize_labelled(digits.pixels[number], digits.labels[number]) for number in range(5)]
    folder = write_shards(tmp_path / "data", [records])
    assert predict(folder, "--format", "csv").code == PUSHED
    with (tmp_path / "out" / "test-00000-of-00001.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == [str(label) for label in digits.labels[:5]]
    np.testing.assert_allclose([json.loads(row["probabilities"]) for row in rows], expected[:5], atol=1e-5)
    assert predict(folder, "--format", "prediction-log", out=tmp_path / "logs").code == PUSHED
    (path,) = (tmp_path / "logs").glob("*.tfrecord.gz")
    (record,) = tf.data.TFRecordDataset(str(path), "GZIP").as_numpy_iterator()
    log = prediction_log_pb2.PredictionLog.FromString(record).predict_log
    assert tf.make_ndarray(log.request.inputs["examples"]).tolist() == records
    assert tf.make_ndarray(log.response.outputs["id"])[4] == b"test-00000-of-00001.tfrecord.gz:4"
    assert log.response.model_spec.version.value == 7
    np.testing.assert_allclose(tf.make_ndarray(log.response.outputs["probabilities"]), expected[:5], atol=1e-5)


def test_bad_records_never_stop_the_job(
    digits: Images, expected: np.ndarray, predict: Callable[..., Outcome], tmp_path: Path
) -> None:
    good = [serialize_labelled(digits.pixels[number], digits.labels[number]) for number in range(280)]
    bad = {3: b"\xff\xff", 100: serialize_labelled(digits.pixels[0][:27], 1), 279: b""}
    records = [bad.get(number, record) for number, record in enumerate(good)]
    folder = write_shards(tmp_path / "data", [records, good[:2]])
    outcome = predict(folder)
    assert outcome.code == FAILED and "3 inputs could not be read" in outcome.text
    assert "predict: these are more than --max-bad allows, 1 %" in outcome.text
    found = pd.read_parquet(tmp_path / "out" / "test-00000-of-00002.parquet")
    kept = [number for number in range(280) if number not in bad]
    np.testing.assert_allclose(np.stack(found["probabilities"]), expected[kept], atol=1e-5)
    with (tmp_path / "out" / "_errors-test-00000-of-00002.csv").open() as file:
        reasons = {row["id"].rpartition(":")[2]: row["reason"] for row in csv.DictReader(file)}
    assert reasons.keys() == {"3", "100", "279"} and reasons["3"] == "a record that is no tf.train.Example"
    assert all(reasons.values())
    assert predict(folder, "--max-bad", "3", "--resume").code == PUSHED, "the finished shards count, too"

    content = (folder / "test-00001-of-00002.tfrecord.gz").read_bytes()
    plain = gzip.decompress((folder / "test-00000-of-00002.tfrecord.gz").read_bytes())
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "a.tfrecord").write_bytes(plain[: len(plain) * 2 // 3])
    (folder / "b.tfrecord.gz").write_bytes(content)
    outcome = predict(folder, "--max-bad=100%", out=tmp_path / "cut")
    assert outcome.code == FAILED and "the rest of damaged files is not predicted: a.tfrecord." in outcome.text
    assert len(pd.read_parquet(tmp_path / "cut" / "a.parquet")) > 180 and files(tmp_path / "cut")[1] == "b.parquet"


def test_resume_skips_what_is_finished_and_refuses_another_job(
    digits: Images, predict: Callable[..., Outcome], model: Path, tmp_path: Path
) -> None:
    folder = write_shards(tmp_path / "data", [[serialize(digits.pixels[number])] * 3 for number in range(3)])
    out = tmp_path / "out"
    assert predict(folder).code == PUSHED
    (out / "test-00001-of-00003.parquet").unlink()
    (out / ".unfinished-killed").touch()
    times = {name: (out / name).stat().st_mtime_ns for name in files(out)}
    outcome = predict(folder)
    assert outcome.code == FAILED and "is not empty: choose another folder with -o, or go on" in outcome.text
    outcome = predict(folder, "--resume")
    assert outcome.code == PUSHED and "2 of 3 shards are finished already" in outcome.text
    assert times.items() <= {name: (out / name).stat().st_mtime_ns for name in files(out)}.items()
    assert len(files(out)) == 3 and not list(out.glob(".*"))

    other = tmp_path / "8"
    save_digits(other, seed=2)
    for arguments, sentence in (
        ((folder, "--resume"), "was begun with the model in"),
        ((folder / "test-*", "--resume"), "was begun with the input"),
        ((folder, "--resume", "--format", "csv"), "was begun with --format parquet"),
    ):
        outcome = predict(*arguments, model=other if "model" in sentence else model)
        assert outcome.code == FAILED and sentence in outcome.text
    os.utime(folder / "test-00000-of-00003.tfrecord.gz")
    outcome = predict(folder, "--resume")
    assert outcome.code == FAILED and "have changed since" in outcome.text


def test_mistakes_are_sentences(predict: Callable[..., Outcome], tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "words.txt").write_text("no pictures here\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "half").mkdir()
    save_half(tmp_path / "half" / "1")
    for arguments, sentence in (
        ((tmp_path / "none-*",), "Nothing matches"),
        ((tmp_path / "none",), "Nothing is at"),
        ((tmp_path / "empty",), "holds nothing that is read. It has no files"),
        ((tmp_path / "words.txt",), "holds nothing that is read. It has words.txt (text file)"),
    ):
        outcome = predict(*arguments)
        assert outcome.code == FAILED and sentence in outcome.text, outcome.text
        assert "Traceback" not in outcome.text and not (tmp_path / "out").exists()
    outcome = predict(MNIST, model=tmp_path)
    assert outcome.code == FAILED and f"{tmp_path} holds no saved_model.pb" in outcome.text
    outcome = predict(MNIST, model=tmp_path / "half" / "1")
    assert outcome.code == FAILED and "has no signature serving_default with the output probabilities" in outcome.text
    arguments = [str(MNIST), "-o", str(tmp_path / "out")]
    assert main([*arguments, "--run-root", str(tmp_path / "root")]) == FAILED
    assert "holds no version: push one, or name a folder with --model" in capsys.readouterr().err
    assert main([*arguments, "--set", "beam.engine=dataflow", "beam.project=p", "beam.region=r",
                 "beam.temp_location=gs://b/t", "beam.image=r/i"]) == WRONG_USE  # fmt: skip
    assert "reads and writes buckets only" in capsys.readouterr().err
    assert main([str(tmp_path), *arguments[1:], "--model", str(tmp_path / "half" / "1")]) == WRONG_USE
    assert f"-o {tmp_path / 'out'} lies in {tmp_path}, which is the input" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*arguments, "--max-bad", "101%"])


def save_half(folder: Path) -> None:
    from tests.serving.models import save_half_plus_two

    save_half_plus_two(folder, 2.0)


def test_the_newest_version_or_the_one_that_is_named(model: Path, digits: Images, tmp_path: Path) -> None:
    from pipeline.config import load
    from pipeline.predict.__main__ import model_folder, parse_args

    for number in ("5", "40"):
        shutil.copytree(model, tmp_path / "serving_models" / "mnist" / number)
    arguments = ["in", "-o", "out", "--run-root", str(tmp_path)]
    config = load("default")
    assert model_folder(parse_args(arguments), config).name == "40"
    assert model_folder(parse_args([*arguments, "--version", "5"]), config).name == "5"
    with pytest.raises(Exception, match=r"There is no version 6 .* it has 40, 5"):
        model_folder(parse_args([*arguments, "--version", "6"]), config)


@pytest.mark.slow
@needs_prism
def test_workers_that_have_only_the_installed_package_write_the_same(
    digits: Images, expected: np.ndarray, predict: Callable[..., Outcome], installed: Path, tmp_path: Path
) -> None:
    """They open the input themselves."""
    np.savez(tmp_path / "scans.npz", x_test=digits.pixels)
    with engine(tmp_path / "engine", installed, prism=True) as running:
        outcome = predict(tmp_path / "scans.npz", "--set", *running.overrides)
    assert outcome.code == PUSHED, outcome.text
    check(tmp_path / "out", expected, [str(number) for number in range(DIGITS)])


@pytest.mark.slow
def test_an_interrupted_job_goes_on(
    digits: Images, model: Path, predict: Callable[..., Outcome], tmp_path: Path
) -> None:
    """Ctrl-C in a real process: finished shards stay, nothing else does, and the result is that of one go."""
    records = [serialize(image) for image in digits.pixels]
    folder = write_shards(tmp_path / "data", [records * 10] * 12)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "pipeline.predict", str(folder), "-o", str(out), "--model", str(model)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    while process.poll() is None and len(files(out) if out.exists() else []) < 2:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED and "Interrupted: " in text
    kept = files(out)
    assert 2 <= len(kept) < 12 and not list(out.glob(".*"))
    outcome = predict(folder, "--resume")
    assert outcome.code == PUSHED and f"{len(kept)} of 12 shards are finished already" in outcome.text
    assert len(pd.read_parquet(out)) == 12 * 10 * DIGITS
