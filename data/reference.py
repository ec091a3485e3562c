"""What a model answered for held-out examples. The answers of a served version are compared with it.

The Evaluator makes it, each pushed version carries it, and `serving.monitor` reads it.
"""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from typing import NamedTuple

import numpy as np

from data.errors import UserError
from data.example import ExampleSpec
from data.files import file_system

QUANTILES = 1001
"""Of each class's probability: as many tell what the sample itself would (`python -m tests.benchmarks.drift`)."""
REFERENCE = "reference.npz"
"""The name of the file."""
IN_VERSION = f"assets.extra/{REFERENCE}"
"""Where a version folder has it."""


class Reference(NamedTuple):
    """The answers of a model of K classes for held-out examples, which no training has seen."""

    quantiles: np.ndarray
    """float32 [Q, K], the probability of each class at Q equal steps from the least to the greatest: `QUANTILES`, or
    the sample itself if it is smaller."""
    counts: np.ndarray
    """int64 [K], how often each class was the answer."""
    examples: int
    """How many there were."""
    accuracy: float
    """The share of right answers."""
    threshold: float
    """Of ATC: as many answers have a confidence below it as are wrong."""
    confident: float
    """The share of answers with at least that confidence: the accuracy, where no two confidences are equal."""
    confidence: float
    """The mean probability of the answers."""
    spec: ExampleSpec
    """What the examples were, with the names of the classes."""


def summarize(probabilities: np.ndarray, labels: np.ndarray, spec: ExampleSpec) -> Reference:
    """The reference of a model's answers.

    The threshold is that of average thresholded confidence with maximum confidence as the score: S. Garg et al.,
    "Leveraging unlabeled data to predict out-of-distribution performance", ICLR 2022, arXiv 2201.04234, equation 3.

    Args:
        probabilities: float32 [N, K], of held-out examples, N ≥ 1.
        labels: int64 [N], the true class ids.
        spec: what the examples are.
    """
    class_ids, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    right = class_ids == labels
    ordered = np.append(np.sort(confidence), np.float32(np.inf))
    threshold = ordered[np.count_nonzero(~right)]
    steps = np.linspace(0, 1, min(len(probabilities), QUANTILES))
    return Reference(
        np.quantile(probabilities, steps, axis=0).astype(np.float32),
        np.bincount(class_ids, minlength=probabilities.shape[1]),
        len(probabilities),
        float(right.mean()),
        float(threshold),
        float((confidence >= threshold).mean()),
        float(confidence.mean(dtype=np.float64)),
        spec,
    )


def write_reference(reference: Reference, folder: str) -> None:
    """Writes the file of a reference, tens of kB, into `folder`."""
    content = io.BytesIO()
    np.savez_compressed(content, **{**reference._asdict(), "spec": np.array(reference.spec.model_dump_json())})
    with file_system(folder).GFile(os.path.join(folder, REFERENCE), "wb") as file:
        file.write(content.getvalue())


def read_reference(path: str) -> Reference | None:
    """The reference in the file `path`; None if there is no such file.

    Raises:
        UserError: the file cannot be read, or it is damaged.
    """
    files = file_system(path)
    if not files.exists(path):
        return None
    try:
        with files.GFile(path, "rb") as file:
            content = file.read()
        with np.load(io.BytesIO(content)) as saved:
            found = {name: saved[name] for name in Reference._fields}
        accuracy, threshold, confident, confidence = (
            float(found[name]) for name in ("accuracy", "threshold", "confident", "confidence")
        )
        examples, spec = int(found["examples"]), ExampleSpec.model_validate_json(str(found["spec"]))
        return Reference(
            found["quantiles"], found["counts"], examples, accuracy, threshold, confident, confidence, spec
        )
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, KeyError, TypeError, EOFError, zlib.error, zipfile.BadZipFile):
        raise UserError(f"{path} is damaged. Restore it from a copy of the version.") from None
