"""Where the examples are that the data gate refuses for their content. It reads the data folder, after a refusal."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import chain, islice
from pathlib import Path

import numpy as np

from components.data_validation.contents import digest, values_of
from data.example import ExampleSpec
from data.records import read_serialized
from data.splits import is_shard, shard_pattern

_FIRST = 3


def places(folder: Path, spec: ExampleSpec, blank: Collection[str], trained: bool) -> Iterator[str]:
    """The first blank examples of the splits in `blank`, and, if `trained`, test examples with where else they are."""
    for split in blank:
        found = (place for place, values in _examples(folder, split, spec) if values.min() == values.max())
        yield from (f"{place} is blank" for place in islice(found, _FIRST))
    if trained:
        tests = _examples(folder, "test", spec)
        tested = {digest(values): place for place, values in tests if values.min() < values.max()}
        others = chain.from_iterable(_examples(folder, split, spec) for split in ("train", "eval"))
        same = ((tested.pop(digest(values), None), place) for place, values in others)
        yield from (f"{test} is also {other}" for test, other in islice((pair for pair in same if pair[0]), _FIRST))


def _examples(folder: Path, split: str, spec: ExampleSpec) -> Iterator[tuple[str, np.ndarray]]:
    """The place and the values of each example."""
    for path in sorted(path for path in folder.glob(shard_pattern(split)) if is_shard(path.name)):
        for index, record in enumerate(read_serialized(path)):
            if (values := values_of(record, spec)) is not None:
                yield f"{path.name}, record {index}", values
