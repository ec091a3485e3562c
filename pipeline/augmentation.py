"""python -m pipeline.augmentation: a picture of what the Trainer sees with a profile's `[augmentation]`."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.errors import SettingsError, UserError
from data.process import quiet
from pipeline.arguments import add_settings, run_command
from pipeline.config import Config, load
from pipeline.local.cli import check_data

EXAMPLES, DISTORTIONS, SCALE, GAP = 10, 4, 3, 4


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point: 0, or 1 for an error, or 2 for a wrong command line or profile."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.augmentation",
        description=f"Draw {EXAMPLES} training images, and under each {DISTORTIONS} distortions of it.",
    )
    add_settings(parser, "best")
    parser.add_argument("-o", "--output", type=Path, default=Path("augmentation.png"), metavar="FILE")
    args = parser.parse_args(argv)
    return run_command("augmentation", lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    from PIL import Image

    config = load(args.profile, args.set)
    if not config.augmentation.active:
        raise SettingsError(
            f"The profile {args.profile} has no augmentation: set one, such as --set augmentation.rotation=10."
        )
    check_data(config, "")
    with quiet():
        picture = draw(config)
    try:
        Image.fromarray(picture).save(args.output)
    except (ValueError, KeyError):
        raise UserError(f"{args.output} names no kind of picture: let it end with .png.") from None
    print(args.output)
    return 0


def draw(config: Config) -> np.ndarray:
    """The picture, uint8 [height, width]: originals on top, under each some random distortions; black is 0.

    The training split's first example of each class comes first.
    """
    import tensorflow as tf
    from tensorflow_transform.tf_metadata import schema_utils

    from components.trainer.augmentation import augment
    from data.example import parse, schema, to_sequence
    from data.records import read_serialized
    from data.shards import find_source

    spec = config.data.example
    first: dict[int, bytes] = {}
    others: list[bytes] = []
    shards = find_source(config.data.path, config.data.window).shards
    paths = (shard.path for shard in shards if shard.split == "train")
    for record in itertools.chain.from_iterable(map(read_serialized, paths)):
        if (label := parse(record, spec)[1]) in first:
            others.append(record)
        first.setdefault(label, record)
        if len(first) == min(EXAMPLES, spec.classes) and len(first) + len(others) >= EXAMPLES:
            break
    records = [*(first[label] for label in sorted(first)), *others][:EXAMPLES]
    features = tf.io.parse_example(records, schema_utils.schema_as_feature_spec(schema(spec)).feature_spec)
    sequences = to_sequence(features, spec)
    seeds = (tf.constant([config.training.seed, number], tf.int64) for number in range(DISTORTIONS))
    lines = [sequences, *(augment(sequences, seed, config.augmentation) for seed in seeds)]
    pixels = np.round(255 * np.clip(np.stack([line.numpy() for line in lines]), 0, 1)).astype(np.uint8)
    large = pixels.repeat(SCALE, axis=2).repeat(SCALE, axis=3)
    framed = np.pad(large, [(0, 0), (0, 0), (GAP, 0), (GAP, 0)], constant_values=96)
    return np.vstack([np.hstack(list(line)) for line in framed])


if __name__ == "__main__":
    sys.exit(main())
