"""ExampleGen: imports the shards of a data folder, split by split, as a stream."""

from __future__ import annotations

from typing import Any

import apache_beam as beam
from tfx import types
from tfx import v1 as tfx
from tfx.components.example_gen.component import FileBasedExampleGen
from tfx.components.example_gen.import_example_gen import executor
from tfx.dsl.components.base import executor_spec
from tfx.dsl.io import fileio
from tfx.types import artifact_utils

from data.splits import SPLITS, missing_split, shard_pattern


class StreamingExecutor(executor.Executor):
    """ImportExampleGen's executor without its shuffle: Beam's DirectRunner holds all records in memory to shuffle them.

    Records keep their order within a shard. The Trainer shuffles while it reads.
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
        """Writes each split while it is read. The empty result leaves the base class nothing to shuffle and write."""
        for split, examples in super().GenerateExamplesByBeam(pipeline, exec_properties).items():
            prefix = f"{artifact_utils.get_split_uri(self._examples, split)}/data_tfrecord"
            (
                examples
                | f"Serialize[{split}]" >> beam.Map(lambda example: example.SerializeToString(deterministic=True))
                | f"Write[{split}]" >> beam.io.WriteToTFRecord(prefix, file_name_suffix=".gz")
            )
        return {}


class StreamingExampleGen(FileBasedExampleGen):
    """ImportExampleGen with the executor above. It imports the train, eval and test shards of a folder."""

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(StreamingExecutor)

    def __init__(self, input_base: str | tfx.dsl.experimental.RuntimeParameter) -> None:
        splits = [tfx.proto.Input.Split(name=split, pattern=shard_pattern(split)) for split in SPLITS]
        super().__init__(input_base=input_base, input_config=tfx.proto.Input(splits=splits))
