"""One run on this machine: it holds the run root, runs the steps, and prints how it ended."""

from __future__ import annotations

import argparse
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from data.errors import UserError
from data.storage import causes, storage_problem
from pipeline.config import Config
from pipeline.definition import STEPS, create_pipeline
from pipeline.exit_codes import FAILED, INTERRUPTED, MODEL_REFUSED, PUSHED, exit_code
from pipeline.local.output import log_to_output, redirect_output
from pipeline.local.progress import ProgressReporter
from pipeline.local.run_root import RunRoot
from pipeline.local.signals import interruptible
from pipeline.local.summary import print_summary

if TYPE_CHECKING:
    from ml_metadata.proto import metadata_store_pb2
    from tfx.orchestration.pipeline import RunOptions

    from pipeline.history import History, Run

RESUME = (
    "The same command continues from there: finished steps come from the cache,"
    " and a training from its last finished epoch."
)


def run(args: argparse.Namespace, config: Config) -> int:
    """Runs the steps and prints the result; returns the exit code.

    Raises:
        UserError: the run root is held by another process, or cannot be written.
    """
    root = RunRoot(args.run_root, config)
    with root.held():
        log = root.new_log()
        with redirect_output(log, args.verbose) as screen:
            console = Console(file=screen, highlight=False, soft_wrap=True, markup=False)
            reporter = ProgressReporter(console, live=console.is_terminal and not args.verbose)
            console.print(f"Pipeline {config.name}, profile {args.profile}, run root {root.path}")
            before = root.versions()
            try:
                with interruptible(), reporter.active():
                    result = _run_steps(args, config, root, reporter)
            except KeyboardInterrupt:
                console.print(f"Interrupted in {reporter.failed_step}. {RESUME}")
                return INTERRUPTED
            except Exception as error:
                logging.getLogger(__name__).exception("The run failed.")
                console.print(_explain(error, config, root, reporter.failed_step, log), style="red")
                return exit_code(error)
            print_summary(console, result, log, before, root.versions())
            return _exit_code(result)


def _run_steps(args: argparse.Namespace, config: Config, root: RunRoot, reporter: ProgressReporter) -> Run:
    """Loads TFX, runs the steps, and reads the result from ML Metadata."""
    reporter.begin("loading TFX")
    from tfx import v1 as tfx

    from components.infra_validator.component import describe_server
    from components.trainer.cluster import describe_hardware, prepare_devices

    with log_to_output():
        prepare_devices(config.training.replicas)
        metadata = root.metadata()
        history = _open_history(metadata, config, root)
        pipeline = create_pipeline(
            config,
            pipeline_root=str(root.artifacts),
            serving_dir=str(root.serving_dir),
            metadata=metadata,
            hardware=describe_hardware(config.training.replicas),
            model_server=describe_server(config.infra),
        )
        options = _run_options(args, history, root)
        missing = history.forget_missing(str(root.artifacts))
        before = set(history.runs())
        reporter.end("done")
        if missing:
            others = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
            reporter.note(f"{missing[0]}{others} is gone: the step that wrote it runs again.")
        tfx.orchestration.LocalDagRunner().run(pipeline, run_options=options)
        result = history.run(next(run for run in reversed(history.runs()) if run not in before))
        # TFX goes on after some failures, for example of a resolver.
        if failed := [step.id for step in result.steps if step.state == "FAILED"]:
            reporter.begin(failed[0])
            raise RuntimeError("TFX could not run the step")
        return result


def _open_history(metadata: metadata_store_pb2.ConnectionConfig, config: Config, root: RunRoot) -> History:
    """The records of earlier runs.

    Raises:
        UserError: the store cannot be read.
    """
    from pipeline.history import History

    try:
        return History(metadata, config.name)
    except Exception as error:
        if storage_problem(error):
            raise
        where = "that metadata.connection names" if config.metadata.connection else str(root.path / "metadata.db")
        reason = re.sub(r"^Error when executing query: | query: .*", "", str(error), flags=re.DOTALL)[:200]
        raise UserError(
            f"The ML Metadata store {where} cannot be read: {reason}."
            " Restore it from a backup, or use another --run-root."
        ) from error


def _run_options(args: argparse.Namespace, history: History, root: RunRoot) -> RunOptions | None:
    """TFX's partial run for --from and --to.

    Raises:
        UserError: no run has all the steps before --from.
    """
    from tfx.orchestration.pipeline import RunOptions

    if not args.start and not args.stop:
        return None
    first = STEPS.index(args.start) if args.start else 0
    last = STEPS.index(args.stop) if args.stop else len(STEPS) - 1
    base = history.latest_run_with(STEPS[:first]) if first else None
    if first and base is None:
        raise UserError(f"--from {args.start} reuses all steps before it, but {root.path} holds no run that has them.")
    # TFX runs what lies between the two sets of steps.
    return RunOptions(from_nodes=STEPS[first:], to_nodes=STEPS[: last + 1], base_pipeline_run_id=base)


def _exit_code(result: Run) -> int:
    if any(verdict is not None and not verdict.blessed for verdict in (result.evaluation, result.infra)):
        return MODEL_REFUSED
    return FAILED if result.pushed_to and not Path(result.pushed_to).is_dir() else PUSHED


def _explain(error: BaseException, config: Config, root: RunRoot, step: str, log: Path) -> str:
    """The sentence for an error: what failed, where, and what to do."""
    for cause in causes(error):
        if isinstance(cause, UserError):
            return str(cause)
    problem = storage_problem(error)
    if problem:
        names = (cause.filename for cause in causes(error) if isinstance(cause, OSError) and cause.filename)
        return f"{step} failed at {next(names, root.path)}: {problem}."
    if step in ("ExampleGen", "StatisticsGen"):
        from data.records import examine

        findings = examine(Path(config.data.path), config.data.example)
        if findings:
            lines = "\n  ".join(str(finding) for finding in findings)
            return (
                f"{step} cannot read {config.data.path}:\n  {lines}\nBuild the shards again with python -m data.build."
            )
    reason = str(error).strip().splitlines() or [""]
    return f"{step} failed: {type(error).__name__}: {reason[0][:300]}\nThe full error is in {log}."
