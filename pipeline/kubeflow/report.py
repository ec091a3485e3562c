"""The report on Kubeflow: a step whose HTML artifact the UI shows, and the step that marks a refused run as failed.

The page is run_local's. A container has no ML Metadata: the artifacts and the settings come as inputs.
"""

import json
import logging
import os
import tempfile
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tfx import types
from tfx import v1 as tfx
from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.io import fileio
from tfx.types import standard_artifacts
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

# The inputs of the report, and which output of which step each is.
_SOURCES = {
    "schema": ("CuratedSchema", "schema"),
    "examples": ("ExampleGen", "examples"),
    "statistics": ("StatisticsGen", "statistics"),
    "anomalies": ("ExampleValidator", "anomalies"),
    "model_run": ("Trainer", "model_run"),
    "baseline_model": ("Baseline", "model"),
    "evaluation": ("Evaluator", "evaluation"),
    "blessing": ("Evaluator", "blessing"),
    "infra_blessing": ("InfraValidator", "blessing"),
    "pushed_model": ("Pusher", "pushed_model"),
}
# The report reads the examples where they are; it copies other artifacts from an object store first.
_READ_IN_PLACE = ("examples", "baseline_model", "pushed_model")

log = logging.getLogger(__name__)


@tfx.dsl.components.component
def Report(
    schema: tfx.dsl.components.InputArtifact[standard_artifacts.Schema],
    examples: tfx.dsl.components.InputArtifact[standard_artifacts.Examples],
    statistics: tfx.dsl.components.InputArtifact[standard_artifacts.ExampleStatistics],
    anomalies: tfx.dsl.components.InputArtifact[standard_artifacts.ExampleAnomalies],
    model_run: tfx.dsl.components.InputArtifact[standard_artifacts.ModelRun],
    baseline_model: tfx.dsl.components.InputArtifact[standard_artifacts.Model],
    evaluation: tfx.dsl.components.InputArtifact[standard_artifacts.ModelEvaluation],
    blessing: tfx.dsl.components.InputArtifact[standard_artifacts.ModelBlessing],
    infra_blessing: tfx.dsl.components.InputArtifact[standard_artifacts.InfraBlessing],
    pushed_model: tfx.dsl.components.InputArtifact[standard_artifacts.PushedModel],
    report: tfx.dsl.components.OutputArtifact[standard_artifacts.String],
    run_id: tfx.dsl.components.Parameter[str],
    data_path: tfx.dsl.components.Parameter[str],
    record: tfx.dsl.components.Parameter[str],
) -> None:
    """Writes the report of the run. An error in it is on the page and in the log: the run counts, not its report.

    Args:
        schema, …, pushed_model: what the steps wrote.
        report: the HTML file itself. To TFX it is a file, to Kubeflow a system.HTML.
        run_id: of the run.
        data_path: the data folder.
        record: the pipeline's name, settings, example and fingerprints, as JSON.
    """
    inputs = {
        "schema": schema,
        "examples": examples,
        "statistics": statistics,
        "anomalies": anomalies,
        "model_run": model_run,
        "baseline_model": baseline_model,
        "evaluation": evaluation,
        "blessing": blessing,
        "infra_blessing": infra_blessing,
        "pushed_model": pushed_model,
    }
    try:
        page = make_page(inputs, run_id, data_path, json.loads(record))
    except Exception as error:
        log.exception("The report could not be made.")
        page = f"<!doctype html><title>Report</title><p>The report could not be made: {type(error).__name__}.</p>\n"
    with fileio.open(report.uri, "w") as file:
        file.write(page)


@tfx.dsl.components.component
def Verdict(judged: tfx.dsl.components.InputArtifact[standard_artifacts.PushedModel]) -> None:
    """Nothing: `pipeline.kubeflow.step` ends this step with an error if the Pusher pushed nothing.

    Kubeflow keeps no artifact of a failed step. So the Pusher and the report end well also for a refused model.

    Args:
        judged: what the Pusher pushed.
    """


def reporting_nodes(pipeline: tfx.dsl.Pipeline, config: Config, data_path: Any) -> list[BaseNode]:
    """The steps after the chain: the report, then the verdict."""
    nodes = {node.id: node for node in pipeline.components}
    beam = config.beam.model_copy(update={"args": ()})
    settings = dump(config.model_copy(update={"beam": beam}))
    record = {
        "pipeline": config.name,
        "settings": settings,
        "example": config.data.example.model_dump_json(),
        "fingerprints": {step: node.exec_properties.get("fingerprint", "") for step, node in nodes.items()},
    }
    report = Report(
        **{name: nodes[step].outputs[key] for name, (step, key) in _SOURCES.items()},
        run_id=RUN_ID,
        data_path=data_path,
        record=json.dumps(record, sort_keys=True),
    ).with_id(REPORT)
    verdict = Verdict(judged=nodes["Pusher"].outputs["pushed_model"]).with_id(VERDICT)
    verdict.add_upstream_node(report)
    return [report, verdict]


def make_page(inputs: Mapping[str, types.Artifact], run_id: str, data_path: str, record: Mapping[str, Any]) -> str:
    """The page, with the addresses of the artifacts where the launcher made copies.

    Args:
        inputs: the artifacts by their names in `_SOURCES`.
        run_id: of the run.
        data_path: the data folder.
        record: see `Report`.
    """
    from pipeline.report.collect import collect
    from pipeline.report.page import render

    with tempfile.TemporaryDirectory() as folder:
        artifacts, addresses = {}, {}
        for number, (name, artifact) in enumerate(inputs.items(), start=1):
            uri = artifact.uri
            if "://" in uri and name not in _READ_IN_PLACE and fileio.exists(uri):
                uri = os.path.join(folder, name)
                io_utils.copy_dir(artifact.uri, uri)
            addresses[uri] = address(artifact.uri)
            artifacts[name] = Artifact(number, uri, True, _values(artifact))
        page = render(collect(_run(artifacts, run_id, data_path, record)))
    for uri, shown in addresses.items():
        page = page.replace(uri, shown)
    return page


def _run(artifacts: Mapping[str, Artifact], run_id: str, data_path: str, record: Mapping[str, Any]) -> Run:
    """The run as ML Metadata would have it; the times of the steps are not a number."""
    outputs: dict[str, dict[str, Artifact]] = {step: {} for step in STEPS}
    for name, (step, key) in _SOURCES.items():
        outputs[step][key] = artifacts[name]
    properties = {step: {"fingerprint": text} for step, text in record["fingerprints"].items()}
    properties["DataGate"]["example"] = record["example"]
    properties["ExampleGen"]["input_base"] = data_path
    baseline = artifacts["baseline_model"]
    inputs = {"Evaluator": {"baseline_model": baseline}} if "version" in baseline.properties else {}
    now = datetime.now().astimezone()
    return Run(
        run_id,
        record["pipeline"],
        now,
        {"settings": record["settings"], "packages": environment()},
        [
            Step(step, "COMPLETE", now, float("nan"), properties[step], inputs.get(step, {}), outputs[step])
            for step in STEPS
        ],
    )


def _values(artifact: types.Artifact) -> dict[str, Any]:
    """The custom properties of an artifact. From Kubeflow they come as JSON values."""
    return {
        name: artifact.get_json_value_custom_property(name)
        if value.HasField("struct_value")
        else getattr(value, str(value.WhichOneof("value")))
        for name, value in artifact.mlmd_artifact.custom_properties.items()
    }
