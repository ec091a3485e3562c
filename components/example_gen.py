"""ExampleGen: imports the shards of a data folder, split by split, as a stream."""

from __future__ import annotations

from typing import Any

import apache_beam as beam
from tfx import types
from tfx.components.example_gen import driver, utils
from tfx.components.example_gen.component import FileBasedExampleGen
from tfx.components.example_gen.import_example_gen import executor
from tfx.dsl.components.base import executor_spec
from tfx.dsl.io import fileio
from tfx.orchestration.data_types import RuntimeParameter
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, standard_component_specs

from components.digests import DIGEST, DIGESTS, digest_of, shard_digests
from data.splits import SPLITS, check_shards, shard_pattern


class ContentDriver(driver.FileBasedDriver):
    """TFX's driver, which tells new shards from old ones by their content. TFX itself looks at sizes and times only."""

    def resolve_exec_properties(
        self, exec_properties: dict[str, Any], pipeline_info: Any, component_info: Any
    ) -> dict[str, Any]:
        """Adds what the cache compares, among it the fingerprint of the input."""
        resolved = super().resolve_exec_properties(exec_properties, pipeline_info, component_info)
        digest = digest_of(shard_digests(resolved[standard_component_specs.INPUT_BASE_KEY]))
        return {**resolved, utils.FINGERPRINT_PROPERTY_NAME: digest}


class StreamingExecutor(executor.Executor):
    """ImportExampleGen's executor without its shuffle: Beam's DirectRunner holds all records in memory to shuffle them.

    Records keep their order within a shard. The Trainer shuffles while it reads. The SHA-256 of each shard is kept
    beside the imported examples.
    """

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Imports the shards.

        Raises:
            DataError: a split without shards, a shard that is missing or empty, or another file among them.
        """
        folder = exec_properties["input_base"]
        check_shards(folder)
        self._examples = output_dict["examples"]
        super().Do(input_dict, output_dict, exec_properties)
        write_digests(self._examples[0], folder)

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


def write_digests(examples: types.Artifact, folder: str) -> None:
    """Writes `SHA256SUMS` for the shards in `folder`, and its own digest to ML Metadata."""
    text = shard_digests(folder)
    with fileio.open(f"{examples.uri}/{DIGESTS}", "w") as file:
        file.write(text)
    examples.set_string_custom_property(DIGEST, digest_of(text))


class StreamingExampleGen(FileBasedExampleGen):
    """ImportExampleGen with the driver and the executor above: the train, eval and test shards of a folder."""

    DRIVER_CLASS = ContentDriver
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(StreamingExecutor)

    def __init__(self, input_base: str | RuntimeParameter) -> None:
        splits = [example_gen_pb2.Input.Split(name=split, pattern=shard_pattern(split)) for split in SPLITS]
        super().__init__(input_base=input_base, input_config=example_gen_pb2.Input(splits=splits))
