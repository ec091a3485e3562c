"""The committed shards are MNIST, byte for byte."""

import hashlib
import struct

import numpy as np
import tensorflow as tf

from data.records import read_records
from tests.conftest import MNIST

PUBLISHED = {
    "train-images": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
FEATURES = {"image": tf.io.FixedLenFeature([], tf.string), "label": tf.io.FixedLenFeature([], tf.int64)}


def idx_hashes(splits: dict[str, int]) -> tuple[str, str]:
    """SHA-256 of the IDX files of images and labels that the splits, of so many examples, make together."""
    patterns = [f"{MNIST}/{split}-*" for split in splits]
    files = [records for pattern in patterns for records in read_records([pattern]).batch(100_000)]
    assert [len(records) for records in files] == list(splits.values())
    parsed = [tf.io.parse_example(records, FEATURES) for records in files]
    count = sum(splits.values())
    pixels = b"".join(image for examples in parsed for image in examples["image"].numpy())
    labels = np.concatenate([examples["label"].numpy() for examples in parsed]).astype(np.uint8).tobytes()
    contents = struct.pack(">IIII", 0x803, count, 28, 28) + pixels, struct.pack(">II", 0x801, count) + labels
    return hashlib.sha256(contents[0]).hexdigest(), hashlib.sha256(contents[1]).hexdigest()


def test_the_shards_rebuild_the_four_published_files() -> None:
    assert idx_hashes({"train": 55_000, "eval": 5_000}) == (PUBLISHED["train-images"], PUBLISHED["train-labels"])
    assert idx_hashes({"test": 10_000}) == (PUBLISHED["t10k-images"], PUBLISHED["t10k-labels"])
