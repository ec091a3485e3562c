"""Tables on the screen, and numbers as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

NOTHING = "–"
_PIPE_WIDTH = 100_000


def console() -> Console:
    """Standard output. A pipe has no width, so there nothing is folded."""
    screen = Console(highlight=False, soft_wrap=True, markup=False)
    if not screen.is_terminal:
        screen.width = _PIPE_WIDTH
    return screen


def section(screen: Console, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints a table below an empty line and its title."""
    screen.print(f"\n{title}", style="bold")
    screen.print(table(rows))


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Rows with one set of keys, the columns' names. A value that is not a string or a Text becomes one."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for name in rows[0]:
        grid.add_column(name, overflow="fold")
    for row in rows:
        grid.add_row(*map(cell, row.values()))
    return grid


def pairs(rows: Iterable[tuple[str, Any]]) -> Table:
    """Names in bold, with a value each."""
    grid = Table(box=None, pad_edge=False, show_header=False)
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(Text(name), cell(value))
    return grid


def cell(value: Any) -> Text:
    """A value of a table; a file name may look like markup."""
    if isinstance(value, Text):
        return value
    return Text(NOTHING if value is None or value == "" else str(value))


def settings_text(settings: Mapping[str, Any]) -> str:
    """`section.key=value` of each setting."""
    return "  ".join(f"{key}={plain(value)}" for key, value in settings.items())


def plain(value: Any) -> str:
    """A value of the settings as --set takes it."""
    if value is None:
        return NOTHING
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def accuracy_text(accuracy: float | None, interval: Sequence[float] | None) -> str:
    """An accuracy with its interval."""
    if accuracy is None:
        return NOTHING
    return f"{accuracy:.4f}" + (f" ({interval[0]:.4f} … {interval[1]:.4f})" if interval else "")


def gates_text(gates: Iterable[Mapping[str, Any]]) -> list[str]:
    """A line for each gate of a provenance."""
    return [
        f"{'✓' if gate['passed'] else '✗'} {gate['name']}: {gate['value']:.4f}, {gate['side']} {gate['bound']:.4f}"
        for gate in gates
    ]
