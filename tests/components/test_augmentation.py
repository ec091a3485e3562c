"""Augmentation: what it does to an image, where it is used and where not, and that it can be repeated."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
from scipy import ndimage

from components.trainer.augmentation import _blur, _sources, augment
from components.trainer.input import SplitDataset, read_splits
from components.trainer.settings import Augmentation, Training
from data.readers import Images

SEED = (17, 3)
STRONG = Augmentation(shift=2.0, rotation=10.0, zoom=0.1, shear=0.1, elastic_alpha=30.0)
MIDDLE = 13.5


def sources(count: int = 200, **settings: Any) -> tuple[np.ndarray, np.ndarray]:
    """Where the pixels come from, measured from the middle: y and x, float32 [count, 28, 28]."""
    y, x = _sources(tf.constant(count), 28, 28, tf.constant(SEED, tf.int64), Augmentation(**settings)).numpy() - MIDDLE
    return y.reshape(-1, 28, 28), x.reshape(-1, 28, 28)


@pytest.mark.parametrize("settings", [STRONG, Augmentation(shift=3.0, zoom=0.2)], ids=["all", "separable"])
def test_the_pixels_are_those_that_scipy_finds_at_the_same_places(
    digits: dict[str, Images], settings: Augmentation
) -> None:
    images = digits["train"].pixels[:50].astype(np.float32) / 255
    y, x = sources(50, **settings.model_dump())
    expected = [
        ndimage.map_coordinates(image, [rows + MIDDLE, columns + MIDDLE], order=1, mode="grid-constant")
        for image, rows, columns in zip(images, y, x, strict=True)
    ]
    found = augment(tf.constant(images), tf.constant(SEED, tf.int64), settings).numpy()
    assert found.dtype == np.float32 and found.shape == images.shape
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert (np.abs(found - images).max(axis=(1, 2)) > 0.2).all(), "every image is distorted"


def test_without_distortions_an_image_stays_as_it_is(digits: dict[str, Images]) -> None:
    images = digits["train"].pixels[:20].astype(np.float32) / 255
    np.testing.assert_allclose(
        augment(tf.constant(images), tf.constant(SEED, tf.int64), Augmentation()), images, atol=1e-5
    )
    assert not Augmentation().active and STRONG.active


def test_each_distortion_stays_within_its_bound_and_comes_near_it() -> None:
    grid = np.arange(28) - MIDDLE
    y, x = sources(shift=2.0)
    shifts = np.stack([y - grid[:, None], x - grid])
    assert np.ptp(shifts, axis=(2, 3)).max() < 1e-4 and 1.9 < shifts.max() <= 2 and -2 <= shifts.min() < -1.9

    y, x = sources(rotation=30.0)
    np.testing.assert_allclose(np.hypot(y, x), np.broadcast_to(np.hypot(grid[:, None], grid), y.shape), rtol=1e-4)
    angles = np.degrees(np.arctan2(y[:, 13, 27], x[:, 13, 27]) - np.arctan2(grid[13], grid[27]))
    assert 28 < angles.max() <= 30.001 and -30.001 <= angles.min() < -28

    y, x = sources(zoom=0.2)
    for factors in (grid[27] / y[:, 27, 0], grid[27] / x[:, 0, 27]):
        assert 1.18 < factors.max() <= 1.2001 and 0.7999 <= factors.min() < 0.82

    y, x = sources(shear=0.3)
    np.testing.assert_allclose(y, np.broadcast_to(grid[:, None], y.shape), atol=1e-5)
    slopes = (x[:, 27, 0] - x[:, 0, 0]) / 27
    assert 0.28 < slopes.max() <= 0.3001 and -0.3001 <= slopes.min() < -0.28

    y, x = sources(elastic_alpha=34.0)
    moved = np.stack([y - grid[:, None], x - grid])
    assert 0.3 < moved.std() < 3 and np.abs(np.diff(moved, axis=3)).max() < 1, "smooth, and by pixels"


def test_the_elastic_field_is_smoothed_as_scipy_smooths() -> None:
    impulse = np.eye(1, 28, 9)[0]
    for sigma in (2.0, 4.0):
        expected = ndimage.gaussian_filter1d(impulse, sigma, mode="constant", truncate=8)
        smooth = _blur(28, Augmentation(elastic_sigma=sigma)).numpy() @ impulse
        np.testing.assert_allclose(smooth, expected, atol=1e-3)


def splits(transform: tft.TFTransformOutput, files: dict[str, list[str]], **options: Any) -> tuple[SplitDataset, ...]:
    return read_splits(files["train"], files["eval"], transform, Training(), batch_size=64, **options)


def first(dataset: Any, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    return list(dataset.take(count).as_numpy_iterator())


def test_only_the_training_split_is_augmented(
    transform: tft.TFTransformOutput, example_files: dict[str, list[str]]
) -> None:
    plain, validation = (split.dataset for split in splits(transform, example_files))
    augmented, same = (split.dataset for split in splits(transform, example_files, augmentation=STRONG))
    for (left, labels), (right, others) in zip(first(plain, 3), first(augmented, 3), strict=True):
        np.testing.assert_array_equal(labels, others)
        assert left.shape == right.shape and (np.abs(left - right).max(axis=(1, 2)) > 0.1).all()
    for left, right in zip(first(validation, -1), first(same, -1), strict=True):
        np.testing.assert_array_equal(left[0], right[0])


def test_every_epoch_has_other_distortions_and_a_continued_training_the_same(
    transform: tft.TFTransformOutput, example_files: dict[str, list[str]]
) -> None:
    steps = splits(transform, example_files)[0].steps

    def training(first_epoch: int, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
        split, _ = splits(transform, example_files, augmentation=STRONG)
        return first(split.input_fn(tf.distribute.InputContext(), first_epoch), count)

    two_epochs, continued = training(0, 2 * steps), training(1, steps)
    for left, right in zip(two_epochs[steps:], continued, strict=True):
        np.testing.assert_array_equal(left[0], right[0])

    def image_of(batches: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        return np.sort(np.concatenate([images.sum(axis=(1, 2)) for images, _ in batches]))

    assert np.abs(image_of(two_epochs[:steps]) - image_of(continued)).max() > 1


def test_two_hosts_see_what_one_host_with_two_replicas_sees(
    transform: tft.TFTransformOutput, example_files: dict[str, list[str]]
) -> None:
    def parts(hosts: int, host: int, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
        split, _ = splits(transform, example_files, augmentation=STRONG)
        return first(split.input_fn(tf.distribute.InputContext(hosts, host, 2), 1), count)

    together, hosts = parts(1, 0, 8), [parts(2, host, 4) for host in range(2)]
    for index, (images, labels) in enumerate(together):
        expected, others = hosts[index % 2][index // 2]
        np.testing.assert_array_equal(labels, others)
        np.testing.assert_array_equal(images, expected)
    assert not np.array_equal(together[0][0], together[1][0])
