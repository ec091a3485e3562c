"""StatisticsGen with one more file: what is in the splits. The data gate reads both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
from apache_beam.io.filesystems import FileSystems
from tensorflow_data_validation import StatsOptions
from tfx import types
from tfx.components.statistics_gen import component, executor
from tfx.dsl.components.base import executor_spec
from tfx.dsl.io import fileio
from tfx.types import artifact_utils, standard_component_specs

from components.data_validation.contents import FILE, HELD_OUT, Contents, measure, merge, to_json
from components.digests import days_of_files
from data.example import ExampleSpec
from data.records import read_records

EXAMPLE = "example"
_BATCH = 256


class StatisticsExecutor(executor.Executor):
    """TFX's executor, whose Beam pipeline also measures the contents."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Computes the statistics and the contents of every split."""
        examples = input_dict[standard_component_specs.EXAMPLES_KEY]
        days = days_of_files(examples[0].uri)
        self._files = [
            (split, days.get(path.rpartition("/")[2], ""), path)
            for split in artifact_utils.decode_split_names(examples[0].split_names)
            for path in fileio.glob(f"{artifact_utils.get_split_uri(examples, split)}/*")
        ]
        self._output = f"{output_dict[standard_component_specs.STATISTICS_KEY][0].uri}/{FILE}"
        self._spec = ExampleSpec.model_validate_json(exec_properties[EXAMPLE])
        super().Do(input_dict, output_dict, exec_properties)

    def _make_beam_pipeline(self) -> beam.Pipeline:
        """One job for both: a distributed engine takes longer to start one than to read the examples again."""
        pipeline = super()._make_beam_pipeline()
        write_contents(pipeline, self._files, self._spec, self._output)
        return pipeline


class StatisticsGen(component.StatisticsGen):
    """TFX's StatisticsGen with the executor above."""

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(StatisticsExecutor)

    def __init__(self, examples: types.BaseChannel, schema: types.BaseChannel, example: ExampleSpec) -> None:
        # Sketches count as exactly where there are few values, in fewer stages.
        options = StatsOptions(use_sketch_based_topk_uniques=True)
        super().__init__(examples=examples, schema=schema, stats_options=options)
        self.exec_properties[EXAMPLE] = example.model_dump_json()


def write_contents(
    pipeline: beam.Pipeline, files: Sequence[tuple[str, str, str]], spec: ExampleSpec, output: str
) -> None:
    """Measures the splits, and each day's part of them, and writes the file `output`.

    Of an example only a digest of 8 bytes leaves its batch, so the memory hardly grows with the data.

    Args:
        files: gzipped TFRecords, each with its split, and with its day or "".
    """
    measured = (
        pipeline
        | "Shards" >> beam.Create(files)
        | "Spread" >> beam.Reshuffle()
        | "Measure" >> beam.FlatMap(_measured, spec)
    )
    tested = measured | "HeldOut" >> beam.Filter(lambda batch: batch.split in HELD_OUT)
    digests = tested | "TestDigests" >> beam.Map(lambda batch: batch.digests)
    test = beam.pvalue.AsSingleton(digests | "DistinctTest" >> beam.CombineGlobally(_distinct))
    others = measured | "OtherDigests" >> beam.FlatMap(_common, test)
    trained = beam.pvalue.AsSingleton(others | "DistinctTrained" >> beam.CombineGlobally(_distinct))
    _ = (
        (
            measured | "Contents" >> beam.Map(lambda batch: dict.fromkeys(batch.keys, batch.contents)),
            tested | "CountTrained" >> beam.Map(_count, trained),
        )
        | "AllContents" >> beam.Flatten()
        | "MergeContents" >> beam.CombineGlobally(merge)
        | "WriteContents" >> beam.Map(_write, output)
    )


class _Batch(NamedTuple):
    split: str
    day: str
    contents: Contents
    digests: np.ndarray

    @property
    def keys(self) -> list[str]:
        """What the contents belong to: the split, and the day's part of it."""
        return [self.split, f"{self.day}/{self.split}"] if self.day else [self.split]


def _measured(file: tuple[str, str, str], spec: ExampleSpec) -> Iterator[_Batch]:
    split, day, path = file
    for records in read_records([path]).batch(_BATCH).as_numpy_iterator():
        yield _Batch(split, day, *measure(records, spec))


def _distinct(arrays: Iterable[np.ndarray]) -> np.ndarray:
    return np.unique(np.concatenate([np.zeros(0, np.uint64), *arrays]))


def _common(batch: _Batch, test: np.ndarray) -> Iterator[np.ndarray]:
    if batch.split not in HELD_OUT and (found := np.intersect1d(batch.digests, test)).size:
        yield found


def _count(batch: _Batch, trained: np.ndarray) -> dict[str, Contents]:
    return {batch.split: Contents(trained=int(np.isin(batch.digests, trained).sum()))}


def _write(splits: dict[str, Contents], path: str) -> None:
    with FileSystems.create(path, "application/json") as file:
        file.write(to_json(splits).encode())
