"""The Evaluator's settings: the gates."""

from pydantic import Field

from data.settings import Section


class Gates(Section):
    """What a model must reach on the test split before it is pushed. Accuracies are shares, 0 … 1."""

    accuracy: float = Field(0.98, ge=0, le=1)
    class_accuracy: float = Field(0.95, ge=0, le=1, description="for each class alone")
    max_drop: float = Field(0.002, ge=0, le=1, description="how far below the baseline model the accuracy may lie")
    max_calibration_error: float = Field(
        0.0, ge=0, le=1, description="largest expected calibration error, a share; 0: no such gate"
    )
