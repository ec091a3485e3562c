"""What the commands share: arguments, and errors that become sentences and exit codes."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from data.errors import SettingsError, UserError, storage_problem
from data.process import lead_nowhere
from pipeline.exit_codes import FAILED, INTERRUPTED, PUSHED, exit_code

DEFAULT = "default"
"""The profile of a command that names none."""


def add_run_root(parser: argparse.ArgumentParser) -> None:
    """Adds --run-root."""
    parser.add_argument(
        "--run-root", type=Path, default=Path("runs"), metavar="DIR", help="folder of runs and models (default: runs)"
    )


def add_settings(parser: argparse.ArgumentParser, profile: str = DEFAULT) -> None:
    """Adds --profile and --set."""
    parser.add_argument(
        "--profile", default=profile, metavar="NAME", help=f"a profile's name, or a .toml file (default: {profile})"
    )
    add_set(parser, "override, e.g. training.epochs=3")


def add_set(parser: argparse.ArgumentParser, text: str, kind: Callable[[str], str] = str) -> None:
    """Adds --set; `kind` checks each override."""
    parser.add_argument("--set", nargs="+", action="extend", default=[], type=kind, metavar="KEY=VALUE", help=text)


def add_beam(parser: argparse.ArgumentParser) -> None:
    """Adds --beam-arg."""
    text = "a Beam option, e.g. --beam-arg=--direct_num_workers=2"
    parser.add_argument("--beam-arg", action="append", default=[], metavar="ARG", help=text)


def of_file(needed: str = "") -> list[str]:
    """The arguments of a command that runs as a file. TFX's command gives it none: they are in `PIPELINE_ARGS`.

    Args:
        needed: the arguments that the command cannot do without, as an example.
    """
    text = os.environ.get("PIPELINE_ARGS", "")
    try:
        given = sys.argv[1:] or shlex.split(text)
    except ValueError as error:
        sys.exit(f"PIPELINE_ARGS = {text} cannot be split as a shell does it: {str(error).lower()}.")
    if needed and not given:
        sys.exit(f"TFX's command gives a pipeline's file no arguments: set PIPELINE_ARGS, such as '{needed}'.")
    return given


def connection_only(text: str) -> str:
    """A type of argparse: an override of `metadata.connection`, all that a command takes that reads runs."""
    if not text.strip().startswith("metadata."):
        raise argparse.ArgumentTypeError(f"{text} is a setting of a run: only metadata.connection can be set here")
    return text


def count(text: str) -> int:
    """A type of argparse: a whole number, 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} must be a whole number of at least 1")
    return int(text)


def duration(text: str) -> int:
    """A type of argparse: a time in seconds, minutes or hours, such as 75s; returns seconds."""
    found = re.fullmatch(r"([1-9]\d*)([smh])", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text} must be a time such as 75s, 20m or 1h")
    return int(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]


def refuse_several_hosts(command: str) -> None:
    """For a command that trains several times, on this host.

    Raises:
        SettingsError: TF_CONFIG is set.
    """
    if "TF_CONFIG" in os.environ:
        raise SettingsError(f"TF_CONFIG is set, but {command} trains on this host alone: unset it.")


def run_command(name: str, command: Callable[[], int], interrupted: str = "") -> int:
    """The exit code of `command`. An error that a user can correct is printed as a sentence after `name`.

    Args:
        name: of the command, as its error messages begin.
        command: returns an exit code.
        interrupted: what an interruption prints.
    """
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    try:
        return command()
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return exit_code(error)
    except KeyboardInterrupt:
        if interrupted:
            print(f"{name}: {interrupted}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader went away
        lead_nowhere(sys.stdout)
        return PUSHED
    except Exception as error:
        problem = storage_problem(error) or (isinstance(error, OSError) and error.strerror)
        if not problem:
            raise
        print(f"{name}: {getattr(error, 'filename', None) or 'the disk'}: {problem}.", file=sys.stderr)
        return FAILED
