"""A test for the accuracies of two models on one test split."""

from __future__ import annotations


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
