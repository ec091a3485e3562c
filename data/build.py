"""python -m data.build: makes the pipeline's TFRecord shards, and a profile, from IDX files, an .npz or class folders.

IDX files and class folders may be larger than the memory: each image is read when it is written. An .npz is held in
memory.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import glob
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from data.errors import DataError, UserError, storage_problem
from data.process import Interruption, interruptible, quiet, remove_older, screens
from data.profile import check_example, class_names, command, profile
from data.readers import Images, read_folders, read_idx_pair, read_npz
from data.splits import SPLITS, pattern_problem


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m data.build",
        description="Write train, eval and test shards of gzipped TFRecords for the pipeline, and a profile for them.",
        epilog="Example: python -m data.build --npz mnist.npz --out my-digits && "
        "python -m pipeline.run_local --profile my-digits/profile.toml",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--idx", type=Path, metavar="DIR", help="folder with the four IDX files, gzipped or not")
    source.add_argument(
        "--npz",
        type=Path,
        metavar="FILE",
        help="archive with x_train, y_train, x_test, y_test; it must fit into the memory",
    )
    source.add_argument(
        "--folder",
        type=Path,
        metavar="DIR",
        help="folder with one folder of images per class; colours become grey, transparent pixels white, 16 bits are"
        " scaled to 8, and photographs are turned upright",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to create; it must not exist")
    parser.add_argument("--size", type=_size, metavar="ROWSxCOLUMNS", help="resize the images of --folder to this")
    number = functools.partial(parser.add_argument, type=functools.partial(_whole, least=1), metavar="N")
    number("--classes", help="class count (default: largest label + 1)")
    number("--eval", default=5000, help="examples for the eval split (default: 5000)")
    number("--test", help="examples for the test split; only --folder needs it, where none is set apart")
    number("--shards", default=4, help="shards of the train split (default: 4)")
    number("--seed", type=_whole, help="shuffle before splitting; without it the tail becomes eval, unshuffled")
    args = parser.parse_args(argv)
    if args.size and not args.folder:
        parser.error("--size goes with --folder: IDX and .npz images already have one size")
    if args.folder and args.test is None:
        parser.error("--folder needs --test N: a folder sets no test images apart")
    if args.folder and args.seed is None:
        parser.error("--folder needs --seed N: the images come class by class and must be shuffled")
    if args.test is not None and not args.folder:
        parser.error("--test goes with --folder: IDX and .npz data bring their own test images")
    if args.folder and Path(os.path.realpath(args.out.parent)).is_relative_to(os.path.realpath(args.folder)):
        parser.error(
            f"--out {args.out} lies in --folder {args.folder}, where the next build would take it for a class:"
            " choose a folder outside"
        )
    if problem := pattern_problem(args.out.absolute()):
        parser.error(f"--out {args.out.absolute()} {problem}: choose another folder")
    return args


def split(args: argparse.Namespace, scratch: Path) -> tuple[dict[str, Images], int, list[str]]:
    """Opens the source and cuts it into the three splits; returns them, the class count and the folders' names.

    Gzipped files are unpacked into nameless files in the folder `scratch`. The names are those of --folder, in label
    order; other sources have none.

    Raises:
        DataError: what the readers raise, a label out of range, one class only, or split sizes that leave nothing.
    """
    names: list[str] = []
    if args.folder:
        images, names = read_folders(args.folder, args.size)
        images = _shuffled(images, args.seed)
        train, test = images.take(slice(0, -args.test)), images.take(slice(-args.test, None))
    else:
        if args.idx:
            train, test = (read_idx_pair(args.idx, prefix, scratch) for prefix in ("train", "t10k"))
        else:
            train, test = read_npz(args.npz)
        if args.seed is not None:
            train = _shuffled(train, args.seed)
    source = args.idx or args.npz or args.folder
    if len(train) <= args.eval:
        raise DataError(
            f"{source} holds {len(train)} images besides the test images, too few for --eval {args.eval}"
            " with any left to train on: choose smaller splits."
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
    if classes < 2:
        raise DataError(f"{source} holds one class only, so there is nothing to distinguish: add another class.")
    cut = len(train) - args.eval
    return {"train": train.take(slice(0, cut)), "eval": train.take(slice(cut, None)), "test": test}, classes, names


@contextlib.contextmanager
def unfinished(out: Path) -> Iterator[Path]:
    """A new folder beside `out`. At the end it is renamed to `out`, which is never incomplete; an error removes it.

    Such folders of builds that were killed are removed when they are a day old.

    Raises:
        DataError: `out` is there, or cannot be created.
    """
    if os.path.lexists(out):
        what = "exists already" if out.exists() else "is a link to nothing"
        raise DataError(f"{out} {what}: remove it or choose another --out.")
    with contextlib.suppress(OSError):
        remove_older(out.parent, f".{glob.escape(out.name)}.unfinished-????????", seconds=24 * 60 * 60)
    created = [parent for parent in out.parents if not os.path.lexists(parent)]
    folder: Path | None = None
    try:
        with _creating(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.unfinished-", dir=out.parent))
        yield folder
        with _creating(out):
            folder.chmod(0o755)
            folder.rename(out)
    except BaseException:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        for parent in created:
            with contextlib.suppress(OSError):  # another process may use it now
                parent.rmdir()
        raise


@contextlib.contextmanager
def _creating(out: Path) -> Iterator[None]:
    """Turns an error of the system into a sentence, unless `storage_problem` has one."""
    try:
        yield
    except OSError as error:
        if storage_problem(error):
            raise
        raise DataError(f"{out} cannot be created ({error.strerror}): choose another --out.") from error


def write(splits: dict[str, Images], folder: Path, shards: int, interruption: Interruption) -> None:
    """Writes the shards of all splits into `folder`, and shows the progress.

    Raises:
        DataError: an image that cannot be read, or of another size.
        KeyboardInterrupt: a signal has arrived.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    with quiet():
        from data.records import write_split  # imports TensorFlow

    def heeding(pixels: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for image in pixels:
            interruption.check()
            yield image

    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    ) as progress:
        for name, images in splits.items():
            count = shards if name == "train" else max(1, round(shards * len(images) / len(splits["train"])))
            pixels = progress.track(heeding(images.pixels), len(images), description=f"{name:5}")
            write_split(folder, name, pixels, images.labels, count)


@screens()
def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code: 0 written, 1 an error, 2 a wrong command line, 130 interrupted."""
    args = parse(argv)
    try:
        with interruptible() as interruption, unfinished(args.out) as folder:
            splits, classes, folders = split(args, folder)
            _, rows, columns = splits["train"].pixels.shape
            names = class_names(folders, classes)
            text = profile(args.out, (rows, columns), classes, names)
            check_example(args.idx or args.npz or args.folder, (rows, columns), classes, names)
            (folder / "profile.toml").write_bytes(text)
            write(splits, folder, args.shards, interruption)
            interruption.check()
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
    sizes = ", ".join(f"{len(splits[name])} {name}" for name in SPLITS)
    print(f"{args.out}: {sizes}; {rows} × {columns} pixels, {classes} classes.")
    if folders and classes > len(folders):
        print(
            f"{args.folder} has {len(folders)} folders for {classes} classes. The others have a number for a name. The"
            " data gate refuses classes without examples, unless validation.min_class_examples is 0 in the profile."
        )
    print(f"Run it with: {command(args.out)}")
    return 0


def _shuffled(images: Images, seed: int) -> Images:
    return images.take(np.random.default_rng(seed).permutation(len(images)))


def _whole(text: str, least: int = 0) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of {least} or more")
    return int(text)


def _size(text: str) -> tuple[int, int]:
    rows, _, columns = text.partition("x")
    if not (rows.isdecimal() and columns.isdecimal() and int(rows) and int(columns)):
        raise argparse.ArgumentTypeError(f"{text!r} is not ROWSxCOLUMNS, such as 28x28")
    return int(rows), int(columns)


if __name__ == "__main__":
    sys.exit(main())
