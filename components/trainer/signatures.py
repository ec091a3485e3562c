"""The names by which the served model is called: its signatures and what they return."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from components.trainer.settings import Model

SERVING_DEFAULT = "serving_default"
"""TensorFlow Serving's name of the signature that a caller gets who names none."""
PREDICT_IMAGES, PREDICT_ROWS, CLASSIFY_EXAMPLES = "predict_images", "predict_rows", "classify_examples"
DESCRIBE = "describe"
"""Its outputs are constants: the names of the classes, and what a caller must know to make inputs."""
PROBABILITIES, CLASS_IDS, CLASSES = "probabilities", "class_ids", "classes"


def signature_names(settings: Model) -> list[str]:
    """The signatures of the SavedModel. A bidirectional model has no `predict_rows`: it needs the last row first."""
    rows = [] if settings.bidirectional else [PREDICT_ROWS]
    return [SERVING_DEFAULT, PREDICT_IMAGES, CLASSIFY_EXAMPLES, *rows, DESCRIBE]
