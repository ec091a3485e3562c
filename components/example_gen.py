"""ExampleGen: imports the shards of a data folder, or of the days of a window, split by split."""

from __future__ import annotations

import logging
from typing import Any

import apache_beam as beam
import tensorflow as tf
from tfx import types
from tfx.components.example_gen import driver, utils
from tfx.components.example_gen.component import FileBasedExampleGen
from tfx.components.example_gen.import_example_gen import executor
from tfx.components.util import examples_utils
from tfx.dsl.components.base import executor_spec
from tfx.dsl.io import fileio
from tfx.orchestration.data_types import RuntimeParameter
from tfx.types import artifact_utils, standard_component_specs

from components.digests import DAYS, DIGEST, DIGESTS, day_digests, digest_of, parse_digests, shard_digests
from data.errors import DataError
from data.records import read_serialized
from data.shards import Shard, Source, find_source, imported_name

WINDOW, GOLDEN_BASE = "window", "golden_base"
"""Execution properties: how many days, and the folder of the golden set. DAYS is one, too."""

log = logging.getLogger(__name__)


def source_of(exec_properties: dict[str, Any]) -> Source:
    """The shards that these execution properties name.

    Raises:
        DataError: as `find_source` does.
    """
    return find_source(
        exec_properties[standard_component_specs.INPUT_BASE_KEY],
        exec_properties[WINDOW],
        exec_properties.get(GOLDEN_BASE, ""),
        exec_properties.get(DAYS, ""),
    )


def report(source: Source) -> None:
    """Logs which days are taken, and which are left out."""
    if source.days:
        log.info("Takes %d day%s: %s.", len(source.days), "s"[: len(source.days) - 1], source.window)
    for sentence in source.left_out:
        log.warning(sentence)


def checked_digests(source: Source) -> str:
    """The SHA-256 of each shard.

    Raises:
        DataError: two days are the same, so one has come twice.
    """
    text = shard_digests(source.shards)
    found: dict[str, str] = {}
    for day, digest in day_digests(parse_digests(text)).items():
        if (other := found.setdefault(digest, day)) != day:
            raise DataError(f"The days {other} and {day} have the same shards: remove the one that came by mistake.")
    return text


class WindowDriver(driver.FileBasedDriver):
    """Chooses the days, and tells new shards from old ones by their content. TFX looks at sizes and times only."""

    def resolve_exec_properties(
        self, exec_properties: dict[str, Any], pipeline_info: Any, component_info: Any
    ) -> dict[str, Any]:
        """Adds what the cache compares: the days and the fingerprint of the input."""
        source = source_of(exec_properties)
        newest = source.days[-1] if source.days else None
        report(source)
        return {
            **exec_properties,
            DAYS: source.window,
            utils.SPAN_PROPERTY_NAME: newest.span if newest else 0,
            utils.VERSION_PROPERTY_NAME: newest.version if newest and newest.version else None,
            utils.FINGERPRINT_PROPERTY_NAME: digest_of(checked_digests(source)),
        }


class ShardExecutor(executor.Executor):
    """ImportExampleGen's executor without its shuffle: Beam's DirectRunner holds all records in memory to shuffle them.

    Each shard is imported as one file, with the label of its day in the name. The Trainer shuffles while it reads. The
    SHA-256 of each shard is kept beside the imported examples.
    """

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Imports the shards.

        Raises:
            DataError: a split without shards, a shard that is missing or empty, another file among them, or no day.
        """
        (examples,) = output_dict["examples"]
        source = source_of(exec_properties)
        if not exec_properties.get(DAYS):  # a container has no driver
            report(source)
        splits = list(dict.fromkeys(shard.split for shard in source.shards))
        examples.split_names = artifact_utils.encode_split_names(splits)
        for split in splits:
            fileio.makedirs(artifact_utils.get_split_uri([examples], split))
        log.debug("Copies %d shards.", len(source.shards))
        with self._make_beam_pipeline() as pipeline:
            _ = (
                pipeline
                | beam.Create([(shard.path, imported(examples, shard)) for shard in source.shards])
                | beam.Reshuffle()
                | beam.MapTuple(copy_shard)
            )
        examples_utils.set_payload_format(examples, exec_properties[standard_component_specs.OUTPUT_DATA_FORMAT_KEY])
        write_digests(examples, source)


def imported(examples: types.Artifact, shard: Shard) -> str:
    """The path of a shard among the imported examples."""
    return f"{artifact_utils.get_split_uri([examples], shard.split)}/{imported_name(shard.name)}"


def copy_shard(path: str, target: str) -> None:
    """Copies the records of a TFRecord file into a gzipped one.

    Raises:
        tf.errors.DataLossError: a damaged or cut-off record.
    """
    with tf.io.TFRecordWriter(target, "GZIP") as writer:
        for record in read_serialized(path):
            writer.write(record)


def write_digests(examples: types.Artifact, source: Source) -> None:
    """Writes `SHA256SUMS` of the shards, and to ML Metadata its own digest and the days."""
    text = checked_digests(source)
    with fileio.open(f"{examples.uri}/{DIGESTS}", "w") as file:
        file.write(text)
    examples.set_string_custom_property(DIGEST, digest_of(text))
    if source.days:
        examples.span = source.days[-1].span
        examples.set_string_custom_property(DAYS, source.window)


class ExampleGen(FileBasedExampleGen):
    """ImportExampleGen with the driver and the executor above: the train, eval and test shards, and the golden set.

    Args:
        input_base: the data folder, or a path that names days, as TFX's spans do.
        window: how many of the newest complete days become one artifact.
        golden: the folder whose test split is the golden set, or "".
        days: the window, if it is known, as `data.days.to_text` has it.
    """

    DRIVER_CLASS = WindowDriver
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(ShardExecutor)

    def __init__(self, input_base: str | RuntimeParameter, window: int, golden: str = "", days: str = "") -> None:
        super().__init__(input_base=input_base)
        self.exec_properties.update({WINDOW: window, GOLDEN_BASE: golden, DAYS: days})
