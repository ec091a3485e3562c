"""One run on this machine: it holds the run root, runs the steps, and prints how it ended."""

from __future__ import annotations

import argparse
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from components.version_folder import environment
from data.errors import UserError, causes, storage_problem
from data.notify import notify
from data.process import interruptible, uncollected
from pipeline.config import Config, given_way
from pipeline.definition import STEP_OF_SECTION, STEPS, create_pipeline
from pipeline.engines.problems import BEAM_STEPS, engine_problem, job_problem
from pipeline.exit_codes import FAILED, INTERRUPTED, MODEL_REFUSED, PUSHED, exit_code
from pipeline.local.output import log_to_output, redirect_output
from pipeline.local.progress import ProgressReporter
from pipeline.local.summary import print_summary
from pipeline.runs.root import RunRoot
from pipeline.runs.settings import changed, dump, flatten

if TYPE_CHECKING:
    from tfx.orchestration.pipeline import RunOptions

    from pipeline.runs.records import Run

# Of a Beam argument whose value is not recorded.
_SECRET = re.compile("secret|password|token|credential", re.IGNORECASE)
RESUME = (
    "--resume, or the same command, continues from there: finished steps come from the cache,"
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
            for sentence in given_way(config):
                console.print(sentence)
            if args.resumed:
                console.print(f"This run resumes the run {args.resumed}.")
            versions, run_id = root.versions(), log.parent.name
            try:
                with interruptible() as interruption, reporter.active(interruption.check):
                    result = _run_steps(args, config, root, reporter, run_id)
            except KeyboardInterrupt:
                console.print(f"Interrupted in {reporter.failed_step}. {RESUME}")
                return INTERRUPTED
            except Exception as error:
                logging.getLogger(__name__).exception("The run failed.")
                code, explanation = exit_code(error), _explain(error, args, config, root, reporter.failed_step, log)
                console.print(explanation, style="red")
                ended = _recorded(config, root, run_id, explanation)
                report = _write_report(root, ended) if ended else None
                if report:
                    console.print(f"Report: {report}")
            else:
                ended, code, explanation = result, _exit_code(result), ""
                report = _write_report(root, result)
                print_summary(console, result, report, log, versions, root.versions())
            if config.notify.url:
                content = {"run": run_id, "pipeline": config.name, "profile": args.profile, "exit_code": code}
                content |= {"error": explanation, "report": str(report) if report else "", "log": str(log)}
                content |= {"verdict": ended.verdict if ended else "failed", "version": ended and ended.version}
                content |= {"figures": ended.figures if ended else {}}
                if problem := notify(config.notify.url, content):
                    console.print(f"The notification was not delivered: {problem}.", style="red")
            return code


@contextmanager
def _tolerated(failure: str) -> Iterator[None]:
    """Logs an error: the run counts, and not what is said about it."""
    try:
        yield
    except Exception:
        logging.getLogger(__name__).exception(failure)


def _recorded(config: Config, root: RunRoot, run_id: str, error: str) -> Run | None:
    """The run that failed, with `error` in its record; None if it ended before its first step."""
    with _tolerated("The failure could not be recorded."), suppress(UserError):
        history = root.history(config.name)
        history.record(run_id, error=error)
        return history.run(run_id)
    return None


def _write_report(root: RunRoot, run: Run) -> Path | None:
    """Writes the report of a run; None if that is not possible, with the reason in the log."""
    with _tolerated("The report could not be written."):
        from pipeline.report.page import write_report

        return write_report(run, root.report(run.id))
    return None


def _run_steps(args: argparse.Namespace, config: Config, root: RunRoot, reporter: ProgressReporter, run_id: str) -> Run:
    """Loads TFX, runs the steps, and reads the result from ML Metadata."""
    reporter.begin("loading TFX")
    with uncollected():
        from components.infra_validator.component import describe_server
        from components.trainer.cluster import describe_hardware, prepare_devices
        from pipeline.local.dag_runner import LocalRunner

        with log_to_output():
            prepare_devices(config.training.replicas)
            history = root.history(config.name, create=True)
            pipeline = create_pipeline(
                config,
                pipeline_root=str(root.artifacts),
                serving_dir=str(root.serving_dir),
                days=args.days if args.resumed else "",
                metadata=root.metadata(),
                hardware=describe_hardware(config.training),
                model_server=describe_server(config.infra),
                signer=args.signer,
            )
    with log_to_output():
        aside = root.set_unknown_artifacts_aside(history)
        missing = history.forget_missing(shared=root.shares_metadata)
        base = history.base_run(args.start) if args.start and args.start != STEPS[0] else None
        ignored = _ignored_settings(args.start, config, base) if base else []
        reporter.end("done")
        if aside:
            reporter.note(f"metadata.db has no records, so the artifacts of earlier runs are now in {aside}.")
        if ignored:
            reporter.note(f"The steps before {args.start} are taken as they are, without {', '.join(ignored)}.")
        if missing:
            others = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
            reporter.note(f"{missing[0]}{others} is gone or has changed: the cache does not use it.")
        record = history.begin(run_id, _record(args, config))
        try:
            runner = LocalRunner(root.metadata(), run_id, record, reporter, config.beam)
            runner.run(pipeline, run_options=_run_options(args, base))
        finally:
            with _tolerated("The listings of the artifacts could not be recorded."):
                history.seal(run_id)
        return history.run(run_id)


def _record(args: argparse.Namespace, config: Config) -> dict[str, Any]:
    """What ML Metadata does not know of a run, without secrets."""
    shown = tuple(arg for arg in config.beam.args if not _SECRET.search(arg))
    config = config.model_copy(update={"beam": config.beam.model_copy(update={"args": shown})})
    record = {"profile": args.profile, "from": args.start, "to": args.stop, "resumed": args.resumed, "days": args.days}
    return {**record, "settings": dump(config), "given": dump(config, given=True), "packages": environment()}


def _run_options(args: argparse.Namespace, base: Run | None) -> RunOptions | None:
    """TFX's partial run for --from and --to: it runs what lies between the two sets of steps."""
    from tfx.orchestration.pipeline import RunOptions

    if not args.start and not args.stop:
        return None
    first, last = STEPS.index(args.start or STEPS[0]), STEPS.index(args.stop or STEPS[-1])
    return RunOptions(
        from_nodes=STEPS[first:], to_nodes=STEPS[: last + 1], base_pipeline_run_id=base.id if base else None
    )


def _ignored_settings(start: str, config: Config, base: Run) -> list[str]:
    """The settings that --from leaves without effect: they differ from the base run's, and their step does not run."""
    skipped = STEPS[: STEPS.index(start)]
    different = changed(flatten(dump(config)), flatten(base.settings)) if base.settings else {}
    return [
        f"{key} = {value}" for key, value in different.items() if STEP_OF_SECTION.get(key.partition(".")[0]) in skipped
    ]


def _exit_code(result: Run) -> int:
    if result.blessed is False or (result.infra and not result.infra.blessed):
        return MODEL_REFUSED
    return FAILED if result.pushed_to and not Path(result.pushed_to).is_dir() else PUSHED


def _explain(
    error: BaseException, args: argparse.Namespace, config: Config, root: RunRoot, step: str, log: Path
) -> str:
    """The sentence for an error: what failed, where, and what to do."""
    for cause in causes(error):
        if isinstance(cause, UserError):
            return str(cause)
    remote = step in BEAM_STEPS and bool(config.beam.job_server)
    problem, lost = storage_problem(error), engine_problem(error) if remote else None
    if problem and not lost:
        names = (cause.filename for cause in causes(error) if isinstance(cause, OSError) and cause.filename)
        return f"{step} failed at {next(names, root.path)}: {problem}."
    if step in ("ExampleGen", "StatisticsGen") and not lost:
        from data.records import examine
        from data.shards import find_source

        try:
            shards = find_source(config.data.path, config.data.window, config.data.golden, args.days).shards
        except UserError as problem_of_data:  # it has changed since the step began
            return str(problem_of_data)
        if findings := examine(shards, config.data.example):
            lines = "\n  ".join(str(finding) for finding in findings)
            return (
                f"{step} cannot read {config.data.path}:\n  {lines}\nBuild the shards again with python -m data.build."
            )
    if problem := lost or (job_problem(error) if remote else None):
        return f"{step} failed: {problem}.\nThe full error is in {log}. {RESUME}"
    reason = str(error).strip().splitlines() or [""]
    return f"{step} failed: {type(error).__name__}: {reason[0][:300]}\nThe full error is in {log}."
