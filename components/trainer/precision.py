"""Reduced precision: it trains faster where the hardware has it. What serves is float32."""

from __future__ import annotations

import logging

import numpy as np
import tf_keras

from components.trainer.input import SplitDataset
from components.trainer.model import build_model
from components.trainer.settings import Model
from data.errors import UserError
from data.example import ExampleSpec

MOST_DIFFERENT = 0.01
"""The largest share of the validation examples that the float32 model may classify otherwise, but at least 5 examples.

bfloat16 has 8 significant bits, float16 has 11: rounding decides what is nearly a tie.
"""

log = logging.getLogger(__name__)


def in_float32(
    model: tf_keras.Model, precision: str, settings: Model, spec: ExampleSpec, validation: SplitDataset
) -> tf_keras.Model:
    """The model that trained with `precision`, with float32 arithmetic: it must answer as trained.

    Raises:
        UserError: it classifies more than `MOST_DIFFERENT` of the validation examples otherwise.
    """
    if precision == "float32":
        return model
    served = build_model(settings, spec)
    served.set_weights(model.get_weights())
    different = 0
    for sequences, _ in validation.dataset:
        trained, answered = (network(sequences, training=False).numpy().argmax(axis=1) for network in (model, served))
        different += int(np.count_nonzero(trained != answered))
    message = f"classifies {validation.examples - different:,} of {validation.examples:,} validation examples as"
    if different > max(5.0, MOST_DIFFERENT * validation.examples):
        raise UserError(
            f"The float32 model only {message} the {precision} model that trained:"
            ' set training.precision = "float32" or lower training.learning_rate.'
        )
    log.info("The float32 model that serves %s the %s model that trained.", message, precision)
    return served
