"""Arguments that several commands have."""

from __future__ import annotations

import argparse
import os

from data.errors import SettingsError


def add_settings(parser: argparse.ArgumentParser, profile: str = "default") -> None:
    """Adds --profile and --set."""
    parser.add_argument("--profile", default=profile, metavar="NAME", help="a profile's name, or a .toml file")
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="override, e.g. training.epochs=3"
    )


def refuse_several_hosts(command: str) -> None:
    """For a command that trains several times, on this host.

    Raises:
        SettingsError: TF_CONFIG is set.
    """
    if "TF_CONFIG" in os.environ:
        raise SettingsError(f"TF_CONFIG is set, but {command} trains on this host alone: unset it.")


def count(text: str) -> int:
    """A type of argparse: a whole number, 1 or more."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not 1 or more")
    return number
