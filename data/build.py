"""python -m data.build: makes the pipeline's TFRecord shards from IDX files, an .npz or class folders."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

from data.errors import DataError, UserError
from data.readers import Images, read_folders, read_idx_pair, read_npz
from data.splits import SPLITS
from data.storage import storage_problem


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m data.build",
        description="Write train, eval and test shards of gzipped TFRecords for the pipeline.",
        epilog="Example: python -m data.build --npz mnist.npz --out my-digits && "
        "python -m pipeline.run_local --set data.path=my-digits",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--idx", type=Path, metavar="DIR", help="folder with the four IDX files, gzipped or not")
    source.add_argument("--npz", type=Path, metavar="FILE", help="archive with x_train, y_train, x_test, y_test")
    source.add_argument("--folder", type=Path, metavar="DIR", help="folder with one folder of images per class")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to create; it must not exist")
    parser.add_argument("--size", type=_size, metavar="ROWSxCOLUMNS", help="resize the images of --folder to this")
    parser.add_argument("--classes", type=_positive, metavar="N", help="class count (default: largest label + 1)")
    parser.add_argument(
        "--eval", type=_positive, metavar="N", default=5000, help="examples for the eval split (default: 5000)"
    )
    parser.add_argument(
        "--test",
        type=_positive,
        metavar="N",
        help="examples for the test split; only --folder needs it, where none is set apart",
    )
    parser.add_argument(
        "--shards", type=_positive, metavar="N", default=4, help="shards of the train split (default: 4)"
    )
    parser.add_argument(
        "--seed", type=int, metavar="N", help="shuffle before splitting; without it the tail becomes eval, unshuffled"
    )
    args = parser.parse_args(argv)
    if args.size and not args.folder:
        parser.error("--size goes with --folder: IDX and .npz images already have one size")
    if args.folder and args.test is None:
        parser.error("--folder needs --test N: a folder sets no test images apart")
    if args.folder and args.seed is None:
        parser.error("--folder needs --seed N: the images come class by class and must be shuffled")
    if args.test is not None and not args.folder:
        parser.error("--test goes with --folder: IDX and .npz data bring their own test images")
    return args


def split(args: argparse.Namespace) -> tuple[dict[str, Images], int]:
    """Reads the source and cuts it into the three splits; returns them with the class count.

    Raises:
        DataError: what the readers raise, a label out of range, or split sizes that leave nothing.
    """
    names: list[str] = []
    if args.folder:
        images, names = read_folders(args.folder, args.size)
        images = _shuffled(images, args.seed)
        if len(images) <= args.test + args.eval:
            raise DataError(
                f"{args.folder} holds {len(images)} images, too few for --test {args.test} and --eval {args.eval}"
                " with any left to train on: choose smaller splits."
            )
        train, test = images.take(slice(0, -args.test)), images.take(slice(-args.test, None))
    else:
        train, test = (
            (read_idx_pair(args.idx, "train"), read_idx_pair(args.idx, "t10k")) if args.idx else read_npz(args.npz)
        )
        if args.seed is not None:
            train = _shuffled(train, args.seed)
    source = args.idx or args.npz or args.folder
    if len(train) <= args.eval:
        raise DataError(
            f"{source} holds {len(train)} training images, too few for --eval {args.eval}"
            " with any left to train on: choose a smaller --eval."
        )
    if not len(test):
        raise DataError(f"{source} holds no test images: the model could not be judged; add some.")
    if train.pixels.shape[1:] != test.pixels.shape[1:]:
        raise DataError(
            f"{source}: training images are {train.pixels.shape[1:]}, test images {test.pixels.shape[1:]} (rows,"
            " columns): both must have one size."
        )
    classes = args.classes or (len(names) if names else 1 + int(train.labels.max()))
    for name, images in (("training", train), ("test", test)):
        wrong = np.flatnonzero((images.labels < 0) | (images.labels >= classes))
        if len(wrong):
            raise DataError(
                f"{source}: label {images.labels[wrong[0]]} of {name} example {wrong[0]} is outside 0 … {classes - 1}:"
                " correct it, or say how many classes there are with --classes."
            )
    cut = len(train) - args.eval
    return {"train": train.take(slice(0, cut)), "eval": train.take(slice(cut, None)), "test": test}, classes


def write(splits: dict[str, Images], out: Path, shards: int) -> None:
    """Writes all shards beside `out` and renames the finished folder, so `out` is never incomplete."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from data.records import write_split

    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{out.name}.unfinished-", dir=out.parent))
    try:
        with Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        ) as progress:
            for name in SPLITS:
                task = progress.add_task(f"{name:5}", total=len(splits[name]))
                write_split(
                    unfinished,
                    name,
                    splits[name].pixels,
                    splits[name].labels,
                    shards if name == "train" else max(1, round(shards * len(splits[name]) / len(splits["train"]))),
                    lambda task=task: progress.advance(task),  # type: ignore[misc]
                )
        unfinished.chmod(0o755)
        unfinished.rename(out)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code: 0 written, 1 an error, 2 a wrong command line, 130 interrupted."""
    args = parse(argv)
    try:
        if args.out.exists():
            raise DataError(f"{args.out} exists already: remove it or choose another --out.")
        splits, classes = split(args)
        write(splits, args.out, args.shards)
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
    rows, columns = splits["train"].pixels.shape[1:]
    sizes = ", ".join(f"{len(splits[name])} {name}" for name in SPLITS)
    print(f"{args.out}: {sizes}; {rows} × {columns} pixels, {classes} classes.")
    if (rows, columns, classes) != (28, 28, 10):
        print(f"Run it with --set data.path={args.out} data.rows={rows} data.columns={columns} data.classes={classes}")
    return 0


def _shuffled(images: Images, seed: int) -> Images:
    return images.take(np.random.default_rng(seed).permutation(len(images)))


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def _size(text: str) -> tuple[int, int]:
    rows, _, columns = text.partition("x")
    if not (rows.isdecimal() and columns.isdecimal() and int(rows) and int(columns)):
        raise argparse.ArgumentTypeError(f"{text!r} is not ROWSxCOLUMNS, such as 28x28")
    return int(rows), int(columns)


if __name__ == "__main__":
    sys.exit(main())
