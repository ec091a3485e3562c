"""Days: data folders that arrive one after the other, found by a path in the language of TFX's spans.

A path such as `digits/{YYYY}-{MM}-{DD}` or `digits/{SPAN}/v{VERSION}` names a folder of shards for each day. The
numbered folders in a day's folder are its later versions, if the path has no {VERSION}. Readable without TFX.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from typing import NamedTuple

from data.errors import DataError
from data.files import file_system
from data.splits import IncompleteError, check_shards, is_shard, pattern_problem

_SPEC = re.compile(r"\{([^{}]*)\}")
_DATE = ("YYYY", "MM", "DD")
_EPOCH = date(1970, 1, 1)


class Day(NamedTuple):
    """One version of a day: its number, its version, its name, and its folder of shards.

    `span` counts the days since 1970-01-01, as TFX does, or is the number in the path. Version 0 has no number.
    """

    span: int
    version: int
    name: str
    path: str

    @property
    def label(self) -> str:
        """Such as 2026-11-28, or 2026-11-28/2 for its second version."""
        return f"{self.name}/{self.version}" if self.version else self.name


class Window(NamedTuple):
    """The chosen days, oldest first, and a sentence for each newer one that is left out."""

    days: list[Day]
    left_out: list[str]


def has_days(path: object) -> bool:
    """Whether a data path names days, and not one folder."""
    return "{" in str(path)


def days_problem(path: str) -> str:
    """What is wrong with a path that names days; empty if nothing is."""
    names = []
    for spec in _SPEC.findall(path):
        name, colon, width = spec.partition(":")
        if name not in (*_DATE, "SPAN", "VERSION") or (colon and name in _DATE):
            return f"knows no {{{spec}}}: use {{SPAN}}, or {{YYYY}}, {{MM}} and {{DD}}, and {{VERSION}} below"
        if colon and not (width.isdecimal() and int(width)):
            return f"has {{{spec}}}, whose width is no number of digits, as in {{{name}:4}}"
        names.append(name)
    if "{" in _SPEC.sub("", path) or "}" in _SPEC.sub("", path):
        return "has a brace without its partner"
    dates = [name for name in names if name in _DATE]
    if len(set(names)) < len(names):
        return "names a part twice"
    if ("SPAN" in names) == bool(dates):
        return "must name a day by {SPAN}, or by {YYYY}, {MM} and {DD}"
    if dates and len(dates) < 3:
        return "must have all of {YYYY}, {MM} and {DD}"
    if "VERSION" in names and names[-1] != "VERSION":
        return "must have {VERSION} below the day"
    return pattern_problem(_SPEC.sub("", path))


def find_window(path: str, count: int) -> Window:
    """The newest `count` days that exist and are complete, each with its newest complete version.

    Args:
        path: of a pattern that names days.

    Raises:
        DataError: there is no such day, two folders are the same day, or a shard cannot be read.
    """
    days: list[Day] = []
    left_out: list[str] = []
    found = _by_span(path)
    for span in sorted(found, reverse=True):
        if len(days) == count:
            break
        for day in sorted(_versions(path, found[span]), reverse=True):
            if not file_system(day.path).isdir(day.path):
                continue
            try:
                check_shards(day.path)
            except IncompleteError as error:
                left_out.append(f"The day {day.label} is not complete and is left out: {error}")
            else:
                days.append(day)
                break
    if not days:
        advice = f"There is no complete day {path}: build one with python -m data.build --day, or correct data.path."
        raise DataError(" ".join([advice, *left_out[:1]]))
    return Window(days[::-1], left_out)


def find_days(path: str, text: str) -> list[Day]:
    """The days that `to_text` made a text of.

    Raises:
        DataError: one of them is gone.
    """
    found = _by_span(path)
    days = []
    for label in _labels(text):
        name, _, version = label.partition("/")
        wanted = (span_of(name), int(version or 0))
        known = _versions(path, found.get(wanted[0], []))
        day = next((day for day in known if (day.span, day.version) == wanted), None)
        if day is None:
            raise DataError(f"The day {label} of {path} is gone: put it back, or run without --resume.")
        days.append(day)
    return days


def to_text(labels: Iterable[str]) -> str:
    """Labels of days as a short text, oldest first, such as `2026-11-01..2026-11-28, 2026-11-30/2`."""
    runs: list[list[str]] = []
    for label in in_order(labels):
        last = runs[-1][-1] if runs else "/"
        if "/" not in label + last and span_of(label) == span_of(last) + 1:
            runs[-1].append(label)
        else:
            runs.append([label])
    return ", ".join(run[0] if len(run) == 1 else f"{run[0]}..{run[-1]}" for run in runs)


def split_path(path: str) -> tuple[str, str]:
    """The folder in which the days of a path lie, and what comes below it."""
    fixed, below = re.split(r"/(?=[^/]*\{)", path if "/" in path else f"./{path}", maxsplit=1)
    return fixed or "/", below


def new_folder(path: str, day: str) -> tuple[str, bool]:
    """The folder for a new version of a day, and whether the day is there already.

    The first version is the day's folder, or number 1 where the path has {VERSION}.

    Args:
        day: a date such as 2026-11-28, or a number.

    Raises:
        DataError: the path names its days otherwise.
    """
    numbered = "{SPAN" in path
    if numbered != day.isdecimal():
        kind, example = ("a number", "12") if numbered else ("a date", "2026-11-28")
        raise DataError(f"{path} names a day by {kind}: give --day {example}.")
    year, month, number = ("", "", "") if numbered else day.split("-")
    values = {"SPAN": day, "YYYY": year, "MM": month, "DD": number}

    def fill(match: re.Match[str]) -> str:
        name, _, width = match[1].partition(":")
        return match[0] if name == "VERSION" else values[name].zfill(int(width or 0))

    filled = _SPEC.sub(fill, path)
    if "{" in filled:
        numbers = [int(found["VERSION"]) for _, found in _matches(filled)]
        latest = max([0, *numbers])
        return _SPEC.sub(lambda match: str(latest + 1).zfill(int(match[1].partition(":")[2] or 0)), filled), bool(
            numbers
        )
    if not file_system(filled).isdir(filled):
        return filled, False
    numbers = [int(name) for name in _listed(filled) if name.isdecimal()]
    return f"{filled}/{max([0, *numbers]) + 1}", True


def in_order(labels: Iterable[str]) -> list[str]:
    """The labels of days, oldest first."""
    return sorted(labels, key=span_of)


def span_of(label: str) -> int:
    """The number of a day, by its label."""
    name = label.partition("/")[0]
    return (date.fromisoformat(name) - _EPOCH).days if "-" in name else int(name)


def _labels(text: str) -> Iterator[str]:
    for part in text.split(", "):
        first, _, last = part.partition("..")
        spans = range(span_of(first), span_of(last) + 1) if last else ()
        yield from (_name(span, dated="-" in first) for span in spans)
        if not last:
            yield first


def _name(span: int, *, dated: bool) -> str:
    return (_EPOCH + timedelta(span)).isoformat() if dated else str(span)


def _by_span(path: str) -> dict[int, list[Day]]:
    """The folders that a path names, by their days; those of no date, such as 2026-11-31, do not count.

    Raises:
        DataError: two folders are the same version of a day.
    """
    found: dict[int, list[Day]] = defaultdict(list)
    for folder, values in _matches(path):
        dated = "YYYY" in values
        try:
            parts = [int(values[name]) for name in (_DATE if dated else ("SPAN",))]
            span = (date(*parts) - _EPOCH).days if dated else parts[0]
        except ValueError:
            continue
        day = Day(span, int(values.get("VERSION", 0)), _name(span, dated=dated), folder)
        if double := next((other.path for other in found[span] if other.version == day.version), None):
            raise DataError(f"{double} and {folder} are the same day: remove one of them.")
        found[span].append(day)
    return found


def _versions(path: str, days: list[Day]) -> list[Day]:
    """All versions of a day: those that the path names, or the numbered folders in its folder."""
    if "{VERSION" in path:
        return days
    found = []
    for day in days:
        names = _listed(day.path)
        numbers = [int(name) for name in names if name.isdecimal() and name == str(int(name)) and int(name)]
        found += [day._replace(version=number, path=f"{day.path}/{number}") for number in numbers]
        found += [day] if any(map(is_shard, names)) or not numbers else []
    return found


def _matches(path: str) -> list[tuple[str, dict[str, str]]]:
    """The folders that a path names, each with the values of its parts."""
    fixed, below = split_path(path)
    found: list[tuple[str, dict[str, str]]] = [(fixed, {})]
    for part in below.split("/"):
        pattern = re.compile("".join(_regex(piece) for piece in re.split(r"(\{[^{}]*\})", part)), re.ASCII)
        found = [
            (f"{folder.rstrip('/')}/{name}", {**values, **match.groupdict()})
            for folder, values in found
            for name in _listed(folder)
            if (match := pattern.fullmatch(name))
        ]
    return found


def _regex(piece: str) -> str:
    if not piece.startswith("{"):
        return re.escape(piece)
    name, _, width = piece[1:-1].partition(":")
    digits = {"YYYY": "4", "MM": "2", "DD": "2"}.get(name, width)
    return rf"(?P<{name}>\d{{{digits}}})" if digits else rf"(?P<{name}>\d+)"


def _listed(folder: str) -> list[str]:
    """The names in a folder; none if there is no such folder. Object stores list a folder with a slash behind it."""
    files = file_system(folder)
    return [name.rstrip("/") for name in files.listdir(folder)] if files.isdir(folder) else []
