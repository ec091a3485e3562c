"""TFMA's extracts by slice: of each batch one with all examples, and one for each label.

TFMA's own extractors make an extract of each example. Then the metrics of `components.evaluator.metrics` give the same
figures, and take much longer.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow_model_analysis as tfma
from absl import flags
from tensorflow_model_analysis import constants
from tensorflow_model_analysis.extractors.extractor import Extractor
from tensorflow_model_analysis.extractors.slice_key_extractor import SLICE_KEY_EXTRACTOR_STAGE_NAME
from tensorflow_model_analysis.extractors.unbatch_extractor import UNBATCH_EXTRACTOR_STAGE_NAME
from tensorflow_model_analysis.proto import config_pb2
from tensorflow_model_analysis.slicer.slicer_lib import slice_keys_to_numpy_array

from components.evaluator import metrics
from components.evaluator.config import EACH_CLASS, OVERALL
from data.example import LABEL

_BY_BYTES = "tfxio_use_byte_size_batching"
_NEEDED = (constants.LABELS_KEY, constants.PREDICTIONS_KEY, constants.EXAMPLE_WEIGHTS_KEY)


def custom_extractors(
    eval_shared_model: Any, eval_config: config_pb2.EvalConfig, tensor_adapter_config: Any
) -> list[Extractor]:
    """TFX's Evaluator calls this. With a metric of another module, or other slices, the extractors are TFMA's own."""
    extractors = tfma.default_extractors(
        eval_shared_model=eval_shared_model, eval_config=eval_config, tensor_adapter_config=tensor_adapter_config
    )
    modules = {metric.module for spec in eval_config.metrics_specs for metric in spec.metrics}
    if modules != {metrics.__name__} or list(eval_config.slicing_specs) != [OVERALL, EACH_CLASS]:
        return extractors
    batched = itertools.takewhile(lambda extractor: extractor.stage_name != UNBATCH_EXTRACTOR_STAGE_NAME, extractors)
    return [*batched, Extractor(SLICE_KEY_EXTRACTOR_STAGE_NAME, beam.FlatMap(by_slice))]


@contextmanager
def large_batches() -> Iterator[None]:
    """In the block, tfx_bsl reads batches of 20 MiB, of 8,192 examples at most.

    Its own have 1,000 at most. For each of them TFMA spends more time on the text of an error, which it drops, than in
    the model.
    """
    known = _BY_BYTES in flags.FLAGS
    if known:
        flags.FLAGS.set_default(_BY_BYTES, True)
    try:
        yield
    finally:
        if known:
            flags.FLAGS.set_default(_BY_BYTES, False)


def by_slice(batch: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The extracts of a batch: of all its examples, and of those of each label."""
    needed = {name: batch[name] for name in _NEEDED if batch.get(name) is not None}
    labels = needed[constants.LABELS_KEY]
    labels = (next(iter(labels.values())) if isinstance(labels, Mapping) else labels).reshape(-1)
    slices = {(): np.arange(len(labels))} | {
        ((LABEL, int(label)),): np.flatnonzero(labels == label) for label in np.unique(labels)
    }
    for key, rows in slices.items():
        yield {**_rows(needed, rows), constants.SLICE_KEY_TYPES_KEY: slice_keys_to_numpy_array([key])}


def _rows(values: Any, rows: np.ndarray) -> Any:
    """Some rows of all arrays in a nested mapping."""
    if isinstance(values, Mapping):
        return {name: _rows(value, rows) for name, value in values.items()}
    return values[rows]
