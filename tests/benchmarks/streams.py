"""Streams of answers with and without a shift, drawn from stored predictions, for us and for Evidently."""

from __future__ import annotations

from pathlib import Path

import numpy as np

NONE = "none"


class Streams:
    """For each number another half of the held-out digits is the reference, and streams come from the other half.

    A stream is drawn without replacement where there are enough digits: so without a shift, reference and stream are
    exchangeable.

    Args:
        file: of `tests.benchmarks.drift`: for each shift, the probabilities [N, 10] and the labels [N].
    """

    def __init__(self, file: Path) -> None:
        with np.load(file) as saved:
            self._saved = {name: saved[name] for name in saved.files}
        self.shifts = [name for name in self._saved["shifts"].tolist() if name != NONE]
        self._count = len(self._saved[f"labels {NONE}"])

    def reference(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The probabilities and the labels of a half of the held-out digits."""
        half = self._order(number)[: self._count // 2]
        return self._saved[f"probabilities {NONE}"][half], self._saved[f"labels {NONE}"][half]

    def stream(self, shift: str, number: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """The probabilities and the labels of `size` digits of the other half, under a shift."""
        rest = self._order(number)[self._count // 2 :]
        if (members := self._saved.get(f"members {shift}")) is not None:  # a part of the held-out digits
            rest = rest[np.isin(rest, members)]
            shift = NONE
        elif len(self._saved[f"labels {shift}"]) != self._count:  # other digits
            rest = np.arange(len(self._saved[f"labels {shift}"]))
        chosen = np.random.default_rng([number, size]).choice(rest, size, replace=size > len(rest))
        return self._saved[f"probabilities {shift}"][chosen], self._saved[f"labels {shift}"][chosen]

    def _order(self, number: int) -> np.ndarray:
        return np.random.default_rng(number).permutation(self._count)
