"""Two questions to answers without labels: does the model still read what it was trained on, and how good is it?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2_contingency, ks_2samp, kstwo  # type: ignore[import-untyped]

from data.proportion import wilson
from data.reference import Reference

ALPHA = 0.01
"""How often the test is to find a change where there is none."""
_FEW = 5.0
"""With fewer expected answers, the distribution of χ² is not that of the test: such classes are counted together."""


@dataclass(frozen=True)
class Estimate:
    """The accuracy that average thresholded confidence expects, a share, and its 95 % interval."""

    accuracy: float
    interval: tuple[float, float]


def p_values(reference: Reference, probabilities: np.ndarray) -> np.ndarray:
    """The p-values of K + 1 two-sample tests of a stream against the reference, float64 [K + 1].

    K Kolmogorov-Smirnov tests, of the probability of each class, and a χ² test of how often each class is the answer.
    They are the best of those compared by S. Rabanser et al., "Failing loudly: an empirical study of methods for
    detecting dataset shift", NeurIPS 2019, arXiv 1810.11953 (there: BBSDs and BBSDh).

    Args:
        reference: of the model that answered.
        probabilities: float32 [N, K], the answers, N ≥ 1.
    """
    classes = probabilities.shape[1]
    effective = round(_effective(reference, len(probabilities)))
    distances = [
        # Of its p-value, the quantiles would be the whole reference.
        ks_2samp(reference.quantiles[:, label], probabilities[:, label], method="asymp").statistic
        for label in range(classes)
    ]
    counts = np.bincount(probabilities.argmax(axis=1), minlength=classes)
    return np.append(kstwo.sf(distances, effective), _chi_square(np.stack([reference.counts, counts])))


def changed(p: np.ndarray) -> bool:
    """Whether the p-values together say that the stream is not what the reference was drawn from (Bonferroni)."""
    return bool(p.min() * len(p) < ALPHA)


def estimate(reference: Reference, probabilities: np.ndarray) -> Estimate:
    """How many of the answers, float32 [N, K], are probably right.

    As many as have a confidence of at least the threshold: S. Garg et al., "Leveraging unlabeled data to predict
    out-of-distribution performance", ICLR 2022, arXiv 2201.04234, equation 4. The interval is Wilson's, for N answers
    beside the examples of the reference. It knows chance, and not how far a shift misleads the confidence.
    """
    share = float((probabilities.max(axis=1) >= reference.threshold).mean())
    trials = max(1, round(_effective(reference, len(probabilities))))
    low, high = wilson(round(share * trials), trials)
    # Where confidences are equal, more answers than are right reach the threshold, also in the reference.
    tied = reference.accuracy - reference.confident
    accuracy, low, high = (float(np.clip(value + tied, 0, 1)) for value in (share, low, high))
    return Estimate(accuracy, (low, high))


def _effective(reference: Reference, answers: int) -> float:
    """The size of one sample that scatters as the difference of the two."""
    return answers * reference.examples / (answers + reference.examples)


def _chi_square(counts: np.ndarray) -> float:
    """The p-value of the test that both rows of `counts`, [2, K], have the same distribution; 1 for one class only."""
    shares = counts.sum(axis=0) / counts.sum()
    few = shares * counts.sum(axis=1).min() < _FEW
    table = np.column_stack([counts[:, ~few], counts[:, few].sum(axis=1)])
    table = table[:, table.sum(axis=0) > 0]
    return float(chi2_contingency(table).pvalue) if table.shape[1] > 1 else 1.0
