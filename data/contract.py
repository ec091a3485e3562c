"""What data/example.py must have: the pipeline calls nothing else of it. A fork that replaces that file keeps to this.

mypy checks the file against the contract, and so does tests/data/test_contract.py. data/example.py says what each
function means.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf
    from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

    from data import example


class Spec(Protocol):
    """The size of an example: a section of the settings."""

    @property
    def classes(self) -> int: ...
    @property
    def labels(self) -> tuple[str, ...]: ...
    @property
    def sequence_shape(self) -> tuple[int, int]: ...


class ExampleFile(Protocol):
    """The module. `array` is one example's input, of whatever shape and dtype the file says."""

    LABEL: str

    def serialize(self, array: np.ndarray, label: int, /) -> bytes: ...
    def parse(self, record: bytes, spec: example.ExampleSpec, /) -> tuple[np.ndarray, int]: ...
    def reading(self, spec: example.ExampleSpec, arrays: np.ndarray, /) -> dict[str, np.ndarray]: ...
    def draw(self, array: np.ndarray, spec: example.ExampleSpec, /) -> np.ndarray: ...
    def schema(self, spec: example.ExampleSpec, /) -> schema_pb2.Schema: ...
    def size_anomaly(
        self, found: statistics_pb2.DatasetFeatureStatistics, spec: example.ExampleSpec, /
    ) -> str | None: ...
    def problems(self, record: bytes, spec: example.ExampleSpec, /) -> Iterator[str]: ...
    def to_sequence(self, features: dict[str, tf.Tensor], spec: example.ExampleSpec, /) -> tf.Tensor: ...
    def input_spec(self, spec: example.ExampleSpec, /) -> tf.TensorSpec: ...
    def pack(self, inputs: tf.Tensor, spec: example.ExampleSpec, /) -> dict[str, tf.Tensor]: ...


if TYPE_CHECKING:
    _: ExampleFile = example
    __: type[Spec] = example.ExampleSpec
