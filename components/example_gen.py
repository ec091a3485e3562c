"""ExampleGen: the shards of a data folder as they are, one TFX split for each of ours."""

from __future__ import annotations

from tfx import v1 as tfx

from data.features import SPLITS, shard_pattern


def example_gen(folder: str) -> tfx.components.ImportExampleGen:
    """ImportExampleGen over the train, eval and test shards in `folder`."""
    splits = [tfx.proto.Input.Split(name=split, pattern=shard_pattern(split)) for split in SPLITS]
    return tfx.components.ImportExampleGen(input_base=folder, input_config=tfx.proto.Input(splits=splits))
