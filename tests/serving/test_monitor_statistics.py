"""The monitor's statistics: beside SciPy's on the whole sample, and how often they alarm with and without a reason."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2_contingency, ks_2samp

from data.reference import QUANTILES, Reference, summarize
from serving.monitor.statistics import changed, estimate, p_values
from serving.monitor.verdict import judge
from tests.serving.monitored import SPEC, SURE, UNSURE, answers

DROP = 0.005


@pytest.fixture(scope="module")
def held_out() -> tuple[np.ndarray, np.ndarray]:
    return answers(5_000, seed=1_000_000)


@pytest.fixture(scope="module")
def reference(held_out: tuple[np.ndarray, np.ndarray]) -> Reference:
    return summarize(*held_out, SPEC)


def test_quantiles_tell_what_the_whole_sample_would(
    reference: Reference, held_out: tuple[np.ndarray, np.ndarray]
) -> None:
    stream = answers(2_000, 8.5)[0]
    expected = [ks_2samp(held_out[0][:, label], stream[:, label], method="asymp").pvalue for label in range(10)]
    counts = [np.bincount(part.argmax(axis=1), minlength=10) for part in (held_out[0], stream)]
    found = p_values(reference, stream)
    assert np.log10(found[:10]) == pytest.approx(np.log10(expected), abs=0.6)
    assert found[10] == pytest.approx(chi2_contingency(np.stack(counts)).pvalue)
    few = held_out[0][: QUANTILES - 1]  # a smaller sample is its own quantiles
    small = summarize(few, held_out[1][: QUANTILES - 1], SPEC)
    exact = [ks_2samp(few[:, label], stream[:, label], method="asymp").pvalue for label in range(10)]
    assert p_values(small, stream)[:10] == pytest.approx(exact)


def test_without_a_reason_it_hardly_alarms_and_never_asks_for_a_training() -> None:
    """Each stream has another reference, as in the benchmark."""
    found = []
    for seed in range(300):
        probabilities, labels = answers(2_500, seed=seed)
        reference = summarize(probabilities[:1_500], labels[:1_500], SPEC)
        found.append(judge(reference, probabilities[1_500:], np.ones(1_000, np.int32), labels[1_500:], DROP).word)
    assert found.count("retrain") == 0
    assert found.count("changed") <= 0.02 * len(found)


@pytest.mark.parametrize(("size", "word"), [(300, "changed"), (1_000, "retrain")])
def test_with_a_reason_it_alarms(reference: Reference, size: int, word: str) -> None:
    for seed in range(20):
        stream, labels = answers(size, UNSURE, seed)
        assert judge(reference, stream, np.ones(size, np.int32), labels, DROP).word == word


def test_the_estimate_follows_the_accuracy(reference: Reference) -> None:
    for signal in (SURE, 8.0, UNSURE):
        stream, labels = answers(4_000, signal)
        found = estimate(reference, stream)
        assert found.accuracy == pytest.approx((stream.argmax(axis=1) == labels).mean(), abs=0.015)
        assert found.interval[0] < found.accuracy < found.interval[1]
    assert estimate(reference, answers(100)[0]).interval[0] < estimate(reference, answers(4_000)[0]).interval[0]


def test_the_interval_holds_the_accuracy_of_a_stream_without_a_shift(reference: Reference) -> None:
    within = []
    for seed in range(200):
        stream, labels = answers(500, seed=seed)
        low, high = estimate(reference, stream).interval
        within.append(low <= (stream.argmax(axis=1) == labels).mean() <= high)
    assert np.mean(within) > 0.85


def test_equal_confidences_do_not_mislead_the_estimate() -> None:
    """A network that is sure of all its answers says 1.0 for most of them."""
    stream, labels = answers(3_000, UNSURE)
    sure = np.eye(10, dtype=np.float32)[stream.argmax(axis=1)]
    reference = summarize(sure, labels, SPEC)
    assert reference.confident == 1 and reference.accuracy < 0.95
    assert estimate(reference, sure).accuracy == reference.accuracy


def test_rare_and_missing_classes() -> None:
    stream, labels = answers(3_000)
    kept = labels < 2
    reference = summarize(stream[kept], labels[kept], SPEC)
    assert not changed(p_values(reference, stream[kept][:250]))
    assert changed(p_values(reference, stream[labels == 9]))
    one = stream[stream.argmax(axis=1) == 3]
    assert p_values(summarize(one, np.full(len(one), 3), SPEC), one[:50])[-1] == 1
