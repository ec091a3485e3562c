"""python -m pipeline.run_local: the whole pipeline in this process, with Beam."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data.errors import ConfigError, UserError, causes, missing_split, storage_trouble
from data.features import SPLITS, shard_pattern
from pipeline import STEPS
from pipeline.exit_codes import DATA_REFUSED, FAILED, INTERRUPTED, MODEL_REFUSED, PUSHED, WRONG_USE, exit_code

if TYPE_CHECKING:
    from components.trainer.cluster import Host
    from pipeline.config import Config
    from pipeline.console import Account
    from pipeline.history import Run
    from pipeline.run_root import RunRoot


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.run_local",
        description="Run the pipeline on this machine: TFRecords in, a judged and pushed model out.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"""steps:
  {", ".join(STEPS)}

exit codes:
  {PUSHED}    the model was pushed (or had been, and nothing changed; or the steps asked for are done)
  {FAILED}    an error
  {WRONG_USE}    a wrong command line or profile
  {MODEL_REFUSED}    a gate refused the model; nothing was pushed
  {DATA_REFUSED}    the data gate refused the data; nothing was trained
  {INTERRUPTED}  interrupted; the same command goes on from where it was""",
    )
    parser.add_argument(
        "--profile", default="default", metavar="NAME", help="a profile's name, or a .toml file (default: default)"
    )
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="override, e.g. training.epochs=3"
    )
    parser.add_argument(
        "--run-root", type=Path, default=Path("runs"), metavar="DIR", help="folder for runs and models (default: runs)"
    )
    parser.add_argument(
        "--from", dest="start", choices=STEPS, metavar="STEP", help="first step to run; reuse earlier ones"
    )
    parser.add_argument("--to", dest="stop", choices=STEPS, metavar="STEP", help="last step to run")
    parser.add_argument(
        "--beam-arg", action="append", default=[], metavar="ARG", help="a Beam option: --beam-arg=--runner=…"
    )
    parser.add_argument("--verbose", action="store_true", help="also show TFX's, TensorFlow's and Beam's log lines")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code that --help documents."""
    args = parse(argv)
    from pipeline.config import load

    try:
        config = load(args.profile, args.set, args.beam_arg)
        if helper := _helper(args.verbose):
            return help_chief(helper, args.verbose)
        check_data(config)
        return execute(args, config)
    except UserError as error:
        print(f"run_local: {error}", file=sys.stderr)
        return exit_code(error)


def _helper(verbose: bool) -> Host | None:
    """This host, if TF_CONFIG lists several and another is their chief, which alone runs the pipeline."""
    if "TF_CONFIG" not in os.environ:
        return None
    _prepare_tensorflow()
    from pipeline.run_root import output_into

    with output_into(Path(os.devnull), verbose):
        from components.trainer.cluster import this_host

        host = this_host()
    return None if host is None or host.is_chief else host


def help_chief(host: Host, verbose: bool) -> int:
    """Waits for the chief's Trainer and trains with it; touches neither the run root's lock nor its metadata."""
    from components.trainer.cluster import in_own_process
    from components.trainer.run import help_train
    from pipeline.run_root import output_into

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with output_into(Path(os.devnull), verbose) as screen:
        me = f"Worker {host.index} of {host.count - 1}"
        print(f"{me}: waits for the Trainer of the chief {host.chief}.", file=screen, flush=True)
        try:
            in_own_process(help_train)
        except KeyboardInterrupt:
            print(f"{me}: interrupted.", file=screen)
            return INTERRUPTED
        except Exception as error:
            print(f"{me}: {error}", file=screen)
            return exit_code(error)
        print(f"{me}: the training has ended; the chief goes on alone.", file=screen)
        return PUSHED


def _prepare_tensorflow() -> None:
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")


def check_data(config: Config) -> None:
    """Stops before anything is loaded when a split is missing, or out of the workers' sight.

    Raises:
        ConfigError: an engine whose workers see no folder of this machine.
        UserError: no data folder, or no shard of a split.
    """
    if config.beam.engine == "dataflow":
        raise ConfigError(
            "beam.engine = dataflow reads and writes buckets only, and a run root is a folder:"
            " use python -m pipeline.run_kubeflow with --pipeline-root gs://…"
        )
    folder = Path(config.data.path)
    if not folder.is_dir():
        raise UserError(f"There is no data folder {folder}: set data.path, or build one with python -m data.build.")
    for split in SPLITS:
        if not any(folder.glob(shard_pattern(split))):
            raise missing_split(folder, split)


def execute(args: argparse.Namespace, config: Config) -> int:
    """Runs the steps while holding the run root, tells of them, and says how it ended."""
    from rich.console import Console

    from pipeline.console import Account, summary
    from pipeline.run_root import RunRoot, output_into

    root = RunRoot(args.run_root, config)
    with root.held():
        log = root.new_log()
        with output_into(log, args.verbose) as screen:
            console = Console(file=screen, highlight=False, soft_wrap=True, markup=False)
            account = Account(console, live=console.is_terminal and not args.verbose)
            console.print(f"Pipeline {config.name}, profile {args.profile}, run root {root.path}")
            before = root.versions()
            previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
            try:
                with account.shown():
                    run = _run(args, config, root, account)
            except KeyboardInterrupt:
                console.print(f"Interrupted in {account.broken}. {RESUME}")
                return INTERRUPTED
            except Exception as error:
                logging.getLogger(__name__).exception("The run failed.")
                console.print(_explain(error, config, root, account.broken, log), style="red")
                return exit_code(error)
            finally:
                signal.signal(signal.SIGTERM, previous)
            summary(console, run, log, before, root.versions())
            return _verdict(run)


RESUME = (
    "The same command goes on from there: finished steps come from the cache,"
    " and a training from its last finished epoch."
)


def _run(args: argparse.Namespace, config: Config, root: RunRoot, account: Account) -> Run:
    """Loads TFX, runs the steps, and reads the result from ML Metadata."""
    account.begin("loading TFX")
    _prepare_tensorflow()
    from tfx import v1 as tfx
    from tfx.orchestration.pipeline import RunOptions

    from components.trainer.distribution import reserve_devices
    from pipeline.definition import create_pipeline
    from pipeline.history import History
    from pipeline.run_root import logging_to_output

    with logging_to_output():
        reserve_devices(config.training.replicas)
        metadata = root.metadata()
        history = History(metadata, config.name)
        pipeline = create_pipeline(
            config, pipeline_root=str(root.artifacts), serving_dir=str(root.serving_dir), metadata=metadata
        )
        options = None
        if args.start or args.stop:
            base = history.latest_run_with(STEPS[: STEPS.index(args.start)]) if args.start else None
            if args.start and base is None:
                raise UserError(
                    f"--from {args.start} reuses all steps before it, but {root.path} holds no run that has them."
                )
            options = RunOptions(
                from_nodes=[args.start] if args.start else None,
                to_nodes=[args.stop] if args.stop else None,
                base_pipeline_run_id=base,
            )
        account.end("done")
        tfx.orchestration.LocalDagRunner().run(pipeline, run_options=options)
        return history.run(history.runs()[-1], config.gates)


def _verdict(run: Run) -> int:
    if any(gate is not None and not gate.blessed for gate in (run.evaluation, run.infra)):
        return MODEL_REFUSED
    return FAILED if run.pushed_to and not Path(run.pushed_to).is_dir() else PUSHED


def _explain(error: BaseException, config: Config, root: RunRoot, step: str, log: Path) -> str:
    """The sentence for an error: what failed, where, and what to do."""
    for cause in causes(error):
        if isinstance(cause, UserError):
            return str(cause)
    trouble = storage_trouble(error)
    if trouble:
        return f"{step} could not write to {root.path}: {trouble}."
    if step in ("ExampleGen", "StatisticsGen"):
        from data.records import examine

        image = config.data.image
        findings = examine(Path(config.data.path), image.rows, image.columns, image.classes)
        if findings:
            lines = "\n  ".join(str(finding) for finding in findings)
            return (
                f"{step} cannot read {config.data.path}:\n  {lines}\nBuild the shards again with python -m data.build."
            )
    reason = str(error).strip().splitlines() or [""]
    return f"{step} failed: {type(error).__name__}: {reason[0][:300]}\nThe whole story is in {log}."


if __name__ == "__main__":
    sys.exit(main())
