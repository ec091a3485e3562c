"""What a run records in ML Metadata beside TFX's own records: its settings, and the packages that it ran with."""

from __future__ import annotations

import argparse
import json
import re
from typing import Any

from ml_metadata.proto import metadata_store_pb2
from tfx import v1 as tfx
from tfx.dsl.compiler import constants
from tfx.orchestration import metadata
from tfx.orchestration.portable import runtime_parameter_utils
from tfx.orchestration.portable.mlmd import context_lib
from tfx.proto.orchestration import pipeline_pb2

from components.provenance import environment
from pipeline.config import Config
from pipeline.history.records import FROM, PACKAGES, PROFILE, RESUMED, SETTINGS, TO

_SECRET = re.compile("secret|password|token|credential", re.IGNORECASE)


def properties(args: argparse.Namespace, config: Config) -> dict[str, str]:
    """The custom properties of a run's context. Secrets and the metadata connection are not among them."""
    tree = config.model_dump(exclude={"metadata"})
    tree["beam"]["args"] = [arg for arg in config.beam.args if not _SECRET.search(arg)]
    found = {
        PROFILE: args.profile,
        SETTINGS: json.dumps(tree),
        PACKAGES: json.dumps(environment()),
        FROM: args.start,
        TO: args.stop,
        RESUMED: args.resumed,
    }
    return {name: value for name, value in found.items() if value}


class RecordingRunner(tfx.orchestration.LocalDagRunner):
    """LocalDagRunner with a given run id and with custom properties for the run's context in ML Metadata."""

    def __init__(
        self, connection: metadata_store_pb2.ConnectionConfig, run_id: str, properties: dict[str, str]
    ) -> None:
        super().__init__()
        self._connection, self._run_id, self._properties = connection, run_id, properties

    def run_with_ir(self, pipeline: pipeline_pb2.Pipeline, *args: Any, **kwargs: Any) -> None:
        """See LocalDagRunner, which keeps the run id of a pipeline that has one."""
        names = {constants.PIPELINE_RUN_ID_PARAMETER_NAME: self._run_id}
        runtime_parameter_utils.substitute_runtime_parameter(pipeline, names)
        for node in pipeline.nodes:
            for context in node.pipeline_node.contexts.contexts:
                if context.type.name == constants.PIPELINE_RUN_CONTEXT_TYPE_NAME:
                    for name, value in self._properties.items():
                        context.properties[name].field_value.string_value = value
        # A partial run would register the context itself, without properties.
        with metadata.Metadata(self._connection) as handle:
            context_lib.prepare_contexts(handle, pipeline.nodes[0].pipeline_node.contexts)
        super().run_with_ir(pipeline, *args, **kwargs)
