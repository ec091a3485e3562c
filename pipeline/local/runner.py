"""One run on this machine: it holds the run root, runs the steps, and prints how it ended."""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from data.errors import UserError
from data.signals import interruptible
from data.storage import causes, storage_problem
from pipeline.config import Config, without_defaults
from pipeline.definition import STEP_OF_SECTION, STEPS, create_pipeline
from pipeline.engines.problems import BEAM_STEPS, check_job_server, engine_problem, job_problem
from pipeline.exit_codes import FAILED, INTERRUPTED, MODEL_REFUSED, PUSHED, exit_code
from pipeline.local.notify import notify
from pipeline.local.output import log_to_output, redirect_output
from pipeline.local.progress import ProgressReporter
from pipeline.local.run_root import RunRoot
from pipeline.local.summary import print_summary

if TYPE_CHECKING:
    from tfx.orchestration.pipeline import RunOptions

    from pipeline.history.records import Run
    from pipeline.history.store import History

RESUME = (
    "--resume, or the same command, continues from there: finished steps come from the cache,"
    " and a training from its last finished epoch."
)


def run(args: argparse.Namespace, config: Config) -> int:
    """Runs the steps and prints the result; returns the exit code.

    Raises:
        UserError: the run root is held by another process, or cannot be written.
    """

    def before(step: str) -> None:
        if step in BEAM_STEPS:
            check_job_server(config.beam)

    root = RunRoot(args.run_root, config)
    with root.held():
        log = root.new_log()
        with redirect_output(log, args.verbose) as screen:
            console = Console(file=screen, highlight=False, soft_wrap=True, markup=False)
            reporter = ProgressReporter(console, live=console.is_terminal and not args.verbose)
            console.print(f"Pipeline {config.name}, profile {args.profile}, run root {root.path}")
            if args.resumed:
                console.print(f"This run resumes the run {args.resumed}.")
            versions, run_id = root.versions(), log.parent.name
            try:
                with interruptible() as interruption, reporter.active(interruption.check, before):
                    result = _run_steps(args, config, root, reporter, run_id)
            except KeyboardInterrupt:
                console.print(f"Interrupted in {reporter.failed_step}. {RESUME}")
                return INTERRUPTED
            except Exception as error:
                logging.getLogger(__name__).exception("The run failed.")
                code, explanation = exit_code(error), _explain(error, config, root, reporter.failed_step, log)
                console.print(explanation, style="red")
                ended = _recorded(config, root, run_id, explanation)
                report = _write_report(root, ended) if ended else None
                if report:
                    console.print(f"Report: {report}")
            else:
                ended, code, explanation = result, _exit_code(result), ""
                report = _write_report(root, result)
                print_summary(console, result, result.evaluation(), report, log, versions, root.versions())
            if config.notify.url:
                content = {"run": run_id, "pipeline": config.name, "profile": args.profile, "exit_code": code}
                content |= {"error": explanation, "report": str(report) if report else "", "log": str(log)}
                if problem := notify(config.notify.url, {**content, **_figures(ended)}):
                    console.print(f"The notification was not delivered: {problem}.", style="red")
            return code


def _recorded(config: Config, root: RunRoot, run_id: str, error: str) -> Run | None:
    """The run that failed, with `error` in its record; None if it ended before its first step."""
    from pipeline.history.records import ERROR

    try:
        history = root.history(config.name)
        if run_id in history.ids():
            history.record(run_id, **{ERROR: error})
            return history.run(run_id)
    except Exception:
        logging.getLogger(__name__).exception("The failure could not be recorded.")
    return None


def _write_report(root: RunRoot, run: Run) -> Path | None:
    """Writes the report of a run; None if that is not possible, with the reason in the log. The run counts, not it."""
    from pipeline.report.write import write_report

    try:
        return write_report(run, root.reports / f"{run.id}.html")
    except Exception:
        logging.getLogger(__name__).exception("The report could not be written.")
        return None


def _figures(run: Run | None) -> dict[str, Any]:
    """What a notification says about how the run ended."""
    if run is None:
        return {"verdict": "failed", "version": None, "figures": {}}
    return {"verdict": run.verdict, "version": run.version, "figures": run.figures}


def _run_steps(args: argparse.Namespace, config: Config, root: RunRoot, reporter: ProgressReporter, run_id: str) -> Run:
    """Loads TFX, runs the steps, and reads the result from ML Metadata."""
    reporter.begin("loading TFX")
    from components.infra_validator.component import describe_server
    from components.trainer.cluster import describe_hardware, prepare_devices
    from pipeline.local.recording import RecordingRunner, properties

    with log_to_output():
        prepare_devices(config.training.replicas)
        history = root.history(config.name, create=True)
        pipeline = create_pipeline(
            config,
            pipeline_root=str(root.artifacts),
            serving_dir=str(root.serving_dir),
            metadata=root.metadata(),
            hardware=describe_hardware(config.training),
            model_server=describe_server(config.infra),
        )
        options = _run_options(args, history, root)
        ignored = _ignored_settings(args, config, history, options)
        aside = root.set_unknown_artifacts_aside(history)
        missing = history.forget_missing(str(root.artifacts), only_here=not config.metadata.connection)
        reporter.end("done")
        if aside:
            reporter.note(f"metadata.db has no records, so the artifacts of earlier runs are now in {aside}.")
        if ignored:
            reporter.note(f"The steps before {args.start} are taken as they are, without {', '.join(ignored)}.")
        if missing:
            others = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
            reporter.note(f"{missing[0]}{others} is gone or has changed: the cache does not use it.")
        try:
            RecordingRunner(root.metadata(), run_id, properties(args, config)).run(pipeline, run_options=options)
        finally:
            _seal(history, run_id)
        result = history.run(run_id)
        # TFX goes on after some failures, for example of a resolver.
        if failed := [step.id for step in result.steps if step.state == "FAILED"]:
            reporter.begin(failed[0])
            raise RuntimeError("TFX could not run the step")
        return result


def _seal(history: History, run_id: str) -> None:
    try:
        history.seal(run_id)
    except Exception:
        logging.getLogger(__name__).exception("The listings of the artifacts could not be recorded.")


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


def _ignored_settings(
    args: argparse.Namespace, config: Config, history: History, options: RunOptions | None
) -> list[str]:
    """The settings that --from leaves without effect: they differ from the earlier run, and their step does not run."""
    if options is None or not options.base_pipeline_run_id:
        return []
    earlier = history.run(options.base_pipeline_run_id).settings
    if not earlier:  # recorded by an earlier version
        return []
    changed = without_defaults(json.loads(config.model_dump_json()), earlier)
    skipped = STEPS[: STEPS.index(args.start)]
    return [
        f"{section}.{name} = {value}"
        for section, step in STEP_OF_SECTION.items()
        if step in skipped
        for name, value in changed.get(section, {}).items()
    ]


def _exit_code(result: Run) -> int:
    if result.blessed is False or (result.infra and not result.infra.blessed):
        return MODEL_REFUSED
    return FAILED if result.pushed_to and not Path(result.pushed_to).is_dir() else PUSHED


def _explain(error: BaseException, config: Config, root: RunRoot, step: str, log: Path) -> str:
    """The sentence for an error: what failed, where, and what to do."""
    for cause in causes(error):
        if isinstance(cause, UserError):
            return str(cause)
    engine = step in BEAM_STEPS and bool(config.beam.job_server)
    if engine and (problem := engine_problem(error)):
        return f"{step} failed: {problem}.\nThe full error is in {log}. {RESUME}"
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
    if engine and (problem := job_problem(error)):
        return f"{step} failed: {problem}.\nThe full error is in {log}. {RESUME}"
    reason = str(error).strip().splitlines() or [""]
    return f"{step} failed: {type(error).__name__}: {reason[0][:300]}\nThe full error is in {log}."
