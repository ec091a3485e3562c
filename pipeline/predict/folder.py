"""The folder that a batch prediction fills: one file for each shard, complete or not there, and a record of the job."""

from __future__ import annotations

import csv
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from data.errors import UserError
from data.pictures import Reading
from pipeline.predict.inputs import Input, Shard
from pipeline.predict.outputs import FORMATS, Columns

RECORD, LOG = "_job.json", "_job.log"
"""Names in the folder. Readers of Parquet leave out what begins with `_`."""
_DONE, _ERRORS, _UNFINISHED, _SCRATCH = "_done", "_errors-", ".unfinished-", ".scratch"


class Served(NamedTuple):
    """What is known of a model: its folder, version, id and class names, and how it reads pictures."""

    folder: str
    version: int | None
    model_id: str | None
    classes: tuple[str, ...]
    reading: Reading | None


class Job(NamedTuple):
    """All that a worker must know."""

    input: Input
    model: Served
    out: str
    format: str
    labelled: bool

    @property
    def scratch(self) -> str:
        return str(Path(self.out, _SCRATCH))

    def path(self, shard: Shard) -> Path:
        return Path(self.out, shard.name + FORMATS[self.format][0])

    def errors(self, shard: Shard) -> Path:
        return Path(self.out, f"{_ERRORS}{shard.name}.csv")

    def done(self, shard: Shard) -> Path:
        return Path(self.out, _DONE, f"{shard.name}.json")

    def is_finished(self, shard: Shard) -> bool:
        return self.path(shard).is_file() and self.done(shard).is_file()


class Counts(NamedTuple):
    """Of one shard, or of several: inputs that were predicted, that could not be read, and files that are cut off."""

    predicted: int = 0
    bad: int = 0
    cut: int = 0

    def plus(self, other: Counts) -> Counts:
        return Counts(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


def counts(job: Job, shards: Iterable[Shard]) -> Counts:
    """Of the shards that are finished."""
    total = Counts()
    for shard in filter(job.is_finished, shards):
        total = total.plus(Counts(**json.loads(job.done(shard).read_text())))
    return total


class Unfinished:
    """The output of a shard, under another name until `finish`."""

    def __init__(self, job: Job, shard: Shard) -> None:
        self._job, self.shard, self._counts = job, shard, Counts()
        self._path = Path(job.out, f"{_UNFINISHED}{uuid.uuid4().hex}")
        self._errors = self._path.with_name(f"{self._path.name}-errors")
        _, writer = FORMATS[job.format]
        self._writer = writer(self._path, job.model.classes, job.model.version, job.labelled)

    def add(self, found: Columns, errors: list[tuple[str, str]], cut: bool) -> None:
        """Adds the predictions of a batch, and the ids and reasons of what has none."""
        self._writer.write(found)
        if errors:
            begun = self._errors.exists()
            with self._errors.open("a", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows(errors if begun else [("id", "reason"), *errors])
        self._counts = self._counts.plus(Counts(len(found.ids), len(errors) - cut, int(cut)))

    def finish(self) -> None:
        self._writer.close()
        if self._errors.exists():
            self._errors.rename(self._job.errors(self.shard))
        _replace(self._job.done(self.shard), json.dumps(self._counts._asdict()))
        self._path.rename(self._job.path(self.shard))


@contextmanager
def filled(out: Path, resume: bool) -> Iterator[None]:
    """Makes the folder. At the end nothing incomplete is left in it, and no folder if no job was begun.

    Raises:
        UserError: it has files, and its job is not to be resumed; or it is no folder.
    """
    if os.path.lexists(out) and not out.is_dir():
        raise UserError(f"{out} is no folder: choose another one with -o.")
    if out.is_dir() and any(out.iterdir()) and not resume:
        raise UserError(f"{out} is not empty: choose another folder with -o, or go on with its job by --resume.")
    out.mkdir(parents=True, exist_ok=True)
    _tidy(out)
    try:
        yield
    finally:
        _tidy(out)
        if not (out / RECORD).exists():
            (out / LOG).unlink(missing_ok=True)
            if not any(out.iterdir()):
                out.rmdir()


def _tidy(out: Path) -> None:
    for path in out.glob(f"{_UNFINISHED}*"):
        path.unlink(missing_ok=True)
    shutil.rmtree(out / _SCRATCH, ignore_errors=True)


def begin(job: Job) -> None:
    """Records which model reads which input; a job that is resumed is compared with its record.

    Raises:
        UserError: the model, the input or the format is another one.
    """
    path = Path(job.out, RECORD)
    new: dict[str, Any] = {
        "model": job.model.folder,
        "version": job.model.version,
        "model_id": job.model.model_id,
        "input": [str(Path(job.input.root, name)) for name in job.input.names or ("",)],
        "input_digest": job.input.digest(),
        "format": job.format,
    }
    old = json.loads(path.read_text()) if path.is_file() else new
    anew = "or begin anew in another folder"
    if (old["model_id"], old["version"]) != (new["model_id"], new["version"]):
        raise UserError(
            f"{job.out} was begun with the model in {old['model']}, and this is the one in {new['model']}: name the"
            f" first with --model, {anew}."
        )
    if old["input"] != new["input"]:
        raise UserError(f"{job.out} was begun with the input {' '.join(old['input'])}: name that one, {anew}.")
    if old["input_digest"] != new["input_digest"]:
        raise UserError(
            f"The files of the input {' '.join(old['input'])} have changed since {job.out} was begun: begin anew in"
            " another folder."
        )
    if old["format"] != new["format"]:
        raise UserError(f"{job.out} was begun with --format {old['format']}: choose that one, {anew}.")
    Path(job.out, _DONE).mkdir(exist_ok=True)
    _replace(path, json.dumps(new, indent=1, ensure_ascii=False) + "\n")


def _replace(path: Path, text: str) -> None:
    new = path.parent / f"{_UNFINISHED}{uuid.uuid4().hex}"
    new.write_text(text, encoding="utf-8")
    new.rename(path)
