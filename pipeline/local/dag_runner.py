"""The runner of the steps on this machine: LocalDagRunner with progress, a run id, and a record of the run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ml_metadata.proto import metadata_store_pb2
from tfx.dsl.compiler import constants
from tfx.orchestration import metadata
from tfx.orchestration.local import runner_utils
from tfx.orchestration.portable import launcher, partial_run_utils, runtime_parameter_utils, tfx_runner
from tfx.orchestration.portable.mlmd import context_lib
from tfx.proto.orchestration import pipeline_pb2

from data.errors import SettingsError
from pipeline.engines.problems import BEAM_STEPS, check_job_server
from pipeline.engines.settings import Beam
from pipeline.local.progress import ProgressReporter


class LocalRunner(tfx_runner.IrBasedRunner):
    """LocalDagRunner that reports each step, with a given run id, and properties for the run's context in ML Metadata.

    LocalDagRunner itself only logs what it does, and the log has the connection's password.
    """

    def __init__(
        self,
        connection: metadata_store_pb2.ConnectionConfig,
        run_id: str,
        properties: Mapping[str, str],
        reporter: ProgressReporter,
        beam: Beam,
    ) -> None:
        self._connection, self._run_id, self._properties = connection, run_id, properties
        self._reporter, self._beam = reporter, beam

    def run_with_ir(self, pipeline: pipeline_pb2.Pipeline, run_options: pipeline_pb2.RunOptions | None = None) -> None:
        """Runs the steps in their order; `run_options` may leave out the first and the last ones."""
        names = {constants.PIPELINE_RUN_ID_PARAMETER_NAME: self._run_id}
        runtime_parameter_utils.substitute_runtime_parameter(pipeline, names)
        nodes = [node.pipeline_node for node in pipeline.nodes]
        for context in (context for node in nodes for context in node.contexts.contexts):
            if context.type.name == constants.PIPELINE_RUN_CONTEXT_TYPE_NAME:
                for name, value in self._properties.items():
                    context.properties[name].field_value.string_value = value
        if self._connection.HasField("postgresql"):
            _check_for_postgresql(nodes)
        # A partial run would register the context itself, without properties.
        with metadata.Metadata(self._connection) as handle:
            context_lib.prepare_contexts(handle, nodes[0].contexts)
        if run_options:
            part = run_options.partial_run
            partial_run_utils.mark_pipeline(
                pipeline, part.from_nodes or None, part.to_nodes or None, snapshot_settings=part.snapshot_settings
            )
        deployment = runner_utils.extract_local_deployment_config(pipeline)
        for node in nodes:
            if not node.execution_options.HasField("skip"):
                self._run(node, pipeline, deployment)

    def _run(self, node: pipeline_pb2.PipelineNode, pipeline: pipeline_pb2.Pipeline, deployment: Any) -> None:
        step = node.node_info.id
        self._reporter.begin(step)
        if node.execution_options.run.perform_snapshot:
            with metadata.Metadata(self._connection) as handle:
                partial_run_utils.snapshot(handle, pipeline)
        one = _Launcher(
            pipeline_node=node,
            mlmd_connection=metadata.Metadata(self._connection),
            pipeline_info=pipeline.pipeline_info,
            pipeline_runtime_spec=pipeline.runtime_spec,
            executor_spec=runner_utils.extract_executor_spec(deployment, step),
            custom_driver_spec=runner_utils.extract_custom_driver_spec(deployment, step),
        )
        one.beam = self._beam
        execution = one.launch()
        with metadata.Metadata(self._connection) as handle:
            (state,) = (found.last_known_state for found in handle.store.get_executions_by_id([execution.execution_id]))
        if state == metadata_store_pb2.Execution.FAILED:  # TFX would go on, for example after a resolver
            raise RuntimeError("TFX could not run the step")
        self._reporter.end("cached" if state == metadata_store_pb2.Execution.CACHED else "done")


def _check_for_postgresql(nodes: Iterable[pipeline_pb2.PipelineNode]) -> None:
    """Stops before ML Metadata writes a backslash, which it quotes twice, in SQL that PostgreSQL does not understand.

    JSON gives one to each quote and to each letter beyond ASCII.
    """
    for node in nodes:
        for name, parameter in node.parameters.parameters.items():
            if "\\" in parameter.field_value.string_value:
                raise SettingsError(
                    f"ML Metadata cannot write {name} of the step {node.node_info.id} to PostgreSQL, as it needs a"
                    f" backslash: {parameter.field_value.string_value[:200]}. Use plain letters in paths and class"
                    " names, or SQLite or MySQL for metadata.connection."
                )


class _Launcher(launcher.Launcher):
    """TFX's launcher of one step. It looks for the job server only if the step is not in the cache."""

    beam: Beam

    def _run_executor(self, *args: Any) -> Any:
        if self._pipeline_node.node_info.id in BEAM_STEPS:
            check_job_server(self.beam)
        return super()._run_executor(*args)

    def _publish_successful_execution(self, execution_id: int, contexts: Any, *results: Any, **named: Any) -> None:
        try:
            super()._publish_successful_execution(execution_id, contexts, *results, **named)
        except Exception:  # TFX would leave the step running in the history
            self._publish_failed_execution(execution_id, contexts)
            raise
