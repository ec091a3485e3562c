"""python -m serving.admit: copies the versions that a key has signed to where a model server looks for them.

TensorFlow Serving verifies no signature. With this beside it, in a folder of its own, it sees no other versions.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import threading
import uuid
from collections.abc import Sequence
from pathlib import Path

from data.errors import SettingsError
from data.signature import PublicKey, SignatureError, public_key, verify
from serving.arguments import parse_positive
from serving.model_server.base_path import complete_versions

_COPYING = ".copying-"


class Admission:
    """From the versions in `source/MODEL` to those in `target/MODEL`. A server may read the target at any time."""

    def __init__(self, source: Path, target: Path, key: PublicKey) -> None:
        self._source, self._target, self._key = source, target, key
        self._refused: dict[Path, float] = {}

    def poll(self) -> None:
        """Admits the versions that are new and signed, and removes those that are gone from the source.

        Raises:
            OSError: the source cannot be read, or the target cannot be written.
        """
        for base in sorted(folder for folder in self._source.iterdir() if folder.is_dir()):
            target = self._target / base.name
            target.mkdir(parents=True, exist_ok=True)
            for unfinished in target.glob(f"{_COPYING}*"):
                shutil.rmtree(unfinished)
            found, there = complete_versions(base), complete_versions(target)
            for number in sorted(found.keys() - there.keys()):
                self._admit(found[number], target)
            for number in there.keys() - found.keys():
                shutil.rmtree(there[number])
                print(f"Removed {base.name} version {number}.", flush=True)

    def _admit(self, version: Path, target: Path) -> None:
        changed = max(path.stat().st_ctime for path in (version, *version.rglob("*")))
        if self._refused.get(version) == changed:
            return
        copy = target / f"{_COPYING}{uuid.uuid4().hex}"
        try:
            shutil.copytree(version, copy, symlinks=True)
            verify(copy, self._key)  # what was copied is what is served
        except SignatureError as error:
            shutil.rmtree(copy)
            self._refused[version] = changed
            print(f"Refused {target.name} version {version.name}: {error}".replace(str(copy), str(version)), flush=True)
            return
        copy.rename(target / version.name)
        print(f"Admitted {target.name} version {version.name}.", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs until SIGTERM or SIGINT; the exit code is then 0, and 1 for an error."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.admit",
        description="Copy the versions that a key has signed to where a model server looks for them, and go on.",
    )
    parser.add_argument("source", type=Path, metavar="SOURCE", help="folder with one folder per model")
    parser.add_argument("target", type=Path, metavar="TARGET", help="folder that the server reads")
    parser.add_argument("--verify_key", type=Path, required=True, metavar="PEM", help="the public key")
    parser.add_argument(
        "--poll_wait_seconds",
        type=parse_positive,
        default=10.0,
        metavar="SECONDS",
        help="time between two looks for new versions (default %(default)s)",
    )
    options = parser.parse_args(arguments)
    end = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: end.set())
    try:
        admission = Admission(options.source, options.target, public_key(options.verify_key))
        while True:
            admission.poll()
            if end.wait(options.poll_wait_seconds):
                return 0
    except ModuleNotFoundError as error:
        print(f"error: {error}. Verifying needs the extra [server]: pip install '.[server]'.", file=sys.stderr)
    except SettingsError as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        print(f"error: {error.filename or options.target}: {error.strerror}.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
