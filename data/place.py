"""Where data.build writes: a data folder, or one more day beside those that are there."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from data.days import has_days, new_folder, split_path
from data.errors import DataError
from data.profile import known_days

if TYPE_CHECKING:
    from data.example import ExampleSpec


class Place:
    """The folder to write, and what is known of the days before.

    Attributes:
        folder: of the shards; it must not exist.
        root: the data folder, or the folder in which the days lie.
        profile: the file of the profile.
        path: `data.path` of the profile.
        known: what an example of the days before is; None if there are none.

    Args:
        args: the command line.

    Raises:
        DataError: the day is there already, or the days have other names, or an option says another reading.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.folder = self.root = args.out
        self.path = str(self.root.absolute())
        self.known: ExampleSpec | None = None
        if args.day:
            below = "{SPAN}" if args.day.isdecimal() else "{YYYY}-{MM}-{DD}"
            if has_days(args.out):
                root, below = split_path(str(args.out))
                self.root = Path(root)
        self.profile = self.root / "profile.toml"
        if args.day:
            below = self._names(args, below)
            self.path = f"{self.root.absolute()}/{below}"
            folder, there = new_folder(self.path, args.day)
            if there and not args.replace:
                raise DataError(f"The day {args.day} is in {self.root} already: --replace adds a new version of it.")
            self.folder = Path(folder)

    def _names(self, args: argparse.Namespace, below: str) -> str:
        """How the days in `root` are named, by default as `below` says; what else is known of them is compared."""
        before = known_days(self.profile)
        if before is None:
            return below
        path, self.known = before
        if has_days(args.out) and split_path(path)[-1] != below:
            raise DataError(f"The days in {self.root} are {path}, as {self.profile} says: give this as --out.")
        given = {"size": args.size, "fit": args.fit, "levels": args.levels, "classes": args.classes}
        known = {**dict(self.known), "size": self.known.sequence_shape}
        if other := [name for name, value in given.items() if value is not None and value != known[name]]:
            raise DataError(
                f"The days in {self.root} have another --{other[0]}, as {self.profile} says: leave the option out, or"
                " build a new data set."
            )
        return split_path(path)[-1] if has_days(path) else below
