"""Reader of tables: CSV as on Kaggle, and Parquet and Arrow files as on Hugging Face."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data.errors import DataError, storage_problem
from data.readers.arrays import as_picture
from data.readers.idx import emnist_names, is_emnist
from data.readers.rows import Rows
from data.readers.source import Ignored, Source
from data.readers.text_tables import FEW_PIXELS, INDICES, LABELS, NoPicturesError, few, id_column, open_csv
from data.readers.tree import split_of

if TYPE_CHECKING:
    import pyarrow as pa

IMAGES = ("image", "img", "images", "picture", "pixels", "x", "data", "pixel_values", "image_bytes")
_BATCH = 64


@dataclass(frozen=True)
class _Layout:
    """The numbers of the columns of labels, ids and images. The images are one column, or `pixels` are many."""

    label: int | None
    id: int | None
    image: int | None
    pixels: tuple[int, ...] = ()


def read_tables(
    root: Path,
    files: list[str],
    ignored: Ignored,
    scratch: Path,
    size: tuple[int, int] | None,
    labelled: bool = True,
) -> Source:
    """Reads the rows of all tables once, and keeps the images in a file in the folder `scratch`.

    Args:
        files: paths relative to `root`.
        size: rows and columns of images that are columns of pixels; None is a square.
        labelled: whether each row needs a label.

    Raises:
        DataError: no table with labels and images, or a damaged one.
    """
    rows = Rows(scratch, labelled)
    kind, problems = "", []
    names: dict[int, str] = {}
    for file in sorted(files):
        path = root / file
        try:
            schema, batches = _open(path, scratch, labelled)
            layout = _layout(schema, path, labelled)
        except NoPicturesError as problem:
            problems.append(str(problem))
            ignored.add("tables without labels or pictures", file)
            continue
        kind = kind or _said(path, file, schema, layout)
        label = "" if layout.label is None else schema.names[layout.label]
        names = names or _names(schema, label) or (emnist_names(root, file) if is_emnist(file) else {})
        _read(rows, file, batches, layout, size, path, "" if len(files) == 1 else f"{file}:")
    if not kind:
        raise DataError(f"{problems[0]}")
    emnist = any(map(is_emnist, files))
    return rows.source(kind, names, ignored, str(root), turned=emnist)


def _open(path: Path, scratch: Path, labelled: bool) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with path.open("rb") as file:
        magic = file.read(6)
    try:
        if magic.startswith(b"PAR1"):
            table = pq.ParquetFile(path)
            return table.schema_arrow, table.iter_batches(_BATCH)
        if magic.startswith(b"\xff\xff\xff\xff"):
            stream = pa.ipc.open_stream(path)
            return stream.schema, iter(stream)
        if magic.startswith(b"ARROW1"):
            arrow = pa.ipc.open_file(path)
            return arrow.schema, (arrow.get_batch(index) for index in range(arrow.num_record_batches))
        return open_csv(path, scratch, labelled)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> Exception:
    if storage_problem(error):
        return error
    reason = " ".join(str(error).split())
    return DataError(f"{path} cannot be read as a table ({reason[:300]}): correct it, or fetch it again.")


def _read(
    rows: Rows,
    file: str,
    batches: Iterator[pa.RecordBatch],
    layout: _Layout,
    size: tuple[int, int] | None,
    path: Path,
    prefix: str,
) -> None:
    import pyarrow as pa

    index, split = 0, split_of(file)
    try:
        for batch in batches:
            count = batch.num_rows
            labels = [None] * count if layout.label is None else batch.column(layout.label).to_pylist()
            if rows.labelled and None in labels:
                raise DataError(
                    f"Row {index + labels.index(None)} of {path} has no label: correct it, or leave it out."
                )
            numbers = [f"{prefix}{index + offset}" for offset in range(count)]
            ids = numbers if layout.id is None else _texts(batch.column(layout.id), numbers)
            if layout.image is None:
                columns = [_floats(batch.column(at)) for at in layout.pixels]
                shape = as_picture(len(columns), size, str(path))
                for values, label, id_ in zip(np.stack(columns, axis=1), labels, ids, strict=True):
                    rows.add(split, values.reshape(shape), label, id_)
            else:
                for offset, (image, label) in enumerate(zip(batch.column(layout.image), labels, strict=True)):
                    try:
                        _add(rows, split, image.as_py(), label, ids[offset], size, f"row {index + offset} of {path}")
                    except DataError as error:
                        rows.add_error(split, error, label, ids[offset])
            index += count
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from None


def _texts(column: pa.Array, otherwise: list[str]) -> list[str]:
    """The values of a column as text; where it has none, those of `otherwise`."""
    return [
        number if value is None else str(value) for value, number in zip(column.to_pylist(), otherwise, strict=True)
    ]


def _floats(column: pa.Array) -> np.ndarray:
    return np.asarray(column.to_numpy(zero_copy_only=False), np.float32)


def _add(
    rows: Rows, split: str | None, image: Any, label: Any, id_: str, size: tuple[int, int] | None, where: str
) -> None:
    if isinstance(image, dict):
        if not image.get("bytes"):
            raise DataError(
                f"The image of {where} is not in the table, which names {image.get('path')} only: save it with"
                " its images."
            )
        image = image["bytes"]
    if isinstance(image, bytes):
        rows.add_file(split, image, label, id_)
        return
    if image is None or (isinstance(image, str) and not re.fullmatch(r"[\d.eE+\-\s,;\[\]]+", image)):
        raise DataError(f"The image of {where} is {str(image)[:40]!r}, not a picture: save the table with its images.")
    values = (
        np.fromstring(re.sub(r"[^\d.eE+\-]+", " ", image), sep=" ") if isinstance(image, str) else np.asarray(image)
    )
    if values.dtype == object:
        raise DataError(f"The image of {where} has rows of different lengths: correct it.")
    rows.add(split, values.reshape(as_picture(len(values), size, where)) if values.ndim == 1 else values, label, id_)


def _said(path: Path, file: str, schema: pa.Schema, layout: _Layout) -> str:
    with path.open("rb") as opened:
        kind = {b"PAR1": "Parquet", b"ARRO": "Arrow", b"\xff\xff\xff\xff": "Arrow"}.get(opened.read(4), "a CSV table")
    if layout.label is None:
        label = "no column of labels"
    elif re.fullmatch(r"f\d+", schema.names[layout.label]):
        label = f"labels in column {layout.label + 1}"
    else:
        label = f"a column {schema.names[layout.label]}"
    if layout.image is not None:
        return f"{kind}: {label}, and images in {schema.names[layout.image]}"
    return f"{kind}, as on Kaggle: {label}, and {len(layout.pixels)} of pixels"


def _layout(schema: pa.Schema, path: Path, labelled: bool) -> _Layout:
    features = _features(schema)
    types = {name: str(feature.get("_type")) for name, feature in features.items() if isinstance(feature, dict)}
    image = next((name for name in schema.names if types.get(name) == "Image"), None) or next(
        (name for name in sorted(schema.names, key=_rank(IMAGES)) if _holds_images(schema.field(name).type, name)), None
    )
    hinted = (schema.metadata or {}).get(b"label", b"").decode()
    others = [name for name in schema.names if name != image]
    classes = sorted((name for name in others if types.get(name) == "ClassLabel"), key=_rank(LABELS))
    usual = [name for usual in LABELS for name in others if name.lower() == usual]
    label = hinted or next(iter(classes + usual), None)
    id_ = None if labelled else id_column([name for name in schema.names if name not in (image, label)])
    id_at = None if id_ is None else schema.names.index(id_)
    if image is None:
        numbers = [
            at
            for at, name in enumerate(schema.names)
            if name != label and name.lower() not in INDICES and _is_number(schema.field(at).type)
        ]
        if len(numbers) < FEW_PIXELS:
            raise NoPicturesError(
                f"{path} has no column of images and no columns of pixels: its columns are {few(schema.names)}."
            )
        if label is None and labelled:
            raise NoPicturesError(f"{path} has no column of labels among {few(schema.names)}: call one of them label.")
        return _Layout(None if label is None else schema.names.index(label), id_at, None, tuple(numbers))
    if label is None and labelled and len(others) == 1:
        label = others[0]
    if label is None and labelled:
        raise NoPicturesError(
            f"{path} has images in {image}, but no column of labels: its columns are {few(schema.names)}."
            " Call one label."
        )
    return _Layout(None if label is None else schema.names.index(label), id_at, schema.names.index(image))


def _rank(usual: tuple[str, ...]) -> Any:
    return lambda name: usual.index(name.lower()) if name.lower() in usual else len(usual)


def _is_number(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _holds_images(kind: pa.DataType, name: str) -> bool:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0
    if pa.types.is_string(kind):
        return name.lower() in IMAGES
    return (
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
    )


def _features(schema: pa.Schema) -> dict[str, Any]:
    """The columns as Hugging Face's `datasets` describes them in the file; empty without that."""
    try:
        described = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        return dict(described["info"]["features"])
    except (ValueError, KeyError, TypeError):
        return {}


def _names(schema: pa.Schema, label: str) -> dict[int, str]:
    feature = _features(schema).get(label)
    names = feature.get("names") if isinstance(feature, dict) else None
    return dict(enumerate(map(str, names))) if isinstance(names, list) else {}
