"""A share of examples, and how far chance may move it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

_Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Proportion:
    """`right` of `total` examples, with the 95 % Wilson interval of the share."""

    right: int
    total: int

    @property
    def share(self) -> float:
        return self.right / self.total if self.total else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.right, self.total)


def wilson(k: int, n: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a proportion.

    That of scipy.stats.binomtest, without the second that loading SciPy takes: E. B. Wilson, "Probable inference, the
    law of succession, and statistical inference", Journal of the American Statistical Association 22 (1927).

    Args:
        k: successes.
        n: trials; 0 gives (0, 1), which says nothing.

    Raises:
        ValueError: k is not between 0 and n.
    """
    if not 0 <= k <= n:
        raise ValueError(f"{k} of {n} is not a proportion")
    if n == 0:
        return 0.0, 1.0
    share, weight = k / n, _Z**2 / n
    centre = (share + weight / 2) / (1 + weight)
    half = math.sqrt(weight * (share * (1 - share) + weight / 4)) / (1 + weight)
    return (0.0 if k == 0 else centre - half), (1.0 if k == n else centre + half)
