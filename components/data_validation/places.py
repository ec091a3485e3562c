"""Where the examples are that the data gate refuses for their content. It reads the shards again, after a refusal."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import islice

import numpy as np

from components.data_validation.contents import HELD_OUT, digest, values_of
from data.example import ExampleSpec
from data.records import read_serialized
from data.shards import Shard

_FIRST = 3


def places(
    shards: Sequence[Shard], spec: ExampleSpec, blank: Collection[str], trained: Collection[str]
) -> Iterator[str]:
    """The first blank examples of the splits in `blank`, and those of `trained` with where else they are."""
    for split in blank:
        found = (place for place, values in _examples(shards, (split,), spec) if values.min() == values.max())
        yield from (f"{place} is blank" for place in islice(found, _FIRST))
    for split in trained:
        tests = _examples(shards, (split,), spec)
        tested = {digest(values): place for place, values in tests if values.min() < values.max()}
        others = _examples(shards, {shard.split for shard in shards}.difference(HELD_OUT), spec)
        same = ((tested.pop(digest(values), None), place) for place, values in others)
        yield from (f"{test} is also {other}" for test, other in islice((pair for pair in same if pair[0]), _FIRST))


def _examples(shards: Sequence[Shard], splits: Collection[str], spec: ExampleSpec) -> Iterator[tuple[str, np.ndarray]]:
    """The place and the values of each example."""
    for shard in (shard for shard in shards if shard.split in splits):
        for index, record in enumerate(read_serialized(shard.path)):
            if (values := values_of(record, spec)) is not None:
                yield f"{shard.name}, record {index}", values
