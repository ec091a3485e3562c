"""TFX's Evaluator with the project's config, the predictions for each example, and a baseline that may be empty."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

from tensorflow_model_analysis.proto import config_pb2
from tfx import types
from tfx.components.evaluator import component, executor
from tfx.dsl.components.base import executor_spec
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.types.standard_component_specs import EVAL_CONFIG_KEY
from tfx.utils import proto_utils

from components.evaluator.config import BASELINE_VERSION, EXAMPLE, eval_config, without_gates
from components.evaluator.predictions import write_predictions
from components.evaluator.report import read_evaluation
from components.evaluator.settings import Gates
from components.version_folder import VERSION, saved_model
from data.example import ExampleSpec

_SHOWN = 10
log = logging.getLogger(__name__)


class EvaluatorExecutor(executor.Executor):
    """TFX's executor, without a baseline where the artifact is empty: a container step cannot leave it out.

    It also writes each example's predictions, and puts the figures for a list of runs into ML Metadata.
    """

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Evaluates the model, and compares it with the baseline if there is one.

        A class without test examples has no gate: the data gate has let it pass.

        Raises:
            UserError: the model's training has diverged.
        """
        baselines = with_files(input_dict.get("baseline_model", []))
        (evaluation,), (model,) = output_dict["evaluation"], input_dict["model"]
        test_files = [f"{artifact_utils.get_split_uri(input_dict['examples'], 'test')}/*"]
        served = saved_model(baselines[0]) if baselines else None
        spec = ExampleSpec.model_validate_json(exec_properties[EXAMPLE])
        predictions = write_predictions(evaluation.uri, test_files, saved_model(model), served, spec)
        untested = sorted({*range(spec.classes)} - {*predictions.labels.tolist()})
        if untested:
            names = ", ".join(spec.labels[label] for label in untested[:_SHOWN])
            more = f" and {len(untested) - _SHOWN} more" if len(untested) > _SHOWN else ""
            log.info("No gate for the classes without test examples: %s%s.", names, more)
        config = config_pb2.EvalConfig()
        proto_utils.json_to_proto(exec_properties[EVAL_CONFIG_KEY], config)
        pruned = proto_utils.proto_to_json(without_gates(config, untested))
        inputs = {**input_dict, "baseline_model": baselines}
        super().Do(inputs, output_dict, {**exec_properties, EVAL_CONFIG_KEY: pruned})
        for name, value in read_evaluation(evaluation.uri, spec.labels).figures.items():
            if math.isfinite(value):  # ML Metadata takes no other number
                evaluation.set_float_custom_property(name, value)
        evaluation.set_string_custom_property(EXAMPLE, exec_properties[EXAMPLE])
        if baselines:
            evaluation.set_string_custom_property(BASELINE_VERSION, baselines[0].get_string_custom_property(VERSION))


class Evaluator(component.Evaluator):
    """TFX's Evaluator with the executor above, on the split that neither training nor early stopping has seen."""

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(EvaluatorExecutor)

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
        self.exec_properties[EXAMPLE] = example.model_dump_json()


def with_files(models: Sequence[types.Artifact]) -> list[types.Artifact]:
    """The artifacts that are not empty."""
    return [model for model in models if fileio.isdir(saved_model(model))]
