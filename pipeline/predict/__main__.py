"""python -m pipeline.predict: reads a million pictures with a pushed model."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path

from components.version_folder import version_folders
from data.errors import SettingsError, UserError
from data.process import uncollected
from pipeline.arguments import DEFAULT, add_beam, add_run_root, add_set, count, run_command
from pipeline.config import Config, load
from pipeline.engines.options import check_options
from pipeline.exit_codes import FAILED, INTERRUPTED, PUSHED, WRONG_USE, leave
from pipeline.runs.root import RunRoot

_FORMATS = ("parquet", "csv", "prediction-log")


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.predict",
        description="Predict the classes of many inputs with a pushed model, by Beam.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"""INPUT is a data folder or some of its shards, a folder of pictures, a list of them, a table, or
whatever else python -m data.build reads. It needs no labels. OUT gets one file for each shard, and for each
10,000 pictures or rows of a table.

exit codes:
  {PUSHED}    all is predicted
  {FAILED}    an error; also if more inputs than --max-bad could not be read
  {WRONG_USE}    a wrong command line or profile
  {INTERRUPTED}  interrupted; --resume goes on""",
    )
    parser.add_argument("input", nargs="+", metavar="INPUT", help="files, folders or globs")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT", help="folder of the predictions")
    parser.add_argument("--format", choices=_FORMATS, default="parquet", help="of the predictions (default: parquet)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--version", type=count, metavar="N", help="of the model (default: the newest pushed one)")
    which.add_argument("--model", type=Path, metavar="DIR", help="any version folder")
    parser.add_argument(
        "--max-bad",
        type=_share,
        default="1%",
        metavar="LIMIT",
        help="inputs that may be unreadable, N or N%% (default: 1%%)",
    )
    parser.add_argument("--resume", action="store_true", help="skip the shards that an earlier command has finished")
    add_run_root(parser)
    parser.add_argument("--profile", default=DEFAULT, metavar="NAME", help="whose serving.model_name and beam count")
    add_set(parser, "override, e.g. beam.engine=flink")
    add_beam(parser)
    parser.add_argument("--verbose", action="store_true", help="also show TensorFlow's and Beam's log lines")
    return parser.parse_args(argv)


def _share(text: str) -> tuple[float, bool]:
    """A number, and whether it is a percentage."""
    if not re.fullmatch(r"\d+|\d+(\.\d+)?%", text) or (text.endswith("%") and float(text[:-1]) > 100):
        raise argparse.ArgumentTypeError(f"{text} must be a count such as 100, or a share such as 1%")
    return float(text.rstrip("%")), text.endswith("%")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code that --help documents."""
    args = parse_args(argv)
    return run_command("predict", lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    config = load(args.profile, args.set, args.beam_arg)
    check_options(config.beam)
    if config.beam.engine == "dataflow":
        raise SettingsError(
            "beam.engine = dataflow reads and writes buckets only, and python -m pipeline.predict folders:"
            " choose direct, flink or spark."
        )
    folder = model_folder(args, config)
    for path in map(Path, args.input):
        if path.is_dir() and args.out.resolve().is_relative_to(path.resolve()):
            raise SettingsError(f"-o {args.out} lies in {path}, which is the input: choose a folder outside.")
    # TensorFlow reads it when it starts. Calls with one thread each keep the cores busier than one call with several.
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    from pipeline.predict.inputs import find

    found = find(args.input)
    from rich.console import Console

    from pipeline.local.output import log_to_output, redirect_output
    from pipeline.predict.folder import LOG, filled

    with filled(args.out, args.resume), redirect_output(args.out / LOG, args.verbose) as screen:
        console = Console(file=screen, highlight=False, soft_wrap=True, markup=False)
        console.print(f"Predicts with the model in {folder}.")
        with uncollected():
            from pipeline.predict import command
        with log_to_output():
            return command.run(args, config, folder, found, console)


def model_folder(args: argparse.Namespace, config: Config) -> Path:
    """The version folder that the command line names.

    Raises:
        UserError: there is none.
    """
    if args.model is not None:
        if not (args.model / "saved_model.pb").is_file():
            raise UserError(f"{args.model} holds no saved_model.pb: name a version folder.")
        return Path(args.model).resolve()
    base = RunRoot(args.run_root, config).serving_dir
    versions = {int(Path(path).name): Path(path) for path in version_folders(str(base))}
    if not versions:
        raise UserError(f"{base} holds no version: push one, or name a folder with --model.")
    if args.version is None:
        return versions[max(versions)]
    if args.version not in versions:
        names = ", ".join(map(str, versions))
        raise UserError(f"There is no version {args.version} in {base}: it has {names}.")
    return versions[args.version]


if __name__ == "__main__":
    leave(main())
