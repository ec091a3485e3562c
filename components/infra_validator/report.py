"""What the infra check found: written as TFX's Pusher reads it, with a report for people beside it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfx import types

_REASON = "reason"
SERVER = "server"
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
    from tfx.utils import io_utils

    failed = [str(check) for check in checks if not check.passed]
    blessed = not failed
    blessing.set_int_custom_property("blessed", int(blessed))
    blessing.set_string_custom_property(SERVER, server)
    blessing.set_string_custom_property(_REASON, "; ".join(failed)[:1000])
    lines = [
        f"# Infra check: {'blessed' if blessed else 'not blessed'}",
        "",
        f"Model server: {server}",
        "",
        "| | check | seen | expected |",
        "| --- | --- | --- | --- |",
        *(f"| {'✓' if c.passed else '✗'} | {c.name} | {c.seen} | {c.expected} |" for c in checks),
    ]
    for name, text in (("INFRA_BLESSED" if blessed else "INFRA_NOT_BLESSED", ""), (_REPORT, "\n".join(lines) + "\n")):
        io_utils.write_string_file(os.path.join(blessing.uri, name), text)
    return blessed


def read_blessing(uri: str, properties: Mapping[str, Any]) -> InfraCheck:
    """The verdict that `write_blessing` left in the custom properties of an InfraBlessing."""
    return InfraCheck(
        bool(properties.get("blessed")), properties.get(_REASON, ""), f"{uri}/{_REPORT}", properties.get(SERVER, "")
    )
