"""The Beam job of a batch prediction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import apache_beam as beam
import numpy as np
from apache_beam.ml.inference.base import PredictionResult, RunInference
from apache_beam.options.pipeline_options import PipelineOptions

from data.process import Interruption
from pipeline.predict.folder import Job, Unfinished
from pipeline.predict.inputs import Batch, Shard, open_pictures, read_pictures, read_records
from pipeline.predict.model import Answer, Handler
from pipeline.predict.outputs import Columns


class Here:
    """What the command shares with the workers in its process: how far they are, and whether they must stop."""

    predicted = 0
    interruption = Interruption()


def run(job: Job, shards: list[Shard], options: list[str], interruption: Interruption) -> None:
    """Predicts these shards with Beam. Any exception of Beam and of its engine may come out."""
    Here.predicted, Here.interruption = 0, interruption
    # What follows the shuffle is one stage, through which the batches of a shard go one by one. So a worker holds one
    # batch, and writes them in order.
    with beam.Pipeline(options=PipelineOptions(options)) as pipeline:
        _ = (
            pipeline
            | "Shards" >> beam.Create(shards, reshuffle=False)
            | "Shuffle" >> beam.Reshuffle()
            | "Read" >> beam.ParDo(_Read(job))
            | "Predict" >> RunInference(Handler(job.model.folder))
            | "Write" >> beam.ParDo(_Write(job))
        )


class _Read(beam.DoFn):
    def __init__(self, job: Job) -> None:
        self._job = job

    def process(self, shard: Shard) -> Iterator[Batch]:
        job = self._job
        if job.is_finished(shard):  # an engine may try a bundle again
            return
        if shard.file:
            batches = read_records(job.input, shard)
        else:
            assert job.model.reading is not None
            pictures = open_pictures(job.input, job.scratch, job.model.classes)
            batches = read_pictures(pictures, job.model.reading, shard)
        for batch in batches:
            Here.interruption.check()
            yield batch


class _Write(beam.DoFn):
    """Writes each shard, which becomes visible after its last batch."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def setup(self) -> None:
        self._file: Unfinished | None = None
        self._next = 0

    def process(self, result: PredictionResult) -> None:
        batch, answer = cast(Batch, result.example), cast(Answer, result.inference)
        if batch.number == 0:
            self._file, self._next = Unfinished(self._job, batch.shard), 0
        if self._file is None or (self._file.shard, self._next) != (batch.shard, batch.number):
            raise RuntimeError(f"Batch {batch.number} of {batch.shard.name} is out of order: the engine split a stage.")
        inputs, labels = batch.inputs, batch.labels
        if answer.refused:
            kept = answer.kept
            inputs = inputs[kept] if isinstance(inputs, np.ndarray) else [inputs[at] for at in kept]
        found = Columns(
            [batch.ids[at] for at in answer.kept], [labels[at] for at in answer.kept], inputs, answer.probabilities
        )
        refused = [(batch.ids[at], reason) for at, reason in answer.refused.items()]
        self._file.add(found, [*batch.errors, *refused], batch.cut)
        self._next += 1
        Here.predicted += len(found.ids)
        if batch.last:
            self._file.finish()
            self._file = None
