"""The report on Kubeflow: a step whose HTML artifact the UI shows, and the step that marks a refused run as failed.

The page is run_local's. A container has no ML Metadata: the artifacts and the settings come as inputs.
"""

import json
import logging
import os
import tempfile
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

from tfx import types
from tfx.dsl.component.experimental.annotations import InputArtifact
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.io import fileio
from tfx.orchestration.pipeline import Pipeline
from tfx.types import standard_artifacts as artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.utils import io_utils

from components.version_folder import environment
from pipeline.config import Config
from pipeline.definition import STEPS
from pipeline.kubeflow.step import address
from pipeline.runs.records import Artifact, Run, Step
from pipeline.runs.settings import dump

REPORT, VERDICT = "Report", "Verdict"
RUN_ID = "{{$.pipeline_job_uuid}}"
"""Kubeflow and Vertex AI put the id of the run in the place of this parameter."""

# The inputs of the report: which output of which step each is, and its type.
_SOURCES = {
    "schema": ("CuratedSchema", "schema", artifacts.Schema),
    "examples": ("ExampleGen", "examples", artifacts.Examples),
    "statistics": ("StatisticsGen", "statistics", artifacts.ExampleStatistics),
    "anomalies": ("ExampleValidator", "anomalies", artifacts.ExampleAnomalies),
    "model_run": ("Trainer", "model_run", artifacts.ModelRun),
    "baseline_model": ("Baseline", "model", artifacts.Model),
    "evaluation": ("Evaluator", "evaluation", artifacts.ModelEvaluation),
    "blessing": ("Evaluator", "blessing", artifacts.ModelBlessing),
    "infra_blessing": ("InfraValidator", "blessing", artifacts.InfraBlessing),
    "pushed_model": ("Pusher", "pushed_model", artifacts.PushedModel),
}
# The report reads the examples where they are; it copies other artifacts from an object store first.
_READ_IN_PLACE = ("examples", "baseline_model", "pushed_model")

log = logging.getLogger(__name__)


class ReportExecutor(base_executor.BaseExecutor):
    """Writes the report of the run. An error in it is on the page and in the log: the run counts, not its report."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the HTML file itself in the place of the artifact `report`; the others are those of `ReportSpec`."""
        inputs = {name: artifact for name, (artifact,) in input_dict.items()}
        try:
            record = json.loads(exec_properties["record"])
            page = make_page(inputs, exec_properties["run_id"], exec_properties["data_path"], record)
        except Exception as error:
            log.exception("The report could not be made.")
            page = f"<!doctype html><title>Report</title><p>The report could not be made: {type(error).__name__}.</p>\n"
        (report,) = output_dict["report"]
        with fileio.open(report.uri, "w") as file:
            file.write(page)


class ReportSpec(ComponentSpec):
    """`record` has the pipeline's name, settings, example and fingerprints, as JSON; `data_path` is the data folder.

    To TFX the output is a file, to Kubeflow a system.HTML.
    """

    PARAMETERS: ClassVar = {name: ExecutionParameter(type=str) for name in ("run_id", "data_path", "record")}
    INPUTS: ClassVar = {name: ChannelParameter(type=kind) for name, (_, _, kind) in _SOURCES.items()}
    OUTPUTS: ClassVar = {"report": ChannelParameter(type=artifacts.String)}


class Report(base_component.BaseComponent):
    """The step that writes the report."""

    SPEC_CLASS = ReportSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(ReportExecutor)


@component
def Verdict(judged: InputArtifact[artifacts.PushedModel]) -> None:
    """Nothing: `pipeline.kubeflow.step` ends this step with an error if the Pusher pushed nothing.

    Kubeflow keeps no artifact of a failed step. So the Pusher and the report end well also for a refused model.

    Args:
        judged: what the Pusher pushed.
    """


def reporting_nodes(pipeline: Pipeline, config: Config, data_path: Any) -> list[BaseNode]:
    """The steps after the chain: the report, then the verdict."""
    nodes = {node.id: node for node in pipeline.components}
    beam = config.beam.model_copy(update={"args": ()})
    record = {
        "pipeline": config.name,
        "settings": dump(config.model_copy(update={"beam": beam})),
        "example": config.data.example.model_dump_json(),
        "fingerprints": {step: node.exec_properties.get("fingerprint", "") for step, node in nodes.items()},
    }
    spec = ReportSpec(
        **{name: nodes[step].outputs[key] for name, (step, key, _) in _SOURCES.items()},
        report=types.Channel(type=artifacts.String),
        run_id=RUN_ID,
        data_path=data_path,
        record=json.dumps(record, sort_keys=True),
    )
    report = Report(spec).with_id(REPORT)
    verdict = Verdict(judged=nodes["Pusher"].outputs["pushed_model"]).with_id(VERDICT)
    verdict.add_upstream_node(report)
    return [report, verdict]


def make_page(inputs: Mapping[str, types.Artifact], run_id: str, data_path: str, record: Mapping[str, Any]) -> str:
    """The page, with the addresses of the artifacts where the launcher made copies; see `ReportSpec`.

    `inputs` are the artifacts by their names in `_SOURCES`.
    """
    from pipeline.report.collect import collect
    from pipeline.report.page import render

    with tempfile.TemporaryDirectory() as folder:
        found, addresses = {}, {}
        for number, (name, artifact) in enumerate(inputs.items(), start=1):
            uri = artifact.uri
            if "://" in uri and name not in _READ_IN_PLACE and fileio.exists(uri):
                uri = os.path.join(folder, name)
                io_utils.copy_dir(artifact.uri, uri)
            addresses[uri] = address(artifact.uri)
            properties = {
                key: value
                for key in artifact.mlmd_artifact.custom_properties
                if (value := artifact.get_custom_property(key)) is not None
            }
            found[name] = Artifact(number, uri, True, properties)
        page = render(collect(_run(found, run_id, data_path, record)))
    for uri, shown in addresses.items():
        page = page.replace(uri, shown)
    return page


def _run(found: Mapping[str, Artifact], run_id: str, data_path: str, record: Mapping[str, Any]) -> Run:
    """The run as ML Metadata would have it; the times of the steps are not a number."""
    outputs: dict[str, dict[str, Artifact]] = {step: {} for step in STEPS}
    for name, (step, key, _) in _SOURCES.items():
        outputs[step][key] = found[name]
    properties = {step: {"fingerprint": text} for step, text in record["fingerprints"].items()}
    properties["DataGate"]["example"] = record["example"]
    properties["ExampleGen"]["input_base"] = data_path
    baseline, now = found["baseline_model"], datetime.now().astimezone()
    inputs = {"Evaluator": {"baseline_model": baseline}} if "version" in baseline.properties else {}
    steps = [
        Step(step, "COMPLETE", now, float("nan"), properties[step], inputs.get(step, {}), outputs[step])
        for step in STEPS
    ]
    content = {"settings": record["settings"], "packages": environment()}
    return Run(run_id, record["pipeline"], now, content, steps)
