"""One batch prediction: what is read and with which model, the job with its progress, and how it ended."""

from __future__ import annotations

import argparse
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data.errors import UserError, causes, storage_problem
from data.process import interruptible
from pipeline.config import Config
from pipeline.engines.problems import check_job_server, engine_problem, job_problem
from pipeline.engines.settings import pipeline_args
from pipeline.exit_codes import FAILED, INTERRUPTED, PUSHED, exit_code
from pipeline.predict import inputs, job
from pipeline.predict.folder import LOG, Job, Served, begin, counts
from pipeline.predict.inputs import Input, Shard
from pipeline.predict.model import describe

_SHOWN = 5


def run(args: argparse.Namespace, config: Config, folder: Path, found: Input, console: Console) -> int:
    """Predicts and says how it ended; returns the exit code."""
    done = Job(found, Served("", None, None, (), None), str(args.out), args.format, False)
    shards: list[Shard] = []
    started = 0.0
    try:
        with interruptible() as interruption:
            done, shards = plan(args, folder, found, console)
            begin(done)
            open_ = [shard for shard in shards if not done.is_finished(shard)]
            if len(open_) < len(shards):
                console.print(f"{len(shards) - len(open_):,} of {len(shards):,} shards are finished already.")
            check_job_server(config.beam)
            started = time.monotonic()
            with _progress(done, shards, console):
                if open_:
                    job.run(done, open_, pipeline_args(config.beam), interruption)
    except KeyboardInterrupt:
        complete = sum(map(done.is_finished, shards))
        console.print(f"Interrupted: {complete:,} of {len(shards):,} shards are in {args.out}. --resume goes on.")
        return INTERRUPTED
    except Exception as error:
        logging.getLogger(__name__).exception("The prediction failed.")
        console.print(f"predict: {_explain(error, config, args.out)}", style="red")
        return exit_code(error)
    return _end(args, done, shards, time.monotonic() - started, console)


def plan(args: argparse.Namespace, folder: Path, found: Input, console: Console) -> tuple[Job, list[Shard]]:
    """Loads the model, and finds out what the input is.

    Raises:
        UserError: the model or the input cannot be used.
    """
    served, model = describe(folder)
    records = inputs.first_records(found)
    if any(map(model.accepts, records)):
        console.print(f"Takes {_named(args.input)} for TFRecords of the model's examples.")
        labelled = any(map(inputs.has_label, records))
        return Job(found, served, str(args.out), args.format, labelled), inputs.shards_of_records(found)
    if served.reading is None:
        raise UserError(f"The model in {folder} does not say how it reads pictures: give it TFRecords of its examples.")
    job_ = Job(found, served, str(args.out), args.format, False)
    pictures = inputs.open_pictures(found, job_.scratch, served.classes)
    console.print(f"Takes {_named(args.input)} for {pictures.kind}: {len(pictures):,} inputs.")
    if pictures.unknown:
        console.print(
            f"Leaves the labels out, as the model has no class {_named(pictures.unknown)}: {_named(served.classes)}."
        )
    reading = inputs.unit(pictures, served.reading)
    if reading != served.reading:
        low, high = (f"{level:g}" for level in reading.levels)
        console.print(f"Levels {low} to {high}, scaled to those of the training.")
    job_ = job_._replace(model=served._replace(reading=reading), labelled=pictures.labelled)
    return job_, inputs.shards_of_pictures(len(pictures))


def _named(given: Sequence[str]) -> str:
    return ", ".join(given[:_SHOWN]) + (f" and {len(given) - _SHOWN:,} more" if len(given) > _SHOWN else "")


@contextmanager
def _progress(done: Job, shards: list[Shard], console: Console) -> Iterator[None]:
    """On a terminal, a bar of the finished shards, and how many inputs this process has predicted."""
    columns = TextColumn("shards"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}")
    if not console.is_terminal:
        yield
        return
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True, redirect_stdout=False) as bar:
        task, ended = bar.add_task("", total=len(shards)), threading.Event()

        def watch() -> None:
            while not ended.wait(0.5):
                here = f"{job.Here.predicted:,} inputs" if job.Here.predicted else ""
                bar.update(task, completed=sum(map(done.is_finished, shards)), description=here)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()


def _end(args: argparse.Namespace, done: Job, shards: list[Shard], seconds: float, console: Console) -> int:
    total = counts(done, shards)
    here = f", {job.Here.predicted / seconds:,.0f} a second" if job.Here.predicted and seconds else ""
    console.print(f"Predicted {total.predicted:,} inputs in {seconds:.1f} s{here}: {args.out}")
    code = PUSHED
    if total.bad:
        limit, percent = args.max_bad
        allowed = limit / 100 * (total.predicted + total.bad) if percent else limit
        places = ", ".join(str(done.errors(shard)) for shard in shards if done.errors(shard).exists())
        console.print(f"{total.bad:,} inputs could not be read: {places}")
        if total.bad > allowed:
            shown = f"{limit:g}{' %' if percent else ''}"
            console.print(f"predict: these are more than --max-bad allows, {shown}: correct them.", style="red")
            code = FAILED
    if total.cut:
        names = _named([shard.file for shard in shards if counts(done, [shard]).cut])
        console.print(
            f"predict: the rest of damaged files is not predicted: {names}. Fetch them again, and begin anew.",
            style="red",
        )
        code = FAILED
    return code


def _explain(error: BaseException, config: Config, out: Path) -> str:
    for cause in causes(error):
        if isinstance(cause, UserError):
            return str(cause)
    if config.beam.job_server and (problem := engine_problem(error) or job_problem(error)):
        return f"{problem}. The full error is in {out / LOG}; --resume goes on."
    if problem := storage_problem(error):
        return f"{out}: {problem}; --resume goes on."
    lines = [line for line in str(error).strip().splitlines() if line.strip()] or [""]
    last = lines[-1] if "Traceback" in str(error) else lines[0]
    return f"{type(error).__name__}: {last[:300]}\nThe full error is in {out / LOG}; --resume goes on."
