"""Transform: raw examples become sequences. Its graph is the only preprocessing, in training and in serving."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from data.example import LABEL, ExampleSpec, to_sequence

SEQUENCE = "sequence"


def preprocessing_fn(inputs: dict[str, tf.Tensor], custom_config: dict[str, Any]) -> dict[str, tf.Tensor]:
    """TFX's entry point.

    Args:
        inputs: raw features, as `data.example` describes them; `label` int64 [N, 1].
        custom_config: an `ExampleSpec` as a dictionary.

    Returns:
        `sequence` float32 [N, steps, features]; `label` int64 [N, 1].
    """
    # TFX adds a key of its own to the custom_config.
    spec = ExampleSpec.model_validate({name: custom_config[name] for name in ExampleSpec.model_fields})
    return {SEQUENCE: to_sequence(inputs, spec), LABEL: inputs[LABEL]}
