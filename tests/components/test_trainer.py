"""Training on real digits: every example once, the same weights from the same seed, one replica or two."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tf_keras

from components.trainer.cluster import connect, reserve_devices
from components.trainer.fit import compile_model, learning_rate
from components.trainer.input import read_splits
from components.trainer.model import build_model
from components.trainer.run import run_fn
from components.trainer.run import train as run_job
from components.trainer.settings import Model, TrainerSettings, Training
from data.errors import UserError
from data.example import ExampleSpec
from data.readers import Images
from tests.components.trainings import SMALL, Trained, train, training_job


def test_every_example_is_read_once_in_each_split(
    transform: tft.TFTransformOutput, example_files: dict[str, list[str]], digits: dict[str, Images]
) -> None:
    splits = read_splits(example_files["train"], example_files["eval"], transform, Training(), batch_size=64)
    for split, expected in zip(splits, (digits["train"], digits["eval"]), strict=True):
        batches = list(split.dataset.as_numpy_iterator())
        assert len(batches) == len(split.dataset)
        sequences = np.concatenate([sequence for sequence, _ in batches])
        labels = np.concatenate([label for _, label in batches])
        assert len(sequences) == split.examples == len(expected)
        seen = sorted(
            np.round(s * 255).astype(np.uint8).tobytes() + bytes([y]) for s, y in zip(sequences, labels, strict=True)
        )
        assert seen == sorted(p.tobytes() + bytes([y]) for p, y in zip(expected.pixels, expected.labels, strict=True))


def test_a_share_of_all_validates_as_in_keras_where_the_profile_says_so(
    transform: tft.TFTransformOutput, example_files: dict[str, list[str]], digits: dict[str, Images]
) -> None:
    splits = read_splits(
        example_files["train"], example_files["eval"], transform, Training(validation_split=0.2), batch_size=100
    )
    assert [split.examples for split in splits] == [2800, 700]
    pixels = [
        [np.round(s * 255).astype(np.uint8).tobytes() for batch, _ in split.dataset.as_numpy_iterator() for s in batch]
        for split in splits
    ]
    # The eval split comes last; ExampleGen keeps order within a shard, not among shards.
    assert pixels[1][-500:] == [image.tobytes() for image in digits["eval"].pixels]
    everything = [*digits["train"].pixels, *digits["eval"].pixels]
    assert sorted(pixels[0] + pixels[1]) == sorted(image.tobytes() for image in everything)


def test_an_empty_split_is_a_sentence(transform: tft.TFTransformOutput, tmp_path: Path) -> None:
    with tf.io.TFRecordWriter(str(tmp_path / "none.gz"), tf.io.TFRecordOptions("GZIP")):
        pass
    pattern = [str(tmp_path / "*")]
    with pytest.raises(UserError, match="The train split holds no examples"):
        read_splits(pattern, pattern, transform, Training(), batch_size=8)


def test_evaluation_counts_the_last_partial_batch_on_two_replicas(
    transform: tft.TFTransformOutput, example_files: dict[str, list[str]], digits: dict[str, Images]
) -> None:
    with connect(2).strategy.scope():
        network = build_model(Model(units=8), ExampleSpec())
        compile_model(network, Training(), 10)
    _, validation = read_splits(example_files["train"], example_files["eval"], transform, Training(), batch_size=64)
    images = digits["eval"]
    assert len(images) % 64
    logits = network(images.pixels.astype(np.float32) / 255, training=False).numpy()
    _, accuracy = network.evaluate(validation.dataset, verbose=0)
    assert accuracy == pytest.approx((logits.argmax(axis=1) == images.labels).mean(), abs=1e-6)


def test_the_learning_rate_warms_up_and_decays() -> None:
    rate = learning_rate(Training(epochs=5, learning_rate=0.01, warmup_epochs=1), steps_per_epoch=10)
    assert [float(rate(step)) for step in (0, 5, 10, 30, 50)] == pytest.approx([0, 0.005, 0.01, 0.005, 0], abs=1e-6)
    assert learning_rate(Training(schedule="constant", learning_rate=0.5), 10) == 0.5


def test_the_learning_rate_grows_by_the_square_root_of_the_replicas() -> None:
    assert learning_rate(Training(schedule="constant", learning_rate=0.5), 10, replicas=4) == 1.0
    training = Training(epochs=5, learning_rate=0.01, warmup_epochs=1)
    one, nine = (learning_rate(training, 10, replicas) for replicas in (1, 9))
    assert [float(nine(step)) for step in (0, 5, 10, 30, 50)] == pytest.approx(
        [3 * float(one(step)) for step in (0, 5, 10, 30, 50)]
    )
    with connect(2).strategy.scope():
        network = build_model(Model(units=8), ExampleSpec())
        compile_model(network, Training(schedule="constant", learning_rate=0.5), 10)
    assert network.optimizer.learning_rate.numpy() == pytest.approx(0.5 * math.sqrt(2))


@pytest.fixture(scope="module")
def plain(transform, example_files, tmp_path_factory) -> Trained:
    """A training with nothing special, with which others are compared."""
    return train(training_job(tmp_path_factory.mktemp("plain"), transform, example_files))


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights(transform, example_files, tmp_path) -> None:
    jobs = [training_job(tmp_path / name, transform, example_files, Model(units=64)) for name in ("one", "two")]
    one, two = map(train, jobs)
    assert one.history == two.history and one.history["val_accuracy"][-1] > 0.5
    for left, right in zip(one.weights, two.weights, strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.slow
def test_one_replica_and_two_give_the_same_curve(plain: Trained, transform, example_files, tmp_path) -> None:
    options = {"batch_size": 25, "replicas": 2, "learning_rate": 5e-3 / math.sqrt(2)}
    two = train(training_job(tmp_path, transform, example_files, **options))
    assert len(tf.config.list_logical_devices("CPU")) == 2
    for figure in ("loss", "val_loss"):
        assert two.history[figure] == pytest.approx(plain.history[figure], rel=1e-3)


@pytest.mark.slow
def test_the_average_of_the_weights_is_what_validates_and_stays(
    plain: Trained, transform, example_files, tmp_path
) -> None:
    for patience in (0, 3):
        options = {"ema_momentum": 0.95, "patience": patience}
        averaged = train(training_job(tmp_path / str(patience), transform, example_files, **options))
        # The average changes what is validated, not how the weights learn.
        assert averaged.history["loss"] == pytest.approx(plain.history["loss"], rel=1e-4)
        losses = averaged.history["val_loss"]
        assert all(left != right for left, right in zip(losses, plain.history["val_loss"], strict=True))
        assert averaged.loss == pytest.approx(min(losses) if patience else losses[-1], rel=1e-4)


@pytest.mark.slow
def test_it_stops_early_and_keeps_the_best_epoch(transform, example_files, tmp_path, caplog, monkeypatch) -> None:
    # A rate this high makes the validation loss rise sooner or later.
    options = {"epochs": 30, "patience": 1, "learning_rate": 0.03, "clip_norm": 0.0}
    job = training_job(tmp_path, transform, example_files, **options)
    caplog.set_level(logging.INFO, "components")
    with monkeypatch.context() as broken:
        broken.delattr("components.trainer.run.export")
        with pytest.raises(NameError):
            run_job(job)
    epochs = [record.epoch_end for record in caplog.records if hasattr(record, "epoch_end")]
    caplog.clear()
    # A training that stopped early and was interrupted in its export does not go on.
    run_job(job)
    assert not [record for record in caplog.records if hasattr(record, "epoch_end")]
    assert len(epochs) < 30
    best = min(epochs, key=lambda epoch: epoch["val_loss"])
    assert best["epoch"] == len(epochs) - 1
    network = build_model(SMALL, ExampleSpec())
    exported = tf.saved_model.load(job.serving_model_dir).model_variables
    network.set_weights([variable.numpy() for variable in exported])
    network.compile(loss=tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    _, validation = read_splits(example_files["train"], example_files["eval"], transform, Training(), batch_size=50)
    assert network.evaluate(validation.dataset, verbose=0) == pytest.approx(best["val_loss"], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("patience", [0, 3])
def test_a_diverged_training_is_a_sentence(transform, example_files, tmp_path, patience: int) -> None:
    options = {"learning_rate": 1e6, "schedule": "constant", "clip_norm": 0.0, "optimizer": "adam"}
    network = Model(cell="simple_rnn", units=32, activation="relu")
    job = training_job(tmp_path, transform, example_files, network, patience=patience, **options)
    with pytest.raises(UserError, match="Training diverged"):
        train(job)
    assert not Path(job.backup_dir).exists()


def test_a_training_is_continued_only_on_the_same_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """The learning rate's schedule counts steps, of which there are fewer with more replicas."""
    jobs = []
    monkeypatch.setattr("components.trainer.run.launch", lambda function, job: jobs.append(job))
    for hardware in ("1 x 1 GPU", "1 x 2 GPU", "1 x 1 GPU"):
        settings = TrainerSettings(
            example=ExampleSpec(), model=Model(), training=Training(), backup_dir="backup", hardware=hardware
        )
        folders = dict.fromkeys(("transform_output", "serving_model_dir", "model_run_dir"), "folder")
        run_fn(SimpleNamespace(custom_config=settings.model_dump(), train_files=["a"], eval_files=["b"], **folders))
    assert jobs[0].backup_dir == jobs[2].backup_dir != jobs[1].backup_dir


def test_too_few_devices_is_a_sentence() -> None:
    tf.config.list_logical_devices()
    with pytest.raises(UserError, match=r"training\.replicas = 3, but TensorFlow already runs with 2"):
        reserve_devices(3)
