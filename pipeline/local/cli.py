"""The command run_local: its arguments, and the checks that need no TFX."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from data.days import has_days
from data.errors import SettingsError, UserError
from data.settings import fill_in
from data.shards import find_source
from data.signature import signer
from pipeline.arguments import DEFAULT, add_beam, add_run_root, add_settings, run_command
from pipeline.config import Config, load
from pipeline.definition import STEPS, full_path
from pipeline.engines.options import check_options
from pipeline.exit_codes import DATA_REFUSED, FAILED, INTERRUPTED, MODEL_REFUSED, PUSHED, WRONG_USE
from pipeline.local.tfx_command import describe, is_asking
from pipeline.runs.root import RunRoot


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.run_local",
        description="Run the pipeline on this machine: TFRecords in, a validated and pushed model out.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"""steps:
  {", ".join(STEPS)}

exit codes:
  {PUSHED}    the model was pushed (or had been, and nothing changed; or the steps asked for are done)
  {FAILED}    an error
  {WRONG_USE}    a wrong command line or profile
  {MODEL_REFUSED}    a gate refused the model; nothing was pushed
  {DATA_REFUSED}    the data gate refused the data; nothing was trained
  {INTERRUPTED}  interrupted; the same command continues from there""",
    )
    add_settings(parser)
    add_run_root(parser)
    parser.add_argument(
        "--from", dest="start", choices=STEPS, metavar="STEP", help="first step to run; reuse earlier ones"
    )
    parser.add_argument("--to", dest="stop", choices=STEPS, metavar="STEP", help="last step to run")
    add_beam(parser)
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with the last run that did not finish, with its own settings; metadata and notify can be set",
    )
    parser.add_argument("--verbose", action="store_true", help="also show TFX's, TensorFlow's and Beam's log lines")
    parser.set_defaults(profile="")
    args = parser.parse_args(argv)
    if args.start and args.stop and STEPS.index(args.stop) < STEPS.index(args.start):
        parser.error(f"--to {args.stop} comes before --from {args.start}: exchange them")
    args.resumed, args.days = None, ""
    others = [override for override in args.set if not override.startswith(("metadata.", "notify."))]
    if args.resume and (others or args.start or args.stop or args.profile):
        parser.error("--resume takes the settings of that run: leave out --profile, --set, --from and --to")
    args.profile = args.profile or DEFAULT
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code that --help documents."""
    args = parse_args(argv)
    return run_command("run_local", lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    config = _resumed(args) if args.resume else load(args.profile, args.set, args.beam_arg)
    check_options(config.beam)
    if "TF_CONFIG" in os.environ:
        from pipeline.local.worker import find_worker, run_worker

        worker = find_worker(args.verbose)
        if worker:
            return run_worker(worker, args.verbose)
    fill_in(config.notify.url, "notify.url")
    args.signer = signer(config.serving.sign_key)
    args.days = check_data(config, args.days)
    if is_asking():
        return describe(config, RunRoot(args.run_root, config))
    from pipeline.local.runner import run

    return run(args, config)


def _resumed(args: argparse.Namespace) -> Config:
    """The settings of the last run that did not finish; the other arguments become those of that run."""
    given = load(args.profile, args.set, args.beam_arg)
    run = RunRoot(args.run_root, given).history().unfinished()
    args.resumed, args.profile = run.id, run.record["profile"]
    args.start, args.stop, args.days = run.record.get("from"), run.record.get("to"), run.record.get("days", "")
    # The sections that may hold secrets are not recorded.
    kept = load(args.profile, args.set).model_dump(mode="json", include={"metadata", "notify"})
    try:
        config = Config.model_validate_json(json.dumps({**run.record["given"], **kept}))
    except ValidationError as error:
        raise UserError(
            f"The settings of the run {run.id} do not fit this version, so it cannot be resumed:"
            f" {error.errors()[0]['msg']}. Repeat its command with other settings."
        ) from None
    beam = config.beam.model_copy(update={"args": (*config.beam.args, *given.beam.args)})
    return config.model_copy(update={"beam": beam})


def check_data(config: Config, days: str) -> str:
    """Stops before anything is loaded if a shard is missing, or if the engine's workers cannot read the folder.

    Args:
        days: those that a run has that is resumed, or "".

    Returns:
        The days of the run; empty for a data folder.

    Raises:
        SettingsError: an engine whose workers see no folder of this machine.
        UserError: no data folder, or not all shards of a split; see `find_source`.
    """
    if config.beam.engine == "dataflow":
        raise SettingsError(
            "beam.engine = dataflow reads and writes buckets only, and a run root is a folder:"
            " use python -m pipeline.run_kubeflow with --pipeline-root gs://…"
        )
    path, golden = full_path(config.data.path), full_path(config.data.golden)
    for setting, folder in (("data.path", path), ("data.golden", golden)):
        if folder and not has_days(folder) and not Path(folder).is_dir():
            build = ", or build one with python -m data.build" if setting == "data.path" else ", or leave it out"
            raise UserError(f"There is no data folder {folder}: set {setting}{build}.")
    return find_source(path, config.data.window, golden, days).window
