"""The command tune: its arguments, the steps before the Trainer, the search, its report."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from data.errors import SettingsError, UserError
from data.quiet import quiet
from pipeline.config import Config
from pipeline.exit_codes import INTERRUPTED, PUSHED, exit_code
from pipeline.local import cli
from pipeline.local.run_root import RunRoot
from pipeline.tune.ranges import SECTIONS, Range, check_ranges, parse_range
from pipeline.tune.study import Search


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.tune",
        description="Search for the best settings of the Trainer. The eval split judges; the test split is not read.",
        epilog="The same command goes on where it stopped. In a second terminal it works on the same search. KerasTuner"
        " in TFX's Tuner is not used: its Hyperband fails to write its result, and it cannot resume.",
    )
    parser.add_argument("--profile", default="default", metavar="NAME", help="a profile's name, or a .toml file")
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="override, e.g. training.epochs=3"
    )
    parser.add_argument(
        "--set-range",
        nargs="+",
        action="extend",
        required=True,
        metavar="KEY=RANGE",
        help="what to vary, e.g. training.learning_rate=1e-3..3e-2 model.units=64..256 model.cell=lstm,gru",
    )
    parser.add_argument("--trials", type=_count, default=20, metavar="N", help="of the whole search (default: 20)")
    parser.add_argument(
        "--jobs", type=_count, default=1, metavar="N", help="processes that share the cores (default: 1)"
    )
    parser.add_argument(
        "--metric", choices=["val_loss", "val_accuracy"], default="val_loss", help="what judges (default: val_loss)"
    )
    parser.add_argument("--run-root", type=Path, default=Path("runs"), metavar="DIR", help="(default: runs)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point: 0, or run_local's exit codes."""
    args = parse_args(argv)
    try:
        ranges = tuple(map(parse_range, args.set_range))
        config = check_ranges(ranges, args.profile, args.set)
        if args.metric == "val_loss" and "training.label_smoothing" in [found.key for found in ranges]:
            raise SettingsError(
                "--set-range training.label_smoothing: smoothing changes the loss itself; use --metric val_accuracy."
            )
        overrides = ["--set", *args.set] if args.set else []
        code = cli.main(["--run-root", str(args.run_root), "--profile", args.profile, "--to", "Transform", *overrides])
        if code != PUSHED:
            return code
        search = _search(args, config, ranges)
        print(f"\nSearch {search.folder}", flush=True)
        return _run(search, args.jobs)
    except UserError as error:
        print(f"tune: {error}", file=sys.stderr)
        return exit_code(error)
    except KeyboardInterrupt:
        print("tune: Interrupted; the same command goes on with the search.", file=sys.stderr)
        return INTERRUPTED


def _search(args: argparse.Namespace, config: Config, ranges: tuple[Range, ...]) -> Search:
    """The search of this command. Another data set, other settings or other code of the Trainer make another search."""
    with quiet():
        from components.fingerprint import fingerprint

        last = RunRoot(args.run_root, config).history(config.name).run("last")
        outputs = [last.output("Transform", "transform_graph"), last.output("ExampleGen", "examples")]
        code = fingerprint("components.trainer.run")
    transform, examples = (artifact.uri if artifact else "" for artifact in outputs)
    identity = [
        config.model_dump(mode="json", include={"data", *SECTIONS}),
        [asdict(found) for found in ranges],
        args.metric,
        transform,
        examples,
        code,
    ]
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    return Search(
        folder=args.run_root.resolve() / "tune" / f"{Path(args.profile).stem}-{digest}",
        profile=args.profile,
        overrides=tuple(args.set),
        ranges=ranges,
        metric=args.metric,
        trials=args.trials,
        transform_output=transform,
        examples=examples,
    )


def _run(search: Search, jobs: int) -> int:
    from pipeline.tune.report import write_report
    from pipeline.tune.search import run

    if code := run(search, jobs):
        return code
    for line in write_report(search, search.open_study()):
        print(line)
    return PUSHED


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not 1 or more")
    return number
