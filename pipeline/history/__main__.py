"""python -m pipeline.history: what the recorded runs did, where a version comes from and who signed it, rolling back.

Each command prints tables, or JSON for machines.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from pipeline.arguments import add_run_root, add_set, connection_only, count, run_command

LIST = """The runs, oldest first; a roll-back has a row of its own. An accuracy has its 95 % Wilson interval."""
COMPARE = """What differs between runs: settings, the code of the steps, packages, data and metrics; and which examples
of the test split changed from right to wrong and back. Each run is compared with the first."""
LINEAGE = """Which data, settings, code, gates and libraries made a served model. VERSION is a number under
serving_models, or the path of any folder that holds a pushed model. Its provenance is read from the folder itself;
what ML Metadata knows is added if the run root is there."""
GC = """Removes the artifacts, the logs and the reports of old runs. ML Metadata keeps their records and marks the
artifacts as deleted, so that the cache does not use them.

These artifacts are kept: those of
  the newest N runs of each pipeline;
  the run that --resume would take up, and the runs that --from would reuse;
  the runs that made the newest version of each model and its baseline.
An artifact that one of these runs shares with an old run is kept. Folders that ML Metadata does not know, and all that
lies outside of the run root, are left alone.

Without --keep-versions no version is removed. With it, M versions of each model stay: the newest M. The baseline, which
is the newest version with another model, and the version that the newest one was compared with stay too.

A run root is in use while a run is in progress: then nothing is removed."""
VERIFY = """Checks that a version holds what was signed, to the bit, and that the key signed it: the public P-256 key of
serving.sign_key. VERSION is a number under serving_models, or the path of any folder that holds a pushed model."""
ROLLBACK = """Serves a version again: its copy becomes the newest version, which model servers load. By default this is
the newest version whose model is not the one that is served; so a second roll-back returns to the first model. The new
version is the baseline of the next run. The model that was served is not pushed again, also if its run is repeated,
until another version is pushed or `rollback VERSION` names it. The copy of a signed version is signed again, with the
key of --sign-key: it says itself what it is a copy of."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command. The exit code is 0 for success, 1 for an error, 2 for wrong use, 130 for an interruption."""
    args = _parser().parse_args(argv)
    return run_command("history", lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    from pipeline.config import load
    from pipeline.runs.root import RunRoot

    module = import_module(f"pipeline.history.{args.module}")
    result = getattr(module, args.function)(args, RunRoot(args.run_root, load("default", args.set)))
    if args.json:
        print(json.dumps(result, ensure_ascii=False))
    else:
        from pipeline.tables import console

        getattr(module, args.printer)(console(), result)
    sys.stdout.flush()
    return 0


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    add_run_root(common)
    add_set(common, "metadata.connection=…, if the runs had it", connection_only)
    common.add_argument("--json", action="store_true", help="print JSON")

    parser = argparse.ArgumentParser(
        prog="python -m pipeline.history",
        description="What the recorded runs did, read from ML Metadata and the artifacts that it points to.",
        epilog="RUN is the id of a run, its beginning, or last. Exit codes: 0 success, 1 an error, 2 wrong use.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(
        name: str, text: str, module: str, function: str, printer: str, summary: str
    ) -> Callable[..., argparse.Action]:
        added = commands.add_parser(
            name,
            parents=[common],
            help=summary,
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.set_defaults(module=module, function=function, printer=printer)
        return added.add_argument

    add = command("list", LIST, "listing", "list_runs", "print_list", "the runs")
    add("--limit", type=count, metavar="N", help="only the newest N")
    add = command("show", "Everything about one run.", "listing", "show_run", "print_run", "one run")
    add("run_id", metavar="RUN")
    add = command("compare", COMPARE, "compare", "compare_runs", "print_comparison", "what differs between runs")
    add("first", metavar="RUN")
    add("others", metavar="RUN", nargs="+")
    add("--limit", type=count, default=20, metavar="N", help="show at most N changed examples (default: 20)")
    add = command("lineage", LINEAGE, "lineage", "show_lineage", "print_lineage", "where a served model comes from")
    add("version", metavar="VERSION")
    add = command("verify", VERIFY, "verify", "verify_version", "print_verified", "check the signature of a version")
    add("version", metavar="VERSION")
    add("--key", type=Path, required=True, metavar="PEM", help="the public key")
    add = command("gc", GC, "gc", "collect", "print_collected", "remove the artifacts of old runs")
    add("--keep", type=count, required=True, metavar="N", help="keep the newest N runs of each pipeline")
    add("--keep-versions", type=count, metavar="M", help="keep the newest M versions of each model (default: all)")
    add("--dry-run", action="store_true", help="remove nothing, and say what would be removed")
    add = command("rollback", ROLLBACK, "rollback", "roll_back", "print_rollback", "serve a version again")
    add("version", metavar="VERSION", nargs="?", type=count)
    add("--model", metavar="NAME", help="the model's name, if the run root has several")
    add("--sign-key", default="", metavar="KEY", help="signs the copy; as serving.sign_key: a PEM file, or $NAME")
    return parser


if __name__ == "__main__":
    sys.exit(main())
