"""ExampleGen: the shards of a data folder, one TFX split for each of ours, streamed."""

from __future__ import annotations

from typing import Any

import apache_beam as beam
from google.protobuf.wrappers_pb2 import StringValue
from tfx import types
from tfx import v1 as tfx
from tfx.components.example_gen.component import FileBasedExampleGen
from tfx.components.example_gen.import_example_gen import executor
from tfx.dsl.components.base import executor_spec
from tfx.dsl.io import fileio
from tfx.types import artifact_utils

from data.errors import missing_split
from data.features import SPLITS, shard_pattern


class StreamingExecutor(executor.Executor):
    """ImportExampleGen's executor without its shuffle, for which Beam's DirectRunner holds all records in memory.

    Records keep their order within a shard; the Trainer shuffles as it reads, and `data.build --seed` for good.
    """

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Imports the shards.

        Raises:
            DataError: no shard of a split.
        """
        folder = exec_properties["input_base"]
        for split in SPLITS:
            if not fileio.glob(f"{folder}/{shard_pattern(split)}"):
                raise missing_split(folder, split)
        self._examples = output_dict["examples"]
        super().Do(input_dict, output_dict, exec_properties)

    def GenerateExamplesByBeam(
        self, pipeline: beam.Pipeline, exec_properties: dict[str, Any]
    ) -> dict[str, beam.PCollection]:
        """Writes each split as it is read, and leaves nothing for the base class to shuffle and write."""
        for split, examples in super().GenerateExamplesByBeam(pipeline, exec_properties).items():
            prefix = f"{artifact_utils.get_split_uri(self._examples, split)}/data_tfrecord"
            (
                examples
                | f"Serialize[{split}]" >> beam.Map(lambda example: example.SerializeToString(deterministic=True))
                | f"Write[{split}]" >> beam.io.WriteToTFRecord(prefix, file_name_suffix=".gz")
            )
        return {}


class StreamingExampleGen(FileBasedExampleGen):
    """ImportExampleGen with the executor above."""

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(StreamingExecutor)


def example_gen(folder: str, code: str) -> StreamingExampleGen:
    """Imports the train, eval and test shards in `folder`; `code` is the sources' fingerprint, for TFX's cache."""
    splits = [tfx.proto.Input.Split(name=split, pattern=shard_pattern(split)) for split in SPLITS]
    custom = tfx.proto.CustomConfig()
    custom.custom_config.Pack(StringValue(value=code))
    return StreamingExampleGen(input_base=folder, input_config=tfx.proto.Input(splits=splits), custom_config=custom)
