"""What is in the splits: the range of the values, their mean, blank examples, and test examples that were trained on.

Whatever an example is, `data.example.parse` gives its values, and they are compared by these.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from components.data_validation.settings import Validation
from data.days import in_order
from data.example import ExampleSpec, parse
from data.shards import GOLDEN, day_of

FILE = "contents.json"
"""The file with the contents of each split, and of each day's part as `2026-11-28/train`, among the statistics."""
HELD_OUT = ("test", GOLDEN)
"""The splits that nothing is trained on."""


class Contents(NamedTuple):
    """Sums over the examples of a split. The `level` of an example is the mean of its values, its `span` their range.

    `first` and `last` are the least and the greatest digest: of an example's values, as a number below 2^64.
    `trained` counts the examples of a held-out split that are also in train or eval.
    """

    examples: int = 0
    blank: int = 0
    low: float = math.inf
    high: float = -math.inf
    level: float = 0.0
    level_squares: float = 0.0
    span: float = 0.0
    first: int = 2**64
    last: int = -1
    trained: int = 0

    def __add__(self, other: Contents) -> Contents:  # type: ignore[override]
        sums = {name: a + b for name, a, b in zip(self._fields, self, other, strict=True)}
        least = {name: min(getattr(self, name), getattr(other, name)) for name in ("low", "first")}
        greatest = {name: max(getattr(self, name), getattr(other, name)) for name in ("high", "last")}
        return Contents(**{**sums, **least, **greatest})

    @property
    def mean(self) -> float:
        """Of all values."""
        return self.level / self.examples

    @property
    def variance(self) -> float:
        """Of the examples' levels."""
        return max(0.0, self.level_squares / self.examples - self.mean**2)

    @property
    def mean_span(self) -> float:
        """From the least to the greatest value of an example, on average."""
        return self.span / self.examples


def measure(records: Sequence[bytes], spec: ExampleSpec) -> tuple[Contents, np.ndarray]:
    """The contents of these records, and the digests of those that are not blank, uint64 [≤ N].

    Records that are no examples do not count. Blank ones are all alike, and no sign that a split was copied.
    """
    arrays = [array for record in records if (array := values_of(record, spec)) is not None]
    if not arrays:
        return Contents(), np.zeros(0, np.uint64)
    digests = np.frombuffer(b"".join(map(digest, arrays)), np.uint64)
    values = np.stack(arrays).reshape(len(arrays), -1)
    low, high = values.min(axis=1).astype(float), values.max(axis=1).astype(float)
    level = values.mean(axis=1, dtype=float)
    return Contents(
        examples=len(arrays),
        blank=int((low == high).sum()),
        low=float(low.min()),
        high=float(high.max()),
        level=float(level.sum()),
        level_squares=float((level**2).sum()),
        span=float((high - low).sum()),
        first=int(digests.min()),
        last=int(digests.max()),
    ), digests[low < high]


def digest(array: np.ndarray) -> bytes:
    """8 bytes that tell the values of an example from others."""
    return hashlib.blake2b(array.tobytes(), digest_size=8).digest()


def values_of(record: bytes, spec: ExampleSpec) -> np.ndarray | None:
    """The values of a record; None if it is no example."""
    try:
        return parse(record, spec)[0]
    except Exception:  # the schema and the anomalies say what is wrong with it
        return None


def merge(parts: Iterable[Mapping[str, Contents]]) -> dict[str, Contents]:
    """The sum of what is known of each split."""
    merged: dict[str, Contents] = {}
    for part in parts:
        for split, contents in part.items():
            merged[split] = merged.get(split, Contents()) + contents
    return merged


def to_json(splits: Mapping[str, Contents]) -> str:
    return json.dumps({split: contents._asdict() for split, contents in sorted(splits.items())}, indent=1) + "\n"


def from_json(text: str) -> dict[str, Contents]:
    """What `to_json` made."""
    return {split: Contents(**numbers) for split, numbers in json.loads(text).items()}


def content_anomalies(splits: Mapping[str, Contents], limits: Validation) -> Iterator[tuple[str, str, str]]:
    """The split, what is wrong with it, and the setting that would allow it; one for each anomaly.

    A split is compared with train, and each day's part of a split with train of the days before.
    """
    found = {split: contents for split, contents in splits.items() if not day_of(split)}
    yield from _anomalies(found, found.get("train", Contents()), "train", limits)
    days: dict[str, dict[str, Contents]] = defaultdict(dict)
    for split, contents in splits.items():
        if day := day_of(split):
            days[day][split] = contents
    before = Contents()
    for day in in_order(days):
        train = days[day].get(f"{day}/train", Contents())
        yield from _anomalies(days[day], before, "train of the days before", limits)
        before += train


def _anomalies(
    splits: Mapping[str, Contents], train: Contents, name: str, limits: Validation
) -> Iterator[tuple[str, str, str]]:
    """What is wrong with the splits by themselves, and in comparison with `train`."""
    for split, found in splits.items():
        if _is_blank(found, limits):
            seen = f"{found.blank:,} of {found.examples:,}"
            expected = f"at most {limits.max_blank:.4g} of the examples blank, with the same value everywhere"
            yield split, f"expected {expected}; seen: {seen}", "max_blank"
        elif _is_copied(found):
            yield split, f"expected different examples; seen: all {found.examples:,} are the same", ""
        elif found is not train:
            if found.examples and train.examples and not _is_blank(train, limits) and not _is_copied(train):
                yield from ((split, *line) for line in _differences(found, train, name, limits))
            if found.trained > limits.max_test_in_train * found.examples:
                seen = f"{found.trained:,} of {found.examples:,} are also in train or eval"
                yield split, f"expected examples that are in no other split; seen: {seen}", "max_test_in_train"


def _is_blank(contents: Contents, limits: Validation) -> bool:
    return contents.blank > limits.max_blank * contents.examples


def _is_copied(contents: Contents) -> bool:
    return contents.examples > 1 and contents.first == contents.last


def _differences(found: Contents, train: Contents, name: str, limits: Validation) -> Iterator[tuple[str, str]]:
    """How a split is unlike `train`, which is called `name`, each with the setting that would allow it."""
    ratio = found.mean_span / train.mean_span if train.mean_span else math.inf
    if not 1 / limits.max_range_ratio <= ratio <= limits.max_range_ratio:
        yield (
            f"expected values on the scale of {name}, {_range(train)}; seen: {_range(found)}",
            "max_range_ratio",
        )
        return
    width = train.high - train.low
    difference = abs(found.mean - train.mean)
    chance = 3 * math.sqrt(found.variance / found.examples + train.variance / train.examples)
    if difference > limits.max_mean_difference * width + chance:
        seen = f"{found.mean:.4g}, which is {difference / width:.0%} of the range apart"
        mirrored = abs(train.low + train.high - found.mean - train.mean)
        hint = ", as if black and white were exchanged" if mirrored < difference / 4 else ""
        yield f"expected a mean value as in {name}, {train.mean:.4g}; seen: {seen}{hint}", "max_mean_difference"


def _range(contents: Contents) -> str:
    return f"{contents.low:.4g} to {contents.high:.4g}, {contents.mean_span:.4g} apart in an example"
