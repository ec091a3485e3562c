"""The tf.data input: TFRecords through the Transform graph, streamed, so that memory does not grow with the data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf
import tensorflow_transform as tft

from components.settings import Training
from components.transform import SEQUENCE
from data.errors import UserError
from data.features import LABEL


class Split(NamedTuple):
    """A dataset of (`sequence` float32 [B, rows, columns], `label` int64 [B]) and how many examples it holds."""

    dataset: tf.data.Dataset
    examples: int


def read_splits(
    train_files: Sequence[str],
    eval_files: Sequence[str],
    transform: tft.TFTransformOutput,
    training: Training,
    batch: int,
) -> tuple[Split, Split]:
    """The training and validation splits, in batches of `batch` (global); the last batch may be smaller.

    With `training.validation_split`, as in Keras' fit, the tail of both file sets together validates.

    Raises:
        UserError: a split without examples.
    """
    train, validation = read_records(train_files), read_records(eval_files)
    train_count, validation_count = _count(train), _count(validation)
    if training.validation_split:
        together, total = train.concatenate(validation), train_count + validation_count
        train_count = math.floor(total * (1 - training.validation_split))
        validation_count = total - train_count
        train, validation = together.take(train_count), together.skip(train_count)
    for count, split in ((train_count, "train"), (validation_count, "validation")):
        if not count:
            raise UserError(f"The {split} split holds no examples: give it some, or change training.validation_split.")
    shuffled = train.shuffle(training.shuffle_buffer, seed=training.seed, reshuffle_each_iteration=True)
    return (
        _batches(shuffled, train_count, transform, batch),
        _batches(validation, validation_count, transform, batch),
    )


def read_records(patterns: Sequence[str]) -> tf.data.Dataset:
    """The serialized examples of the gzipped TFRecord files that match `patterns`, in their names' order."""
    files = sorted(file for pattern in patterns for file in tf.io.gfile.glob(pattern))
    return tf.data.TFRecordDataset(files, compression_type="GZIP")


def _batches(records: tf.data.Dataset, count: int, transform: tft.TFTransformOutput, batch: int) -> Split:
    spec, layer = transform.raw_feature_spec(), transform.transform_features_layer()

    @tf.autograph.experimental.do_not_convert
    def parse(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        features = layer(tf.io.parse_example(serialized, spec))
        return features[SEQUENCE], tf.squeeze(features[LABEL], axis=1)

    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    batches = records.batch(batch).map(parse, num_parallel_calls=tf.data.AUTOTUNE).prefetch(4)
    sized = batches.apply(tf.data.experimental.assert_cardinality(math.ceil(count / batch)))
    return Split(sized.with_options(options), count)


def _count(records: tf.data.Dataset) -> int:
    return int(records.reduce(tf.constant(0, tf.int64), lambda total, _: total + 1))
