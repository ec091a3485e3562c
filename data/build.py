"""python -m data.build: makes the pipeline's TFRecord shards, and a profile, from the files people keep pictures in.

Pictures stay in their files, or go into a scratch file: each is read when it is looked at and when it is written.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from data.days import days_problem, has_days
from data.errors import DataError, UserError, storage_problem
from data.files import write_file
from data.labels import as_known, to_classes
from data.pictures import FITS, Reading, read
from data.place import Place
from data.process import Interruption, interruptible, quiet, screens
from data.profile import check_example, class_names, command, profile
from data.readers.detect import KINDS, open_source
from data.readers.source import Images, Pixels, transposed
from data.splits import SPLITS, pattern_problem
from data.summary import Notes, Written, show
from data.survey import Track, Wish, choose, survey
from data.unfinished import unfinished


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line; `source` is the path, `kind` a key of KINDS or None."""
    parser = argparse.ArgumentParser(
        prog="python -m data.build",
        description="Write train, eval and test shards of gzipped TFRecords for the pipeline, and a profile for them."
        " SOURCE is found out; an option such as --idx says what it is.",
        epilog="Example: python -m data.build mnist.npz --out my-digits && "
        "python -m pipeline.run_local --profile my-digits/profile.toml",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("source", nargs="?", type=Path, metavar="SOURCE", help="file, folder or archive of pictures")
    for kind, what in KINDS.items():
        source.add_argument(f"--{kind}", type=Path, metavar="SOURCE", help=what)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder to create; with --day the folder of the days"
    )
    parser.add_argument(
        "--day", type=_day, metavar="DAY", help="add the day 2026-11-28, or the number 12, to the days in --out"
    )
    parser.add_argument("--replace", action="store_true", help="with --day: if it is there, add a new version of it")
    parser.add_argument("--size", type=_size, metavar="ROWSxCOLUMNS", help="resize the pictures to this")
    parser.add_argument("--fit", choices=FITS, help="how a picture comes to its size; MNIST's convention is digit")
    parser.add_argument("--levels", type=_levels, metavar="LOW,HIGH", help="the levels that become 0 and 255")
    parser.add_argument("--transpose", action="store_true", help="exchange rows and columns of each picture")
    parser.add_argument("--allow-blank", action="store_true", help="take pictures whose pixels all have one level")
    number = functools.partial(parser.add_argument, type=functools.partial(_whole, least=1), metavar="N")
    number("--classes", help="class count (default: the classes that occur)")
    number("--eval", help="examples for the eval split (default: 5000, but no more than a seventh)")
    number("--test", help="examples for the test split, where none is set apart (default: a seventh)")
    number("--shards", default=4, help="shards of the train split (default: 4)")
    number("--seed", type=_whole, help="shuffle before splitting (default: 0 where images must be shuffled)")
    args = parser.parse_args(argv)
    args.kind = next((kind for kind in KINDS if getattr(args, kind)), None)
    args.source = getattr(args, args.kind) if args.kind else args.source
    if args.replace and not args.day:
        parser.error("--replace makes a new version of a day: say which with --day")
    if has_days(args.out) and (problem := days_problem(str(args.out)) or ("" if args.day else "names days")):
        parser.error(f"--out {args.out} {problem}{'' if args.day else ': say which with --day'}")
    if args.source.is_dir() and Path(os.path.realpath(args.out.parent)).is_relative_to(os.path.realpath(args.source)):
        parser.error(
            f"--out {args.out} lies in {args.source}, where the next build would take it for a part of the data:"
            " choose a folder outside"
        )
    out = args.out.absolute()
    if not has_days(out) and (problem := pattern_problem(out)):
        parser.error(f"--out {out} {problem}: choose another folder")
    return args


def cut(parts: Mapping[str, Images], args: argparse.Namespace) -> dict[str, Images]:
    """The three splits: those that the source sets apart, and the others cut off the training images.

    Raises:
        DataError: a split that the source has was asked for, or nothing is left to train on.
    """
    train, source = parts["train"], args.source
    for split in ("eval", "test"):
        if split in parts and getattr(args, split) is not None:
            raise DataError(f"{source} sets {len(parts[split]):,} {split} images apart: leave out --{split}.")
        if split in parts and not len(parts[split]):
            raise DataError(f"{source} holds no {split} images: the model could not be judged; add some.")
    seed = args.seed
    if seed is None and ("test" not in parts or _in_runs(train.labels)):
        seed = 0
        reason = "it sets no test images apart" if "test" not in parts else "its images come class by class"
        print(f"Shuffles {source} with seed 0, because {reason}. Choose another with --seed.")
    if seed is not None:
        train = train.take(np.random.default_rng(seed).permutation(len(train)))
    splits = dict(parts)
    for split, most in (("test", len(train)), ("eval", 5000)):
        if split in parts:
            continue
        count = getattr(args, split) or max(1, min(most, len(train) // 7))
        if getattr(args, split) is None and split == "test":
            print(f"Takes a seventh, {count:,} of {len(train):,} images, for the test split. Choose with --test.")
        if len(train) <= count:
            besides = " besides the test images" if split == "eval" else ""
            raise DataError(
                f"{source} holds {len(train)} images{besides}, too few for --{split} {count} with any left to train on:"
                " choose smaller splits."
            )
        splits[split], train = train.take(slice(len(train) - count, None)), train.take(slice(0, len(train) - count))
    return {**splits, "train": train}


def _in_runs(labels: np.ndarray) -> bool:
    """Whether the examples come class by class, so that the last ones are of few classes."""
    runs, classes = 1 + np.count_nonzero(np.diff(labels)), len(np.unique(labels))
    return classes > 1 and runs < 4 * classes and 2 * runs < len(labels)


def write(
    splits: Mapping[str, Images], folder: Path, shards: int, reading: Reading, notes: Notes, track: Track
) -> dict[str, Written]:
    """Writes the shards of all splits into `folder`; returns what was seen of each.

    Raises:
        DataError: an image that cannot be read, or is blank.
    """
    with quiet():
        from data.records import write_split  # imports TensorFlow

    written = {split: Written(splits[split].labels) for split in SPLITS}

    def images(split: str, pixels: Pixels) -> Iterator[np.ndarray]:
        for position, picture in enumerate(track(pixels, len(pixels), split)):
            image, note = read(np.clip(picture, *reading.levels), reading)
            notes.see(image, note, pixels.name(position))
            written[split].see(image)
            yield image

    for split in SPLITS:
        part = splits[split]
        assert isinstance(part.pixels, Pixels)
        count = shards if split == "train" else max(1, round(shards * len(part) / len(splits["train"])))
        write_split(folder, split, images(split, part.pixels), part.labels, count)
    return written


def build(args: argparse.Namespace, place: Place, folder: Path, interruption: Interruption) -> None:
    """Fills `folder`, which becomes that of `place`, from the source, says what was done, and shows the progress."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    with tempfile.TemporaryDirectory(dir=folder, prefix="scratch") as scratch, _named(scratch, args.source) as name:
        notes = Notes(args.allow_blank, name)
        source = open_source(args.source, args.kind, Path(scratch), args.size)
        print(f"Takes {args.source} for {source.kind}.")
        if args.transpose:
            source.parts = {split: transposed(part) for split, part in source.parts.items()}
        labels = {split: part.labels for split, part in source.parts.items()}
        known = place.known
        classes = to_classes(args.source, labels, source.names, args.classes or (known.classes if known else None))
        if known:
            classes = as_known(args.source, classes, known.labels, place.profile)
        parts = {split: Images(part.pixels, classes.labels[split]) for split, part in source.parts.items()}
        bars = TextColumn("{task.description:8}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*bars) as progress:

            def track(items: Iterable[Any], total: int, what: str) -> Iterator[Any]:
                for item in progress.track(items, total, description=what):
                    interruption.check()
                    yield item

            found = survey(parts, track)
            wish = Wish(args.size, args.fit, args.levels)
            if known:
                wish = Wish((known.rows, known.columns), known.fit, known.levels)
            reading, reason = choose(found, parts["train"], classes.names, wish, args.source)
            if known:
                reading = dataclasses.replace(reading, background=known.background)
            say(reading, reason, args)
            splits = cut(parts, args)
            count = max(args.classes or 0, len(classes.names))
            names = class_names(classes.names, count)
            text = profile(place.root, reading, count, names, place.path)
            check_example(args.source, reading.size, count, names)
            written = write(splits, folder, args.shards, reading, notes, track)
        interruption.check()
        if known is None:
            write_file(text, place.profile if args.day else folder / place.profile.name)
    rows, columns = reading.size
    print(f"{place.folder}: {rows} × {columns} pixels, {count} classes.")
    show(Console(), written, names or list(map(str, range(count))), source.ignored, notes.found)


@screens()
def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code: 0 written, 1 an error, 2 a wrong command line, 130 interrupted."""
    args = parse(argv)
    try:
        place = Place(args)
        with interruptible() as interruption, unfinished(place.folder) as folder:
            build(args, place, folder, interruption)
    except UserError as error:
        print(f"data.build: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"data.build: interrupted; nothing was written to {args.out}.", file=sys.stderr)
        return 130
    except Exception as error:
        problem = storage_problem(error)
        if problem is None:
            raise
        print(f"data.build: cannot write {args.out}: {problem}. Nothing was kept.", file=sys.stderr)
        return 1
    print(f"Run it with: {command(place.root if args.day else args.out)}")
    return 0


@contextlib.contextmanager
def _named(scratch: str, source: Path) -> Iterator[Callable[[str], str]]:
    """Lets errors name the source instead of what was unpacked from it; gives the function that does so."""

    def original(text: str) -> str:
        return re.sub(rf"{re.escape(scratch)}/[^/\s]+", lambda _: str(source), text)

    try:
        yield original
    except DataError as error:
        raise DataError(original(str(error))) from None


def say(reading: Reading, reason: str, args: argparse.Namespace) -> None:
    """Says how pictures are read, and how to choose otherwise."""
    low, high = (f"{level:g}" for level in reading.levels)
    scaled = ", scaled to 0 to 255" if reading.levels != (0, 255) else ""
    print(f"Levels {low} to {high}{scaled}. Choose with --levels.")
    print(f"Fit {reason}. Choose with --fit {{{','.join(FITS)}}}.")


def _whole(text: str, least: int = 0) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of {least} or more")
    return int(text)


def _day(text: str) -> str:
    with contextlib.suppress(ValueError):
        return text if text.isdecimal() else date.fromisoformat(text).isoformat()
    raise argparse.ArgumentTypeError(f"{text!r} is no day, such as 2026-11-28 or 12")


def _size(text: str) -> tuple[int, int]:
    rows, _, columns = text.partition("x")
    if not (rows.isdecimal() and columns.isdecimal() and int(rows) and int(columns)):
        raise argparse.ArgumentTypeError(f"{text!r} is not ROWSxCOLUMNS, such as 28x28")
    return int(rows), int(columns)


def _levels(text: str) -> tuple[float, float]:
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        low = high = 0.0
    if not -np.inf < low < high < np.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not LOW,HIGH, such as 0,255")
    return low, high


if __name__ == "__main__":
    sys.exit(main())
