"""python -m pipeline.kubeflow.step: one step in its container. The compiled pipeline runs it.

TFX's own container entry point does the work. This module adds what open-source Kubeflow Pipelines needs:

- Types for input artifacts: that backend sends an empty schema (tensorflow/tfx issue 7768).
- No place for the log among the outputs: since 2.5 that backend adds an artifact of its own to every step.
- TFX's type for the HTML of the report: that backend has its own.
- Paths instead of addresses: the launcher moves the files, so no step needs the object store's credentials.
- A sentence and an exit code instead of a traceback.

Libraries' log records are shown from the level of a warning.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from data.errors import UserError, causes, storage_problem
from pipeline.engines.problems import check_endpoint, engine_problem, job_problem
from pipeline.exit_codes import MODEL_REFUSED, exit_code, leave

if TYPE_CHECKING:
    from kfp.pipeline_spec.pipeline_spec_pb2 import ArtifactList, ComponentInputsSpec, ExecutorInput, ExecutorOutput

# Where Kubeflow's launcher keeps its copy of an object: LocalPathForURI in kubeflow/pipelines' launcher_v2.go.
COPIES = {"gs://": "gcs", "s3://": "s3", "minio://": "minio"}
HTML = "system.HTML"
"""Kubeflow's type of an artifact that is one HTML file."""
_LOG = "executor-logs"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; the exit codes are run_local's. The arguments are TFX's by TFX's names, and the rest Beam's."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.kubeflow.step", description="One step, in its container.", allow_abbrev=False
    )
    parser.add_argument("--executor_class_path", required=True, help="the step's executor")
    parser.add_argument("--json_serialized_invocation_args", required=True, help="a KFP ExecutorInput")
    parser.add_argument("--json_serialized_inputs_spec_args", required=True, help="a KFP ComponentInputsSpec")
    parser.add_argument(
        "--copies", metavar="DIR", help="use the launcher's copies of artifacts, which lie under DIR; else their URIs"
    )
    args, beam_args = parser.parse_known_args(argv)
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    warnings.simplefilter("ignore", FutureWarning)
    handler = logging.StreamHandler(sys.stdout)
    handler.addFilter(lambda record: record.levelno >= logging.WARNING or record.name.startswith("components."))
    logging.basicConfig(level=logging.INFO, handlers=[handler], format="%(message)s")
    # The last of an option counts.
    job_server = next((arg.partition("=")[2] for arg in reversed(beam_args) if arg.startswith("--job_endpoint=")), "")
    try:
        check_endpoint(job_server)
        return run(args, beam_args)
    except Exception as error:
        known = next((str(cause) for cause in causes(error) if isinstance(cause, UserError)), None)
        if known is None:
            logging.exception("The step failed.")
            step = args.executor_class_path.rsplit(".", maxsplit=1)[-1]
            lost, failed = (engine_problem(error), job_problem(error)) if job_server else (None, None)
            problem = lost or storage_problem(error) or failed
            known = f"{step} failed: {f'{problem}: ' if problem else ''}{type(error).__name__}: {error}"
        print(known, file=sys.stderr)
        return exit_code(error)


def run(args: argparse.Namespace, beam_args: list[str]) -> int:
    """Runs the executor, and writes its outputs where the launcher reads them."""
    with suppress(ModuleNotFoundError):  # an address may be there that no step uses
        if any("s3://" in text for text in (*beam_args, args.json_serialized_invocation_args)):
            import tensorflow_io  # noqa: F401  # gives TensorFlow the s3:// file system

    from google.protobuf import json_format
    from kfp.pipeline_spec import pipeline_spec_pb2
    from tfx.dsl.io import fileio
    from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_entrypoint_utils, kubeflow_v2_run_executor
    from tfx.orchestration.portable import outputs_utils

    invocation = json_format.Parse(
        args.json_serialized_invocation_args, pipeline_spec_pb2.ExecutorInput(), ignore_unknown_fields=True
    )
    inputs = json_format.Parse(args.json_serialized_inputs_spec_args, pipeline_spec_pb2.ComponentInputsSpec())
    adapt(invocation, inputs, args.copies)
    # Executors expect a folder for every output artifact, an empty file for a value.
    outputs_utils.make_output_dirs(
        kubeflow_v2_entrypoint_utils.parse_raw_artifact_dict(invocation.outputs.artifacts, {})
    )
    args.json_serialized_invocation_args = json_format.MessageToJson(invocation)

    kubeflow_v2_run_executor.main((args, beam_args))
    with fileio.open(invocation.outputs.output_file) as file:
        output = json_format.Parse(file.read(), pipeline_spec_pb2.ExecutorOutput())
    make_recordable(output, args.copies)
    with fileio.open(invocation.outputs.output_file, "w") as file:
        file.write(json_format.MessageToJson(output))
    return verdict(invocation)


def adapt(invocation: ExecutorInput, inputs: ComponentInputsSpec, copies: str | None) -> None:
    """Makes of what open-source Kubeflow sends what TFX knows.

    Every input artifact without a type has the one that `inputs` declares, an HTML output is a file, no output is for
    the log, and with `copies` the launcher's local paths are in place of the URIs.
    """
    invocation.outputs.artifacts.pop(_LOG, None)
    for name, listed in invocation.inputs.artifacts.items():
        for artifact in listed.artifacts:
            if not (artifact.type.schema_title or artifact.type.schema_uri or artifact.type.instance_schema):
                artifact.type.CopyFrom(inputs.artifacts[name].artifact_type)
    for artifact in _each(invocation.outputs.artifacts):
        if artifact.type.schema_title == HTML:
            artifact.type.instance_schema = "title: tfx.String\ntype: object\n"
    for artifact in _each(invocation.inputs.artifacts, invocation.outputs.artifacts) if copies else ():
        for scheme, folder in COPIES.items():
            if artifact.uri.startswith(scheme):
                artifact.uri = os.path.join(str(copies), folder, artifact.uri.removeprefix(scheme))


def make_recordable(output: ExecutorOutput, copies: str | None) -> None:
    """Removes nulls, which Kubeflow's metadata store refuses, and the paths of copies: its launcher knows the URIs."""
    for artifact in _each(output.artifacts):
        if copies:
            artifact.uri = ""
        for key, value in list(artifact.metadata.fields.items()):
            if value.WhichOneof("kind") == "null_value":
                del artifact.metadata.fields[key]
            elif copies and value.string_value:
                value.string_value = address(value.string_value, copies)


def address(path: str, root: str = "/") -> str:
    """The URI of an object of which Kubeflow's launcher made a copy at `path`; other paths as they are."""
    for scheme, folder in COPIES.items():
        start = os.path.join(root, folder, "")
        if path.startswith(start):
            return scheme + path.removeprefix(start)
    return path


def verdict(invocation: ExecutorInput) -> int:
    """MODEL_REFUSED in the step that has the input `judged`, if the Pusher was not allowed to push; else 0."""
    judged = invocation.inputs.artifacts.get("judged")
    if judged and not judged.artifacts[0].metadata.fields["pushed"].number_value:
        print("A gate refused the model, nothing was pushed: see the output of Report, Evaluator and InfraValidator.")
        return MODEL_REFUSED
    return 0


def _each(*maps: dict[str, ArtifactList]) -> Iterator:
    for artifacts in maps:
        for listed in artifacts.values():
            yield from listed.artifacts


if __name__ == "__main__":
    # The S3 client of tensorflow_io aborts a process that ends in the usual way.
    leave(main(), at_once="tensorflow_io" in sys.modules)
