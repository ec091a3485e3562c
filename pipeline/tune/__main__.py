"""python -m pipeline.tune: the steps before the Trainer, the search, its report."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from components.digests import DIGESTS
from data.errors import UserError
from data.process import quiet
from pipeline.arguments import add_run_root, add_settings, count, duration, refuse_several_hosts, run_command
from pipeline.config import Config, load
from pipeline.exit_codes import leave
from pipeline.local import cli
from pipeline.runs.root import RunRoot
from pipeline.tune.ranges import SECTIONS, Range, check_ranges, parse_range

if TYPE_CHECKING:
    from pipeline.tune.study import Search


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point: 0, or run_local's exit codes."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.tune",
        description="Search for the best settings of the Trainer. The eval split judges, and no trial reads the test"
        " split.",
        epilog="The same command goes on where it stopped. In a second terminal it works on the same search.",
    )
    add_settings(parser)
    parser.add_argument(
        "--set-range",
        nargs="+",
        action="extend",
        required=True,
        metavar="KEY=RANGE",
        help="what to vary, e.g. training.learning_rate=1e-3..3e-2 model.units=64..256 model.cell=lstm,gru",
    )
    parser.add_argument("--trials", type=count, default=20, metavar="N", help="of the whole search (default: 20)")
    parser.add_argument(
        "--jobs", type=count, default=1, metavar="N", help="processes that share the cores (default: 1)"
    )
    parser.add_argument(
        "--metric", choices=["val_loss", "val_accuracy"], default="val_loss", help="what judges (default: val_loss)"
    )
    parser.add_argument(
        "--budget",
        type=duration,
        default=0,
        metavar="TIME",
        help="training time of a trial, such as 75s or 20m: it is cut there, and judged as it stands (default: none)",
    )
    add_run_root(parser)
    args = parser.parse_args(argv)
    return run_command("tune", lambda: _run(args), "Interrupted; the same command goes on with the search.")


def _run(args: argparse.Namespace) -> int:
    refuse_several_hosts("pipeline.tune")
    if find_spec("optuna") is None:
        raise UserError("The search needs the extra [tune]: pip install '.[tune]'.")
    config = load(args.profile, args.set)
    ranges = check_ranges([parse_range(text) for text in args.set_range], config)
    # No run of this command has a model to tell of.
    overrides = [*args.set, 'notify.url=""']
    options = ["--run-root", str(args.run_root), "--profile", args.profile, "--to", "Transform", "--set", *overrides]
    return cli.main(options) or go_on(_search(args, config, ranges), args.jobs)


def _search(args: argparse.Namespace, config: Config, ranges: tuple[Range, ...]) -> Search:
    """The search of this command. Another data set, other settings or other code of the Trainer make another search."""
    with quiet():
        from components.fingerprint import fingerprint
        from pipeline.tune.study import Search

        last = RunRoot(args.run_root, config).history(config.name).run("last")
        transform, examples = last.output("Transform", "transform_graph"), last.output("ExampleGen", "examples")
        code = [*last.fingerprints.values(), fingerprint("components.trainer.run")]
    if transform is None or examples is None:
        raise UserError(f"The run {last.id} left no examples or no transform graph: run the same command again.")
    identity = [
        config.model_dump(mode="json", include={"data", *SECTIONS}),
        [asdict(found) for found in ranges],
        args.metric,
        args.budget,
        (Path(examples.uri) / DIGESTS).read_text(),
        code,
    ]
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    return Search(
        folder=args.run_root.resolve() / "tune" / f"{Path(args.profile).stem}-{digest}",
        profile=args.profile,
        config=config,
        ranges=ranges,
        metric=args.metric,
        trials=args.trials,
        transform_output=transform.uri,
        examples=examples.uri,
        budget=args.budget,
    )


def go_on(search: Search, jobs: int) -> int:
    """Brings the search to its end, and writes its report. Returns the exit code."""
    from pipeline.tune.report import write_report
    from pipeline.tune.search import run, tell
    from pipeline.tune.study import finished

    print(f"\nSearch {search.folder}", flush=True)
    try:
        study = search.open_study()
        code = run(search, jobs) if finished(study) < search.trials else 0
        write_report(search, study)
    except Exception as error:
        return tell(error, search)
    return code


if __name__ == "__main__":
    leave(main())
