"""TFX's Evaluator with the project's config, and with a baseline that may be an empty artifact."""

from __future__ import annotations

import json
from typing import Any

from tfx import types
from tfx import v1 as tfx
from tfx.components.evaluator import executor
from tfx.dsl.components.base import executor_spec
from tfx.dsl.io import fileio
from tfx.utils import path_utils

from components.evaluator.config import LABELS, eval_config
from components.evaluator.settings import Gates
from data.errors import UserError
from data.example import ExampleSpec


class OptionalBaselineExecutor(executor.Executor):
    """TFX's executor, without a baseline where the artifact is empty: a container step cannot leave it out."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Evaluates the model, and compares it with the baseline if there is one.

        Raises:
            UserError: there is no model, because the resolver of the baseline failed.
        """
        baselines = [
            model
            for model in input_dict.get("baseline_model", [])
            if fileio.isdir(path_utils.serving_model_path(model.uri, path_utils.is_old_model_artifact(model)))
        ]
        if not input_dict.get("model"):  # TFX would evaluate nothing
            raise UserError(
                "The baseline could not be looked up, so the model was not evaluated and not pushed:"
                " the cause is in the log of the step Baseline."
            )
        super().Do({**input_dict, "baseline_model": baselines}, output_dict, exec_properties)


class Evaluator(tfx.components.Evaluator):
    """TFX's Evaluator with the executor above, on the split that neither training nor early stopping has seen."""

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(OptionalBaselineExecutor)

    def __init__(
        self,
        examples: types.Channel,
        model: types.Channel,
        baseline_model: types.Channel,
        gates: Gates,
        example: ExampleSpec,
    ) -> None:
        super().__init__(
            examples=examples,
            model=model,
            baseline_model=baseline_model,
            example_splits=["test"],
            eval_config=eval_config(gates, example.classes),
        )
        # For the report: TFMA's files have class ids only.
        self.exec_properties[LABELS] = json.dumps(example.labels)
