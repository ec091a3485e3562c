"""What data.build says in the end: a table of classes and splits, ink, levels, copies and what was left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from data.errors import DataError
from data.readers.source import Ignored
from data.splits import SPLITS

_ROWS = 40


@dataclass
class Written:
    """What was found while the pictures of one split were written."""

    labels: np.ndarray
    ink: float = 0.0  # the sum of the mean levels, each in 0 … 1
    hashes: list[np.ndarray] = field(default_factory=list)
    _block: list[int] = field(default_factory=list)

    def see(self, image: np.ndarray) -> None:
        """Counts one image, uint8 [rows, columns]."""
        self.ink += float(image.mean()) / 255
        self._block.append(int.from_bytes(blake2b(image.tobytes(), digest_size=8).digest(), "little"))
        if len(self._block) == 4096:
            self._close()

    def _close(self) -> None:
        self.hashes.append(np.asarray(self._block, np.uint64))
        self._block = []

    def content(self) -> np.ndarray:
        """A number of 64 bits for each image, which is equal for equal images."""
        self._close()
        return np.concatenate(self.hashes)


class Notes:
    """What is odd about pictures: how many, and the first one's name."""

    def __init__(self, allow_blank: bool, named: Callable[[str], str] = str) -> None:
        self._allow_blank, self._named = allow_blank, named
        self.found = Ignored()

    def see(self, image: np.ndarray, note: str, name: str) -> None:
        """Raises a DataError for a blank image, unless they are allowed."""
        if image.min() == image.max():
            if not self._allow_blank:
                raise DataError(
                    f"{name} is blank: all its pixels have one level{f' ({note})' if note else ''}. Leave it out, or"
                    " allow such images with --allow-blank."
                )
            note = "blank"
        if note:
            self.found.add(note, self._named(name))


def show(
    console: Console,
    splits: Mapping[str, Written],
    names: Sequence[str],
    ignored: Ignored,
    notes: Ignored,
) -> None:
    """Prints the table and the lines below it."""
    table = Table(box=None, pad_edge=False)
    table.add_column("class")
    for split in SPLITS:
        table.add_column(split, justify="right")
    counts = {split: np.bincount(splits[split].labels, minlength=len(names)) for split in SPLITS}
    shown = len(names) if len(names) <= _ROWS else _ROWS - 1
    for label, name in enumerate(names[:shown]):
        table.add_row(escape(name), *(f"{counts[split][label]:,}" for split in SPLITS))
    if shown < len(names):
        table.add_row(f"… and {len(names) - shown} more", *(f"{counts[split][shown:].sum():,}" for split in SPLITS))
    table.add_section()
    table.add_row("all", *(f"{len(splits[split].labels):,}" for split in SPLITS))
    table.add_row("mean ink", *(f"{splits[split].ink / max(1, len(splits[split].labels)):.3f}" for split in SPLITS))
    console.print(table)
    for word, found in (("Ignored", ignored), ("Odd", notes)):
        for reason, (count, first) in found.reasons.items():
            console.print(f"{word}: {count:,} {reason}, such as {first}", markup=False, highlight=False, soft_wrap=True)
    for line in [*_absent(counts, names), *copies(splits)]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _absent(counts: Mapping[str, np.ndarray], names: Sequence[str]) -> list[str]:
    """A sentence about the splits that lack classes; empty if there are none."""
    found = []
    for split in SPLITS:
        if lacking := [names[label] for label in np.flatnonzero(counts[split] == 0)]:
            more = f" and {len(lacking) - 5} more" if len(lacking) > 5 else ""
            found.append(f"no {split} image shows {', '.join(lacking[:5])}{more}")
    if not found:
        return []
    return [
        f"Classes without examples: {'; '.join(found)}. The data gate refuses that, unless"
        " validation.min_class_examples is 0 in the profile."
    ]


def copies(splits: Mapping[str, Written]) -> list[str]:
    """Sentences about images that are in two splits; empty if there are none."""
    content = {split: written.content() for split, written in splits.items()}
    lines = []
    for split, other in (("test", "train"), ("eval", "train"), ("test", "eval")):
        count, total = int(np.isin(content[split], content[other]).sum()), len(content[split])
        seen = ": the model has seen them" if other == "train" else ""
        if count:
            lines.append(f"{count:,} of {total:,} {split} images ({count / total:.1%}) are also in {other}{seen}.")
    return lines
