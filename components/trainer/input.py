"""The tf.data input: TFRecords through the Transform graph, streamed, so memory does not grow with the data."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from components.trainer.augmentation import augment
from components.trainer.settings import Augmentation, Training
from components.transform import SEQUENCE
from data.errors import UserError
from data.example import LABEL
from data.records import read_records

log = logging.getLogger(__name__)
_DIRECT = tf.distribute.InputOptions(
    experimental_fetch_to_device=False,
    experimental_replication_mode=tf.distribute.InputReplicationMode.PER_REPLICA,
)


class SplitDataset(NamedTuple):
    """(`sequence` float32 [B, steps, features], `label` int64 [B]), with the counts of examples and global batches.

    `input_fn` gives the part of every global batch that one host's replicas train on, replica after replica. With a
    number of epochs it repeats without end and leaves out that many epochs.
    """

    input_fn: Callable[[tf.distribute.InputContext, int | None], tf.data.Dataset]
    examples: int
    steps: int

    @property
    def dataset(self) -> tf.data.Dataset:
        """One epoch of global batches."""
        batches = self.input_fn(tf.distribute.InputContext(), None)
        return batches.apply(tf.data.experimental.assert_cardinality(self.steps))

    def distribute(self, strategy: tf.distribute.Strategy, first_epoch: int = 0) -> tf.distribute.DistributedDataset:
        """The batches of each of the strategy's replicas, repeated without end: Keras needs `steps`.

        A training that continues with `first_epoch`, counted from 0, sees the batches that it would have seen then.
        """
        # On CPUs, and where it is alone, a replica reads a pipeline of its own. That is faster than one which hands its
        # batches to several, and TensorFlow may wait for seconds until the threads of such a one end.
        devices = strategy.extended.worker_devices
        direct = isinstance(strategy, tf.distribute.MirroredStrategy) and (
            len(devices) == 1 or all("CPU" in device for device in devices)
        )
        options = _DIRECT if direct else None
        return strategy.distribute_datasets_from_function(lambda context: self.input_fn(context, first_epoch), options)


def read_splits(
    train_files: Sequence[str],
    eval_files: Sequence[str],
    transform: tft.TFTransformOutput,
    training: Training,
    batch_size: int,
    augmentation: Augmentation | None = None,
    replayed_files: Sequence[str] = (),
) -> tuple[SplitDataset, SplitDataset]:
    """The training and validation splits, in global batches of `batch_size` examples; the last may be smaller.

    Only the training split is augmented. With `training.validation_split`, as in Keras' fit, the tail of both file
    sets together validates. Of `replayed_files`, `training.replay` examples are drawn for each of `train_files`, the
    same ones in each epoch.

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
    if replayed_files:
        old, count = _draw(read_records(replayed_files), round(training.replay * train_count), training.seed)
        log.info("Trains on %s new examples, and on %s older ones again.", f"{train_count:,}", f"{count:,}")
        train, train_count = train.concatenate(old), train_count + count
    for count, split in ((train_count, "train"), (validation_count, "validation")):
        if not count:
            raise UserError(f"The {split} split holds no examples: give it some, or change training.validation_split.")
    return (
        _split(train, train_count, transform, batch_size, training, augmentation),
        _split(validation, validation_count, transform, batch_size),
    )


def _draw(records: tf.data.Dataset, count: int, seed: int) -> tuple[tf.data.Dataset, int]:
    """`count` random records, or all if there are not so many, in their order; and how many."""
    total = _count(records)
    chosen = np.zeros(total, bool)
    chosen[np.random.default_rng(seed).permutation(total)[:count]] = True
    flags = tf.data.Dataset.from_tensor_slices(chosen)
    drawn = tf.data.Dataset.zip((records, flags)).filter(lambda record, flag: flag).map(lambda record, flag: record)
    return drawn, int(chosen.sum())


def _split(
    records: tf.data.Dataset,
    count: int,
    transform: tft.TFTransformOutput,
    batch_size: int,
    training: Training | None = None,
    augmentation: Augmentation | None = None,
) -> SplitDataset:
    """Every host reads all records, in the same order, and parses only its own part of each batch.

    With `training` it shuffles them. A part's distortions depend on the seed and on the part's number since the first
    epoch, so neither the number of hosts nor an interruption changes them.
    """
    feature_spec, layer = transform.raw_feature_spec(), transform.transform_features_layer()
    options = tf.data.Options()
    # A map then uses up to 16 cores. TensorFlow 2.21 waits up to a minute for the end of its autotuning.
    options.autotune.enabled = False
    steps = math.ceil(count / batch_size)

    @tf.autograph.experimental.do_not_convert
    def parse(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        features = layer(tf.io.parse_example(serialized, feature_spec))
        return features[SEQUENCE], tf.squeeze(features[LABEL], axis=1)

    def input_fn(context: tf.distribute.InputContext, first_epoch: int | None) -> tf.data.Dataset:
        ordered = records
        if training:  # pipelines that shared this dataset would take its orders by turns
            ordered = records.shuffle(training.shuffle_buffer, seed=training.seed, reshuffle_each_iteration=True)
        batches = ordered.batch(batch_size)
        if first_epoch is not None:
            batches = batches.repeat().skip(first_epoch * steps)
        parsed = split_batches(batches, context).map(parse, num_parallel_calls=tf.data.AUTOTUNE)
        if training and augmentation and augmentation.active:
            seed, local = training.seed, local_replicas(context)

            @tf.autograph.experimental.do_not_convert
            def distort(number: tf.Tensor, example: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
                batch, replica = number // local, context.input_pipeline_id * local + number % local
                part = batch * context.num_replicas_in_sync + replica
                sequences, labels = example
                return augment(sequences, tf.stack([tf.constant(seed, tf.int64), part]), augmentation), labels

            numbered = parsed.enumerate((first_epoch or 0) * steps * local)
            parsed = numbered.map(distort, num_parallel_calls=tf.data.AUTOTUNE)
        return parsed.prefetch(4).with_options(options)

    return SplitDataset(input_fn, count, steps)


def local_replicas(context: tf.distribute.InputContext) -> int:
    """How many of the replicas are this host's."""
    return context.num_replicas_in_sync // context.num_input_pipelines


def split_batches(batches: tf.data.Dataset, context: tf.distribute.InputContext) -> tf.data.Dataset:
    """Splits each global batch, any dtype [B], over the replicas, and keeps the parts of this host's replicas.

    The parts of all replicas together are the batch, each element once. Their sizes differ by one at most. The last
    batch of an epoch may have fewer elements than there are replicas; then some parts are empty.
    """
    replicas = context.num_replicas_in_sync
    if replicas == 1:
        return batches
    local = local_replicas(context)
    first = context.input_pipeline_id * local

    @tf.autograph.experimental.do_not_convert
    def parts(elements: tf.Tensor) -> tf.data.Dataset:
        count = tf.shape(elements, tf.int64)[0]
        indices = tf.data.Dataset.range(first, first + local)
        return indices.map(lambda replica: elements[replica * count // replicas : (replica + 1) * count // replicas])

    return batches.flat_map(parts)


def _count(records: tf.data.Dataset) -> int:
    return int(records.reduce(tf.constant(0, tf.int64), lambda total, _: total + 1))
