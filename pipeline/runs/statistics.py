"""Intervals and tests for accuracies that were measured on one test split."""

from __future__ import annotations

import math
from statistics import NormalDist

_Z = NormalDist().inv_cdf(0.975)


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


def mcnemar(b: int, c: int) -> float:
    """The two-sided p-value of the exact McNemar test for two models on the same examples.

    Q. McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12 (1947), with the binomial distribution in place of its χ² approximation.

    Args:
        b: examples that only the first model gets right.
        c: examples that only the second model gets right; 1 is returned if both are 0.
    """
    from scipy.stats import binomtest  # type: ignore[import-untyped]

    return float(binomtest(b, b + c, 0.5).pvalue) if b + c else 1.0
