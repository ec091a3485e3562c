"""ExampleGen: imports the shards of a data folder, split by split, as a stream."""

from __future__ import annotations

import hashlib
from typing import Any

import apache_beam as beam
from tfx import types
from tfx import v1 as tfx
from tfx.components.example_gen.component import FileBasedExampleGen
from tfx.components.example_gen.import_example_gen import executor
from tfx.dsl.components.base import executor_spec
from tfx.dsl.io import fileio
from tfx.types import artifact_utils

from components.digests import DIGEST, DIGESTS
from data.splits import SPLITS, check_shards, shard_pattern


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
    """Writes `SHA256SUMS`, as sha256sum prints it, for the shards in `folder`; and its own digest to ML Metadata."""
    shards = (path for split in SPLITS for path in fileio.glob(f"{folder}/{shard_pattern(split)}"))
    names = sorted(path.rpartition("/")[2] for path in shards)
    text = "".join(f"{_sha256(f'{folder}/{name}')}  {name}\n" for name in names)
    with fileio.open(f"{examples.uri}/{DIGESTS}", "w") as file:
        file.write(text)
    examples.set_string_custom_property(DIGEST, hashlib.sha256(text.encode()).hexdigest())


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with fileio.open(path, "rb") as file:
        while content := file.read(2**20):
            digest.update(content)
    return digest.hexdigest()


class StreamingExampleGen(FileBasedExampleGen):
    """ImportExampleGen with the executor above. It imports the train, eval and test shards of a folder."""

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(StreamingExecutor)

    def __init__(self, input_base: str | tfx.dsl.experimental.RuntimeParameter) -> None:
        splits = [tfx.proto.Input.Split(name=split, pattern=shard_pattern(split)) for split in SPLITS]
        super().__init__(input_base=input_base, input_config=tfx.proto.Input(splits=splits))
