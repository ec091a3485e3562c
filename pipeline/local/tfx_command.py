"""TFX's own command, `tfx pipeline create --engine local`, which loads the pipeline's file to learn what it runs."""

from __future__ import annotations

import sys

from data.errors import SettingsError
from pipeline.config import Config
from pipeline.definition import create_pipeline
from pipeline.exit_codes import PUSHED
from pipeline.runs.root import RunRoot


def is_asking(command: str = "") -> bool:
    """Whether this process is TFX's command, `tfx pipeline …`. `tfx run create` runs the file in a process of its own.

    Args:
        command: of `tfx pipeline`, such as create; by default any.
    """
    if "tfx.tools.cli.handler.base_handler" not in sys.modules:
        return False
    import click

    context = click.get_current_context(silent=True)
    return context is not None and command in ("", context.info_name)


def describe(config: Config, root: RunRoot) -> int:
    """Tells TFX's command which pipeline this is. It has replaced `LocalDagRunner.run`, so nothing runs.

    Raises:
        SettingsError: it has replaced the method of another runner.
    """
    from tfx.orchestration.local.local_dag_runner import LocalDagRunner

    if not hasattr(LocalDagRunner.run, "__wrapped__"):
        raise SettingsError("This file is for tfx with --engine local; for vertex there is pipeline/run_kubeflow.py.")
    artifacts, served = str(root.artifacts), str(root.serving_dir)
    pipeline = create_pipeline(config, pipeline_root=artifacts, serving_dir=served, metadata=root.metadata())
    LocalDagRunner().run(pipeline)
    return PUSHED
