"""What the infra check found: written as TFX's Pusher reads it, with a report for people beside it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from ml_metadata.proto import metadata_store_pb2
from tfx import types
from tfx.dsl.io import fileio

_REASON = "reason"
_SERVER = "server"
_REPORT = "report.md"


@dataclass(frozen=True)
class Check:
    """One line of the report: the property that was checked, what was seen, what was expected."""

    name: str
    seen: str
    expected: str
    passed: bool

    def __str__(self) -> str:
        return f"{self.name}: {self.seen}; expected: {self.expected}"


@dataclass(frozen=True)
class InfraCheck:
    """The verdict of the check, the server that ran it, and its report; `reason` is empty if the model was blessed."""

    blessed: bool
    reason: str
    report: str
    server: str


def write_blessing(blessing: types.Artifact, checks: Sequence[Check], server: str) -> bool:
    """Writes the verdict and the report; returns whether the model is blessed."""
    failed = [check for check in checks if not check.passed]
    blessed = not failed
    blessing.set_int_custom_property("blessed", int(blessed))
    blessing.set_string_custom_property(_SERVER, server)
    blessing.set_string_custom_property(_REASON, "; ".join(str(check) for check in failed)[:1000])
    rows = [f"| {'✓' if c.passed else '✗'} | {c.name} | {c.seen} | {c.expected} |" for c in checks]
    lines = [
        f"# Infra check: {'blessed' if blessed else 'not blessed'}",
        "",
        f"Model server: {server}",
        "",
        "| | check | seen | expected |",
        "| --- | --- | --- | --- |",
        *rows,
    ]
    _write(os.path.join(blessing.uri, "INFRA_BLESSED" if blessed else "INFRA_NOT_BLESSED"), "")
    _write(os.path.join(blessing.uri, _REPORT), "\n".join(lines) + "\n")
    return blessed


def read_blessing(blessing: metadata_store_pb2.Artifact) -> InfraCheck:
    """The verdict that `write_blessing` left in ML Metadata."""
    properties = blessing.custom_properties
    return InfraCheck(
        bool(properties["blessed"].int_value),
        properties[_REASON].string_value,
        f"{blessing.uri}/{_REPORT}",
        properties[_SERVER].string_value,
    )


def _write(path: str, text: str) -> None:
    with fileio.open(path, "w") as file:
        file.write(text)
