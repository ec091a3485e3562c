"""What was found, in words and as JSON."""

from __future__ import annotations

from typing import Any

from serving.monitor.statistics import ALPHA, Estimate
from serving.monitor.verdict import ENOUGH, TOO_FEW, Period, Verdict
from serving.monitor.watch import Watched


def title(watched: Watched) -> str:
    version = "" if watched.version is None else f", version {watched.version}"
    return f"{watched.model}{version}"


def sentences(watched: Watched, drop: float) -> list[str]:
    """The verdict and its reasons, the verdict first. `drop` is what the verdict was made with."""
    verdict, reference = watched.verdict, watched.reference
    if verdict is None or reference is None:
        return [f"No verdict. {watched.missing}"]
    lines = [_verdict(watched, verdict, drop)]
    if whole := verdict.whole:
        p, count = verdict.p_values, len(verdict.p_values)
        lines.append(
            f"The smallest of {count} p-values is {p.min():.2g}, {_what(watched, int(p.argmin()))};"
            f" below {ALPHA / count:.2g} the answers count as changed."
        )
        lines.append(
            f"Estimated accuracy {estimated(whole.estimate)}; on {reference.examples:,} held-out examples it was"
            f" {reference.accuracy:.4f}."
        )
        if whole.true:
            low, high = whole.true.interval
            lines.append(
                f"True accuracy {whole.true.share:.4f} ({low:.4f} … {high:.4f}) of {whole.true.total:,} answers with"
                " a label."
            )
    if watched.served and watched.served.left_out:
        lines.append(f"Left out, without probabilities of the version's classes: {watched.served.left_out:,}.")
    if watched.served and watched.served.unmatched:
        lines.append(f"Requests whose labels are not as many as their answers: {watched.served.unmatched:,}.")
    return lines


def estimated(estimate: Estimate) -> str:
    """An accuracy with its interval."""
    low, high = estimate.interval
    return f"{estimate.accuracy:.4f} ({low:.4f} … {high:.4f})"


def as_json(watched: Watched) -> dict[str, Any]:
    """Everything about a version that can be told in numbers and words."""
    content: dict[str, Any] = {"model": watched.model, "version": watched.version, "answers": watched.answers}
    verdict, reference, served = watched.verdict, watched.reference, watched.served
    if verdict is None or reference is None or served is None:
        return {**content, "verdict": None, "reason": watched.missing}
    names = reference.spec.labels
    return {
        **content,
        "verdict": verdict.word,
        "left_out": served.left_out,
        "reference": {"examples": reference.examples, "accuracy": reference.accuracy},
        "p_values": {
            "probability": dict(zip(names, verdict.p_values[:-1].tolist(), strict=True)),
            "classes": float(verdict.p_values[-1]),
        },
        "alarm_below": ALPHA / len(verdict.p_values),
        "drop": verdict.drop,
        **(_period(verdict.whole, names) if verdict.whole else {}),
        "days": {str(day): _period(period, names) for day, period in verdict.days.items()},
    }


def _period(period: Period, names: tuple[str, ...]) -> dict[str, Any]:
    true = period.true
    return {
        "answers": period.answers,
        "estimated_accuracy": period.estimate.accuracy,
        "interval": list(period.estimate.interval),
        "mean_confidence": period.confidence,
        "classes": dict(zip(names, period.counts.tolist(), strict=True)),
        "true_accuracy": true and {"accuracy": true.share, "interval": list(true.interval), "labels": true.total},
    }


def _verdict(watched: Watched, verdict: Verdict, drop: float) -> str:
    match verdict.word:
        case "too few":
            return f"Too few: a verdict needs {TOO_FEW} answers, and there are {watched.answers:,}."
        case "as trained":
            return "As trained: the answers are distributed as those to the held-out examples."
        case "changed" if verdict.drop >= drop and watched.answers < ENOUGH:
            return f"Changed, and perhaps worse: with {ENOUGH:,} answers there is a verdict on that."
        case "changed" if verdict.drop >= drop:
            return "Changed, and perhaps worse: the drop may be chance."
        case "changed":
            return f"Changed, but not worse by {drop:g}: no reason to train again."
    return f"Retrain: the answers have changed, and the accuracy has probably dropped by {verdict.drop:.4f}."


def _what(watched: Watched, index: int) -> str:
    assert watched.reference is not None
    of_class = [f"of the probability of class {name}" for name in watched.reference.spec.labels]
    return [*of_class, "of how often each class is the answer"][index]
