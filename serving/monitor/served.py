"""The answers of one version, collected."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from data.reference import Reference
from serving.monitor.answers import Answers
from serving.monitor.labels import Labels, class_ids

STRANGEST = 30
_SUM = 1e-3
"""How far the sum of N probabilities may lie from 1."""


@dataclass(frozen=True)
class Strange:
    """One of the answers with the least confidence; `inputs` is None where the log has none."""

    confidence: float
    class_id: int
    time: datetime
    id: str
    inputs: np.ndarray | None


class Served:
    """What one version has answered.

    Args:
        reference: of the version.
        labels: true labels by the ids of requests, or None.
    """

    def __init__(self, reference: Reference, labels: Labels | None) -> None:
        self.reference, self._names, self._labels = reference, reference.spec.labels, labels
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._strangest: list[tuple[float, int, Strange]] = []
        self._kept = 0
        self.answers = 0
        self.left_out = 0
        """Answers that are no probabilities of the version's classes."""
        self.unmatched = 0
        """Requests with labels, but another number of labels than of answers."""

    def add(self, found: Answers) -> None:
        """Takes the answers to one request, or some rows of a table.

        Raises:
            UserError: a label is no class of the version.
        """
        probabilities = self._ordered(found)
        if probabilities is None:
            self.left_out += 1
            return
        sums = probabilities.sum(axis=1, dtype=np.float64)
        usable = (np.abs(sums - 1) < _SUM) & (probabilities >= 0).all(axis=1)
        self.left_out += int(np.count_nonzero(~usable))
        day = np.full(len(usable), found.time.date().toordinal(), np.int32)
        labels = self._known(found, len(usable))
        self._parts.append((probabilities[usable].astype(np.float32), day[usable], labels[usable]))
        for index in np.flatnonzero(usable)[np.argsort(probabilities[usable].max(axis=1))[:STRANGEST]].tolist():
            self._keep(found, probabilities, index)
        self.answers += int(np.count_nonzero(usable))

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The probabilities, float32 [N, K]; the days (UTC), int32 [N], as `date.toordinal` gives them; and the true
        class ids, int64 [N], -1 where they are not known."""
        empty = np.zeros((0, len(self._names)), np.float32), np.zeros(0, np.int32), np.zeros(0, np.int64)
        probabilities, days, labels = zip(empty, *self._parts, strict=True)
        return np.concatenate(probabilities), np.concatenate(days), np.concatenate(labels)

    def strangest(self) -> list[Strange]:
        """The answers with the least confidence, the least first."""
        return [strange for *_, strange in sorted(self._strangest, reverse=True)]

    def _ordered(self, found: Answers) -> np.ndarray | None:
        """The probabilities by class id; None if they are of other classes."""
        probabilities = found.probabilities
        if probabilities is None or probabilities.shape[1] != len(self._names):
            return None
        if found.names in ((), self._names):
            return probabilities
        if sorted(found.names) != sorted(self._names):
            return None
        return probabilities[:, [found.names.index(name) for name in self._names]]

    def _known(self, found: Answers, count: int) -> np.ndarray:
        """The true class ids of `count` answers, -1 where they are not known.

        Either each answer has an id, or all have one, whose labels are in the order of the inputs. A later label of an
        answer replaces the one before.
        """
        if self._labels is None:
            return np.full(count, -1) if found.labels is None else found.labels
        if len(found.ids) == count:
            return class_ids([self._labels.get(id_, [None])[-1] for id_ in found.ids], self._names)
        labels = self._labels.get(found.ids[0], [])
        if len(labels) != count:
            self.unmatched += bool(labels)
            return np.full(count, -1)
        return class_ids(labels, self._names)

    def _keep(self, found: Answers, probabilities: np.ndarray, index: int) -> None:
        confidence = float(probabilities[index].max())
        if len(self._strangest) == STRANGEST and confidence >= -self._strangest[0][0]:
            return
        strange = Strange(
            confidence,
            int(probabilities[index].argmax()),
            found.time,
            found.ids[index if len(found.ids) > 1 else 0],
            None if found.inputs is None else found.inputs[index].copy(),
        )
        self._kept += 1  # keeps two of the same confidence apart
        heapq.heappush(self._strangest, (-confidence, -self._kept, strange))
        if len(self._strangest) > STRANGEST:
            heapq.heappop(self._strangest)
