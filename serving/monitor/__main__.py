"""`python -m serving.monitor`: says whether a served model still reads what it was trained on, and how good it is."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from data.errors import UserError, storage_problem
from data.files import write_file
from data.process import screens
from serving.arguments import parse_share
from serving.errors import ServingError

AS_TRAINED, FAILED, RETRAIN, INTERRUPTED = 0, 1, 5, 130
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command. The exit code is one of those above, or 2 for a wrong command line."""
    options = _parser().parse_args(arguments)
    with screens():
        return _run(options)


def _run(options: argparse.Namespace) -> int:
    problem, content = "", dict[str, Any]()
    try:
        code, content, problem = _watch(options)
    except (UserError, ServingError) as error:
        code, problem = FAILED, str(error)
    except ModuleNotFoundError as error:
        code, problem = FAILED, f"{error}. The monitor needs the extra [monitor]: pip install '.[monitor]'."
    except OSError as error:
        code, problem = FAILED, f"{error.filename or 'A file'}: {error.strerror}."
    except KeyboardInterrupt:
        return INTERRUPTED
    if problem:
        print(f"monitor: {problem}", file=sys.stderr)
    if options.notify:
        from data.notify import notify

        said = {"log": str(options.log), "exit_code": code, "error": problem, "versions": [], **content}
        if undelivered := notify(options.notify, said):
            print(f"monitor: the notification was not delivered: {undelivered}.", file=sys.stderr)
    return code


def _watch(options: argparse.Namespace) -> tuple[int, dict[str, Any], str]:
    """The exit code, what was found, and why a newest version has no verdict."""
    from serving.monitor.labels import read_labels
    from serving.monitor.metrics import metrics
    from serving.monitor.watch import Versions, newest, watch
    from serving.monitor.words import as_json, sentences, title

    since = options.since
    labels = read_labels(options.labels) if options.labels else None
    found = watch(options.log, Versions(options.model), since, labels, options.drop)
    problem = " ".join(watched.missing for watched in newest(found) if watched.missing)
    retrain = any(watched.verdict and watched.verdict.word == "retrain" for watched in newest(found))
    code = RETRAIN if retrain else FAILED if problem else AS_TRAINED
    content = {"since": since and since.isoformat(timespec="seconds"), "exit_code": code}
    content |= {"versions": [as_json(watched) for watched in found]}
    if options.json:
        print(json.dumps(content, ensure_ascii=False))
    else:
        if not found:
            print(f"Too few: {options.log} has no answers{f' since {since:%Y-%m-%d %H:%M} UTC' if since else ''}.")
        for watched in found:
            print(f"{title(watched)}: {watched.answers:,} answers")
            print(*(f"  {line}" for line in sentences(watched, options.drop)), sep="\n")
    if options.metrics:
        _write(metrics(found), options.metrics)
    if options.output:
        from serving.monitor.page import page

        # It shows inputs of users, as the log does.
        _write(page(found, options.log, since, options.drop), options.output, mode=0o600)
    return code, content, problem


def _write(text: str, path: Path, mode: int = 0o666) -> None:
    try:
        write_file(text, path, mode)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {storage_problem(error) or error.strerror}.") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serving.monitor",
        description="Compare what a model server has answered with the held-out reference of its version.",
        epilog="exit codes: 0 no reason to train again, 5 train again, 1 an error, 2 a wrong command line. The newest"
        " version in the log decides.",
    )
    parser.add_argument(
        "log", type=Path, metavar="LOG", help="of python -m serving.request_log, or Parquet of pipeline.predict"
    )
    parser.add_argument(
        "--since", type=_since, metavar="AGE", help="such as 24h, 90m or 7d, or a time in ISO 8601 (default: all)"
    )
    parser.add_argument(
        "--model",
        type=Path,
        metavar="DIR",
        help="the folder of a model's versions, or one version (default: runs/serving_models/NAME for a NAME in LOG)",
    )
    parser.add_argument(
        "--drop",
        type=parse_share,
        default=0.005,
        metavar="SHARE",
        help="of the accuracy, from which on a change is a reason to train again (default %(default)s)",
    )
    parser.add_argument("--labels", type=Path, metavar="FILE", help="true labels: CSV or Parquet with id and label")
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write a page, one HTML file")
    parser.add_argument("--metrics", type=Path, metavar="FILE", help="write Prometheus' text format")
    parser.add_argument("--notify", metavar="URL", help="POST what was found as JSON, as notify.url of the runs does")
    return parser


def _since(text: str) -> datetime:
    if age := re.fullmatch(r"(\d{1,4})([mhd])", text):
        return datetime.now(UTC) - timedelta(**{_UNITS[age[2]]: int(age[1])})
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is neither an age, such as 24h, nor a time in ISO 8601") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


if __name__ == "__main__":
    sys.exit(main())
