"""python -m pipeline.seeds: how sure the figures of a profile are.

It trains a profile with several seeds and evaluates each model on the test split. The other steps come from the cache.
The same command goes on where it stopped: what is trained comes from the cache. Nothing is pushed.

No example of the test split influences a choice. The Trainer is given the splits train and eval alone
(`pipeline/definition.py`), chooses the epoch by the loss on eval (`components/trainer/fit.py`), and the schema is
curated. tests/pipeline/test_seeds.py trains with permuted test labels and gets the same weights.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.process import quiet
from pipeline.arguments import add_run_root, add_settings, count, refuse_several_hosts, run_command
from pipeline.config import Config, load, with_overrides
from pipeline.exit_codes import MODEL_REFUSED, PUSHED, leave
from pipeline.local import cli
from pipeline.runs.root import RunRoot
from pipeline.runs.settings import dump

if TYPE_CHECKING:
    from pipeline.runs.records import Run

COLUMNS = {
    "accuracy": "test accuracy",
    "worst_class_accuracy": "worst class",
    "cross_entropy": "cross-entropy",
    "calibration_error": "calibration error",
    "seconds": "training, s",
}
Row = dict[str, float | None]


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; the exit codes are run_local's, but a model that a gate refuses counts like any other."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.seeds", description="Train a profile with several seeds, and say how sure it is."
    )
    add_settings(parser)
    add_run_root(parser)
    parser.add_argument("--n", type=count, default=3, metavar="N", help="how many seeds (default: 3)")
    args = parser.parse_args(argv)
    return run_command("seeds", lambda: _run(args), "Interrupted; the same command goes on.")


def _run(args: argparse.Namespace) -> int:
    refuse_several_hosts("pipeline.seeds")
    config = load(args.profile, args.set)
    file = args.run_root / "seeds" / f"{Path(args.profile).stem}-{_digest(config)}.json"
    rows: dict[int, Row] = {}
    summary: dict[str, Row] = {}
    for number in range(args.n):
        seed = config.training.seed + number
        print(f"\nSeed {seed}, {number + 1} of {args.n}", flush=True)
        options = ["--run-root", str(args.run_root), "--profile", args.profile, "--to", "Evaluator"]
        code = cli.main([*options, "--set", *args.set, f"training.seed={seed}"])
        if code not in (PUSHED, MODEL_REFUSED):
            return code
        with quiet():
            from data.files import write_file

            runs = RunRoot(args.run_root, config).history(config.name).runs()
        rows[seed] = row([run for run in runs if run.figures][-1], runs)
        summary = summarize(list(rows.values()))
        write_file(json.dumps({"seeds": rows, "summary": summary}, indent=2) + "\n", file)
    _print(rows, summary)
    print(f"\nStored in {file}")
    return 0


def row(evaluated: Run, runs: Sequence[Run]) -> Row:
    """The figures of the run `evaluated`, and the seconds of its training, which may be an earlier run's.

    The time of a training that was interrupted and continued is not known.
    """
    trainer = evaluated.step("Trainer")
    trainings = [
        step
        for run in runs
        if (step := run.step("Trainer")) and trainer and step.state != "CACHED"
        if (step.properties, step.inputs) == (trainer.properties, trainer.inputs)
    ]
    at_once = trainings and all(step.state == "COMPLETE" for step in trainings[-2:])
    seconds = trainings[-1].seconds if at_once else None
    return {column: evaluated.figures.get(column) for column in COLUMNS} | {"seconds": seconds}


def summarize(rows: Sequence[Row]) -> dict[str, Row]:
    """For each column the mean, the standard deviation, the least and the largest.

    The deviation is that of a sample (n - 1), and None for one row. A value that is not known in a row is left out.
    """
    summary: dict[str, Row] = {}
    for column in COLUMNS:
        values = [value for row in rows if (value := row.get(column)) is not None]
        if values:
            summary[column] = {
                "mean": statistics.fmean(values),
                "deviation": statistics.stdev(values) if len(values) > 1 else None,
                "least": min(values),
                "largest": max(values),
            }
    return summary


def _print(rows: Mapping[int, Row], summary: Mapping[str, Row]) -> None:
    from pipeline.tables import console, table

    lines: list[dict[str, Any]] = [
        {"seed": str(seed), **{title: _text(column, found.get(column)) for column, title in COLUMNS.items()}}
        for seed, found in rows.items()
    ]
    for title, cells in (
        ("mean ± standard deviation", ("mean", "deviation")),
        ("least to largest", ("least", "largest")),
    ):
        line: dict[str, Any] = {"seed": title}
        for column, heading in COLUMNS.items():
            first, second = (_text(column, summary.get(column, {}).get(cell)) for cell in cells)
            line[heading] = f"{first} {'±' if 'deviation' in cells else 'to'} {second}"
        lines.append(line)
    print()
    console().print(table(lines))


def _text(column: str, value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}" if column == "seconds" else f"{value:.4f}"


def _digest(config: Config) -> str:
    """Of all settings but the seed."""
    tree = dump(with_overrides(config, ["training.seed=0"]))
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:8]


if __name__ == "__main__":
    leave(main())
