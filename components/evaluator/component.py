"""TFX's Evaluator with the project's config, the predictions for each example, and a baseline that may be empty."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

from tensorflow_model_analysis.proto import config_pb2
from tfx import types
from tfx.components.evaluator import component, executor
from tfx.components.evaluator.constants import (
    ARTIFACT_PROPERTY_BLESSED_KEY,
    BLESSED_FILE_NAME,
    NOT_BLESSED_FILE_NAME,
)
from tfx.dsl.components.base import executor_spec
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.types.standard_component_specs import EVAL_CONFIG_KEY, EXAMPLE_SPLITS_KEY, MODULE_PATH_KEY
from tfx.utils import io_utils, json_utils, proto_utils

from components.evaluator import slices
from components.evaluator.config import BASELINE_VERSION, EXAMPLE, eval_config, without_gates
from components.evaluator.predictions import write_predictions
from components.evaluator.report import read_evaluation
from components.evaluator.settings import Gates
from components.version_folder import VERSION, saved_model
from data.example import ExampleSpec, parse
from data.records import read_records
from data.shards import GOLDEN

_SHOWN = 10
log = logging.getLogger(__name__)


class EvaluatorExecutor(executor.Executor):
    """TFX's executor, without a baseline where the artifact is empty: a container step cannot leave it out.

    It also writes each example's predictions, and puts the figures for a list of runs into ML Metadata. A golden set is
    evaluated by itself, into a folder of the evaluation; then the model needs both verdicts.
    """

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Evaluates the model, and compares it with the baseline if there is one: on the golden set if there is one.

        A class without examples has no gate: the data gate has let it pass.

        Raises:
            UserError: the model's training has diverged.
        """
        baselines = with_files(input_dict.get("baseline_model", []))
        (evaluation,), (blessing,), (examples,) = (
            output_dict["evaluation"],
            output_dict["blessing"],
            input_dict["examples"],
        )
        served = saved_model(baselines[0]) if baselines else None
        spec = ExampleSpec.model_validate_json(exec_properties[EXAMPLE])
        test_files = [f"{artifact_utils.get_split_uri([examples], 'test')}/*"]
        predictions = write_predictions(evaluation.uri, test_files, saved_model(input_dict["model"][0]), served, spec)
        labels = set(predictions.labels.tolist())
        inputs = {**input_dict, "baseline_model": baselines}
        if GOLDEN in artifact_utils.decode_split_names(examples.split_names):
            inner = {name: [inside(artifact, GOLDEN)] for name, (artifact,) in output_dict.items()}
            records = read_records([f"{artifact_utils.get_split_uri([examples], GOLDEN)}/*"])
            golden = {int(parse(record, spec)[1]) for record in records.as_numpy_iterator()}
            self._evaluate(GOLDEN, golden, inputs, inner, exec_properties)
            self._evaluate("test", labels, {**inputs, "baseline_model": []}, output_dict, exec_properties)
            if not inner["blessing"][0].get_int_custom_property(ARTIFACT_PROPERTY_BLESSED_KEY):
                refuse(blessing)
        else:
            self._evaluate("test", labels, inputs, output_dict, exec_properties)
        for name, value in read_evaluation(evaluation.uri, spec.labels).figures.items():
            if math.isfinite(value):  # ML Metadata takes no other number
                evaluation.set_float_custom_property(name, value)
        evaluation.set_string_custom_property(EXAMPLE, exec_properties[EXAMPLE])
        if baselines:
            evaluation.set_string_custom_property(BASELINE_VERSION, baselines[0].get_string_custom_property(VERSION))

    def _evaluate(
        self,
        split: str,
        labels: set[int],
        inputs: dict[str, list[types.Artifact]],
        outputs: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """TFX's evaluation on one split with these labels, without gates for the classes that it lacks."""
        spec = ExampleSpec.model_validate_json(exec_properties[EXAMPLE])
        untested = sorted({*range(spec.classes)} - labels)
        if untested:
            names = ", ".join(spec.labels[label] for label in untested[:_SHOWN])
            more = f" and {len(untested) - _SHOWN} more" if len(untested) > _SHOWN else ""
            log.info("No gate for the classes without %s examples: %s%s.", split, names, more)
        config = config_pb2.EvalConfig()
        proto_utils.json_to_proto(exec_properties[EVAL_CONFIG_KEY], config)
        pruned = proto_utils.proto_to_json(without_gates(config, untested))
        changed = {
            EVAL_CONFIG_KEY: pruned,
            EXAMPLE_SPLITS_KEY: json_utils.dumps([split]),
            MODULE_PATH_KEY: slices.__name__,
        }
        with slices.large_batches():
            super().Do(inputs, outputs, {**exec_properties, **changed})


def inside(artifact: types.Artifact, name: str) -> types.Artifact:
    """An artifact of the same type in a folder of `artifact`."""
    inner = type(artifact)()
    inner.uri = f"{artifact.uri}/{name}"
    fileio.makedirs(inner.uri)
    return inner


def refuse(blessing: types.Artifact) -> None:
    """Turns a blessing into a refusal, as TFX writes one."""
    if blessing.get_int_custom_property(ARTIFACT_PROPERTY_BLESSED_KEY):
        fileio.remove(f"{blessing.uri}/{BLESSED_FILE_NAME}")
        io_utils.write_string_file(f"{blessing.uri}/{NOT_BLESSED_FILE_NAME}", "")
        blessing.set_int_custom_property(ARTIFACT_PROPERTY_BLESSED_KEY, 0)


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
