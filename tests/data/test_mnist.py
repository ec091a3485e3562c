"""The committed shards are MNIST, byte for byte."""

import hashlib
import struct

import numpy as np

from data.readers import Images
from tests.conftest import MNIST, read_images

PUBLISHED = {
    "train-images": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


def idx_hashes(images: Images) -> tuple[str, str]:
    pixels = struct.pack(">IIII", 0x803, *images.pixels.shape) + images.pixels.tobytes()
    labels = struct.pack(">II", 0x801, len(images)) + images.labels.astype(np.uint8).tobytes()
    return hashlib.sha256(pixels).hexdigest(), hashlib.sha256(labels).hexdigest()


def test_the_shards_rebuild_the_four_published_files() -> None:
    train, tail, test = (read_images(MNIST, split, 28, 28) for split in ("train", "eval", "test"))
    assert (len(train), len(tail), len(test)) == (55_000, 5_000, 10_000)
    whole = Images(np.concatenate([train.pixels, tail.pixels]), np.concatenate([train.labels, tail.labels]))
    assert idx_hashes(whole) == (PUBLISHED["train-images"], PUBLISHED["train-labels"])
    assert idx_hashes(test) == (PUBLISHED["t10k-images"], PUBLISHED["t10k-labels"])
