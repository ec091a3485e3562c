"""The command verify: whether a version is what was signed."""

from __future__ import annotations

import argparse

from rich.console import Console

from data.signature import public_key, verify
from pipeline.history.lineage import find_version
from pipeline.runs.records import Json
from pipeline.runs.root import RunRoot


def verify_version(args: argparse.Namespace, root: RunRoot) -> Json:
    """Checks the signature of a version; ML Metadata is not needed.

    Raises:
        UserError: no such version, no P-256 key, or what `data.signature.verify` raises.
    """
    key = public_key(args.key)
    folder = find_version(args.version, root, ())
    return {"path": str(folder), "key": key.fingerprint, "files": verify(folder, key)}


def print_verified(console: Console, found: Json) -> None:
    console.print(f"{found['path']}: signed with the key {found['key'][:16]}…, {found['files']} files, all unchanged.")
