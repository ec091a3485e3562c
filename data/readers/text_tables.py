"""CSV and what resembles it, as Arrow's record batches: where the header, the marks and the labels are."""

from __future__ import annotations

import csv
import math
import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from data.errors import DataError
from data.readers.stored import unpacked
from data.readers.tree import kind_of

if TYPE_CHECKING:
    import pyarrow as pa

LABELS = (
    "label", "labels", "class", "target", "y", "digit", "category", "character", "letter", "fine_label", "symbol",
)  # fmt: skip
INDICES = ("id", "image_id", "imageid", "index", "unnamed: 0", "level_0", "")
"""The names of columns that number the rows, or name them."""
FEW_PIXELS = 16
_SAMPLED = 2000


class NoPicturesError(DataError):
    """A table that has no column of labels or none of pictures."""


def few(names: list[str]) -> str:
    """The first of many names of columns."""
    return ", ".join(names[:6]) + (", …" if len(names) > 6 else "")


def id_column(names: list[str]) -> str | None:
    """The first of these columns that names the rows, or numbers them."""
    lowered = [name.lower() for name in names]
    return next((names[lowered.index(usual)] for usual in INDICES if usual in lowered), None)


def open_csv(path: Path, scratch: Path, labelled: bool = True) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Opens a CSV file: with or without a header, the label first or last, between commas, semicolons or blanks.

    The values of the labels are text; so are those of the ids, unless each row needs a label.
    """
    import pyarrow as pa
    import pyarrow.csv as pacsv

    file = unpacked(path, scratch)
    if (kind := kind_of(file)) not in ("csv", "text file"):
        raise DataError(f"{path} is no CSV file, but a {kind}: fetch it again, or name the file.")
    skipped, delimiter = _form(file)
    if delimiter == " ":
        file, delimiter = _with_commas(file, skipped, scratch), ","
        skipped = 0
    with file.open(encoding="utf-8-sig", errors="replace", newline="") as opened:
        reader = csv.reader(islice(opened, skipped, None), delimiter=delimiter)
        first = next(filter(None, reader))
        named = sum(not _is_number(cell) for cell in first) > 1 or (not skipped and _counts(first))
        names = [name.strip() for name in first] if named else [f"f{at}" for at in range(len(first))]
        if len(set(names)) < len(names):
            names = [f"{name}.{at}" if name in names[:at] else name for at, name in enumerate(names)]
        rows = islice(reader if named else chain([first], reader), _SAMPLED)
        ends = [(row[0], row[-1]) for row in rows if len(row) == len(names)]
    label = _label_column(names, ends, named, path, labelled)
    texts = [label, None if labelled else id_column(names)]
    types = {name: pa.float64() for name in names if len(names) >= FEW_PIXELS}
    types |= {name: pa.string() for name in texts if name is not None}
    stream = pacsv.open_csv(
        file,
        pacsv.ReadOptions(column_names=names, skip_rows=skipped + named, block_size=1 << 20),
        pacsv.ParseOptions(delimiter=delimiter),
        pacsv.ConvertOptions(column_types=types),
    )
    return stream.schema.with_metadata({} if label is None else {"label": label}), iter(stream)


def _form(file: Path) -> tuple[int, str]:
    """How many lines precede the table, as in an ARFF file, and what separates its values."""
    with file.open(encoding="utf-8-sig", errors="replace") as opened:
        for number, line in enumerate(opened):
            if line.strip() and not line.startswith(("@", "%", "#")):
                counts = {mark: line.count(mark) for mark in ",;\t"}
                best = max(counts, key=lambda mark: counts[mark])
                return number, best if counts[best] else " "
    raise DataError(f"{file} has no rows: fetch it again.")


def _with_commas(file: Path, skipped: int, scratch: Path) -> Path:
    copy = Path(tempfile.mkdtemp(dir=scratch)) / file.name
    with file.open(encoding="utf-8-sig", errors="replace") as opened, copy.open("w", encoding="utf-8") as target:
        target.writelines(f"{','.join(line.split())}\n" for line in islice(opened, skipped, None) if line.strip())
    return copy


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _counts(cells: list[str]) -> bool:
    """Whether a row is a header of numbers: 0, 1, 2, …, as pandas writes, perhaps with the label's beside them."""
    return (
        len(set(cells)) == len(cells)
        and len(cells) > 2
        and all(map(_is_number, cells[1:-1]))
        and cells[1:4] in (["0", "1", "2"], ["1", "2", "3"])
    )


def _label_column(names: list[str], ends: list[tuple[str, str]], named: bool, path: Path, labelled: bool) -> str | None:
    """The column of labels: by its name, or the first or last one, whichever has values that look like classes.

    None if there is none, and rows need no label.
    """
    lowered = [name.lower() for name in names]
    if named and (found := [names[lowered.index(usual)] for usual in LABELS if usual in lowered]):
        return found[0]
    if not labelled and (named or _is_square(len(names))):
        return None
    if named and len(names) < FEW_PIXELS and {"pixels", "image"} & set(lowered):
        return next((name for name in names if name.lower() not in ("pixels", "image")), names[0])
    if len(names) < FEW_PIXELS:
        raise NoPicturesError(f"{path} has no columns of pixels: its columns are {few(names)}.")
    if named and not any(_is_square(len(names) - 1 - more) for more in (0, 1)) and _is_square(len(names)):
        raise NoPicturesError(f"{path} has no column of labels among {few(names)}: call one of them label.")
    if not named and _is_square(len(names)):
        raise NoPicturesError(f"{path} has {len(names)} columns of pixels, and no column of labels: add one.")

    def largest_share(at: int) -> float:  # corner pixels are nearly always paper
        values = Counter(row[at] for row in ends)
        whole = all(not _is_number(value) or float(value).is_integer() for value in values)
        return max(values.values(), default=1) / max(1, sum(values.values())) if whole and len(values) > 1 else 2.0

    return names[-1] if largest_share(-1) < largest_share(0) else names[0]


def _is_square(count: int) -> bool:
    return math.isqrt(count) ** 2 == count
