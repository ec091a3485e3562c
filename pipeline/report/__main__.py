"""python -m pipeline.report: writes the report of any run again."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from data.errors import UserError, storage_problem
from data.process import quiet
from pipeline.arguments import add_run_root, add_set, connection_only, run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point: 0, or 1 for an error, or 2 for a wrong command line."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.report", description="Write the report of a run, one HTML file, again."
    )
    parser.add_argument(
        "run",
        nargs="?",
        default="last",
        metavar="RUN",
        help='id of a run, the beginning of it that only one run has, or "last" (default: last)',
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: reports/<run>.html in the run root")
    add_run_root(parser)
    add_set(parser, "metadata.connection=…, if the runs had it", connection_only)
    args = parser.parse_args(argv)
    return run_command("report", lambda: _write(args))


def _write(args: argparse.Namespace) -> int:
    from pipeline.config import load
    from pipeline.report.page import write_report
    from pipeline.runs.root import RunRoot

    root = RunRoot(args.run_root, load("default", args.set))
    with quiet():
        run = root.history().run(args.run)
        path = args.output or root.report(run.id)
        _check(path)
        write_report(run, path)
    print(path)
    return 0


def _check(path: Path) -> None:
    """Fails before TensorFlow is loaded, which takes seconds, if nothing can be written there."""
    if path.is_dir():
        raise UserError(f"{path} is a folder: name a file with -o.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise UserError(f"{path} cannot be written: {storage_problem(error) or error.strerror}.") from None


if __name__ == "__main__":
    sys.exit(main())
