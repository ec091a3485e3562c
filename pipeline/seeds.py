"""python -m pipeline.seeds: how sure the figures of a profile are.

It trains a profile with several seeds and evaluates each model on the test split. The other steps come from the cache.
The same command goes on where it stopped. Nothing is pushed.

No example of the test split influences a choice. The Trainer is given the splits train and eval alone
(`pipeline/definition.py`), chooses the epoch by the loss on eval (`components/trainer/fit.py`), and the schema is
curated. tests/pipeline/test_seeds.py trains with permuted test labels and gets the same weights.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.errors import UserError
from data.quiet import quiet
from pipeline.arguments import add_settings, count
from pipeline.config import Config, load
from pipeline.exit_codes import MODEL_REFUSED, PUSHED, exit_code
from pipeline.local import cli
from pipeline.local.run_root import RunRoot

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
    parser.add_argument("--run-root", type=Path, default=Path("runs"), metavar="DIR", help="(default: runs)")
    parser.add_argument("--n", type=count, default=3, metavar="N", help="how many seeds (default: 3)")
    args = parser.parse_args(argv)
    try:
        config = load(args.profile, args.set)
        file = args.run_root / "seeds" / f"{Path(args.profile).stem}-{_digest(config)}.json"
        rows = {int(seed): row for seed, row in _read(file).items()}
        seeds = range(config.training.seed, config.training.seed + args.n)
        for number, seed in enumerate(seeds, start=1):
            print(f"\nSeed {seed}, {number} of {args.n}", flush=True)
            options = ["--run-root", str(args.run_root), "--profile", args.profile, "--to", "Evaluator"]
            code = cli.main([*options, "--set", *args.set, f"training.seed={seed}"])
            if code not in (PUSHED, MODEL_REFUSED):
                return code
            rows[seed] = _row(RunRoot(args.run_root, config), config.name, rows.get(seed, {}))
            file.parent.mkdir(exist_ok=True)
            file.write_text(json.dumps(rows, indent=2) + "\n")
    except UserError as error:
        print(f"seeds: {error}", file=sys.stderr)
        return exit_code(error)
    _print([(str(seed), rows[seed]) for seed in seeds])
    print(f"\nStored in {file}")
    return 0


def summarize(rows: Sequence[Row]) -> dict[str, dict[str, float | None]]:
    """For each column the mean, the standard deviation, the least and the largest.

    The deviation is that of a sample (n - 1), and None for one row. A value that is not known in a row is left out.
    """
    summary: dict[str, dict[str, float | None]] = {}
    for column in COLUMNS:
        values = [value for row in rows if (value := row.get(column)) is not None]
        if values:
            deviation = statistics.stdev(values) if len(values) > 1 else None
            summary[column] = {
                "mean": statistics.fmean(values),
                "deviation": deviation,
                "least": min(values),
                "largest": max(values),
            }
    return summary


def _row(root: RunRoot, pipeline: str, before: Mapping[str, float | None]) -> Row:
    """The figures of the last run. The time of a training that came from the cache is the one stored before."""
    with quiet():
        run = root.history(pipeline).run("last")
    trainer = run.step("Trainer")
    seconds = trainer.seconds if trainer and trainer.state == "COMPLETE" else before.get("seconds")
    return {column: run.figures.get(column) for column in COLUMNS} | {"seconds": seconds}


def _print(rows: Sequence[tuple[str, Row]]) -> None:
    from pipeline.history.tables import console, table

    lines: list[dict[str, Any]] = [
        {"seed": seed, **{title: _text(column, row.get(column)) for column, title in COLUMNS.items()}}
        for seed, row in rows
    ]
    summary = summarize([row for _, row in rows])
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
    tree = config.model_dump(mode="json", exclude={"metadata": True, "notify": True, "training": {"seed"}})
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:8]


def _read(file: Path) -> dict[str, Row]:
    try:
        return json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    except ValueError:
        raise UserError(f"{file} is not what this command wrote: remove it, and the figures are read again.") from None


if __name__ == "__main__":
    sys.exit(main())
