"""What the monitor finds in the answers of one version."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np

from data.proportion import Proportion
from data.reference import Reference
from serving.monitor.statistics import Estimate, changed, estimate, p_values

TOO_FEW, ENOUGH = 200, 1000
"""With fewer answers there is no verdict, and none that asks for a training."""


@dataclass(frozen=True)
class Period:
    """The answers of a day (UTC), or of all days: how many, and how often each class, int64 [K].

    `confidence` is the mean probability of the answers; `true` is None without labels.
    """

    answers: int
    estimate: Estimate
    confidence: float
    counts: np.ndarray
    true: Proportion | None


@dataclass(frozen=True)
class Verdict:
    """Whether a version still reads what it was trained on, and how good it probably is.

    `word` is one of `too few`, `as trained`, `changed` and `retrain`. `p_values` are those of the probability of each
    class and of the frequencies of the classes, float64 [K + 1]. `drop` is how far the estimated accuracy lies below
    that of the reference. `whole` and `days` are empty without answers.
    """

    word: str
    p_values: np.ndarray
    drop: float
    whole: Period | None
    days: dict[date, Period]


def judge(
    reference: Reference, probabilities: np.ndarray, days: np.ndarray, labels: np.ndarray, drop: float
) -> Verdict:
    """The verdict on answers; the arrays are those of `serving.monitor.served.Served.arrays`.

    A new training is asked for if the answers are distributed otherwise than the reference, the estimated accuracy is
    at least `drop` lower, a share, its interval lies below, so that this is not chance, and there are enough answers.
    """
    if not len(probabilities):
        return Verdict("too few", np.ones(len(reference.counts) + 1), 0.0, None, {})
    found = p_values(reference, probabilities)
    whole = _period(reference, probabilities, labels)
    lost = reference.accuracy - whole.estimate.accuracy
    word = "changed" if changed(found) else "as trained"
    worse = lost >= drop and whole.estimate.interval[1] < reference.accuracy
    if word == "changed" and worse and len(probabilities) >= ENOUGH:
        word = "retrain"
    by_day = {
        date.fromordinal(day): _period(reference, probabilities[days == day], labels[days == day])
        for day in np.unique(days).tolist()
    }
    return Verdict("too few" if len(probabilities) < TOO_FEW else word, found, lost, whole, by_day)


def _period(reference: Reference, probabilities: np.ndarray, labels: np.ndarray) -> Period:
    class_ids, known = probabilities.argmax(axis=1), labels >= 0
    total = int(np.count_nonzero(known))
    return Period(
        len(probabilities),
        estimate(reference, probabilities),
        float(probabilities.max(axis=1).mean(dtype=np.float64)),
        np.bincount(class_ids, minlength=probabilities.shape[1]),
        Proportion(int(np.count_nonzero((class_ids == labels) & known)), total) if total else None,
    )
