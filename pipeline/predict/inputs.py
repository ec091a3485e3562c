"""What a batch prediction reads: the shards of its input, and the batches of each shard."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.errors import DataError, UserError
from data.example import LABEL
from data.pictures import Reading, read
from data.readers.detect import open_unlabelled
from data.readers.records import record_id
from data.readers.source import Images, Pixels
from data.readers.tree import kind_of
from data.splits import SPLITS, shard_names, shard_pattern
from data.survey import Survey, levels_of

BATCH = 1024
PIECE = 10_000
"""How many pictures or rows of a table are a shard."""
_SAMPLED = 2000


class Shard(NamedTuple):
    """A part of the input that gets one output file: a TFRecord file, or the pictures from `start` to `stop`."""

    name: str
    file: str = ""
    start: int = 0
    stop: int = 0


class Batch(NamedTuple):
    """Some inputs of a shard, in order.

    Attributes:
        number: counts the batches of the shard; `last` is the last one.
        ids, inputs, labels: of N inputs: serialized tf.Examples, or an array of pictures uint8 [N, rows, columns].
        errors: the id of what cannot be read, and why.
        cut: whether the shard's file is damaged, so that the rest of it cannot be read.
    """

    shard: Shard
    number: int
    last: bool
    ids: list[str]
    inputs: Sequence[bytes] | np.ndarray
    labels: list[int | None]
    errors: list[tuple[str, str]]
    cut: bool = False


class Input(NamedTuple):
    """Files and folders `names` in the folder `root`; none stands for the folder itself. `shards`: TFRecords."""

    root: str
    names: tuple[str, ...]
    shards: tuple[str, ...]

    def digest(self) -> str:
        """SHA-256 over the names, sizes and times of all files."""
        tops = [Path(self.root, name) for name in self.shards or self.names or ("",)]
        files = [Path(folder, name) for top in tops for folder, _, names in os.walk(top) for name in names]
        digest = hashlib.sha256()
        for file in sorted([*files, *(top for top in tops if top.is_file())]):
            status = file.stat()
            digest.update(f"{file.relative_to(self.root)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
        return digest.hexdigest()


def find(given: Sequence[str]) -> Input:
    """The files that paths and globs name.

    Raises:
        UserError: nothing is there, or a split of a data folder lacks a shard.
    """
    paths: list[Path] = []
    for text in given:
        found = [text] if os.path.lexists(text) else sorted(glob.glob(text, recursive=True))
        if not found:
            what = "matches" if glob.has_magic(text) else "is at"
            raise UserError(f"Nothing {what} {text}: name TFRecords, pictures or a table.")
        paths += [Path(path).absolute() for path in found]
    if len(paths) == 1 and paths[0].is_dir():
        (root,) = paths
        splits = [split for split in SPLITS if any(root.glob(shard_pattern(split)))]
        shards = [name for split in splits for name in shard_names(root, split)]
        shards = shards or sorted(path.name for path in root.glob("*.tfrecord*"))
        return Input(str(root), (), tuple(shards))
    root = Path(os.path.commonpath([path.parent for path in paths]))
    names = tuple(dict.fromkeys(str(path.relative_to(root)) for path in paths))
    records = all((root / name).is_file() and kind_of(root / name) == "tfrecord" for name in names)
    return Input(str(root), names, names if records else ())


def first_records(input_: Input) -> list[bytes]:
    """A few records of the first shard that has some; none without shards, or if they are no TFRecords."""
    for name in input_.shards:
        for records in _chunks(os.path.join(input_.root, name)):
            return list(islice(filter(None, records or ()), 20))
    return []


def has_label(record: bytes) -> bool:
    """Whether a tf.Example has a label."""
    import tensorflow as tf

    return LABEL in tf.train.Example.FromString(record).features.feature


def shards_of_records(input_: Input) -> list[Shard]:
    """A shard for each TFRecord file; its name is the file's, without its ending."""
    stems = [name.partition(".tfrecord")[0].replace("/", "-") for name in input_.shards]
    return [Shard(stem, name) for stem, name in zip(stems, input_.shards, strict=True)]


def read_records(input_: Input, shard: Shard) -> Iterator[Batch]:
    """The tf.Examples of a TFRecord file. An id is the feature `id`, or the file's name and the record's number."""
    import tensorflow as tf

    number = 0
    chunks = _chunks(os.path.join(input_.root, shard.file))
    batches = _with_last(chunks)
    for at, (records, last) in enumerate(batches):
        ids: list[str] = []
        inputs: list[bytes] = []
        labels: list[int | None] = []
        errors: list[tuple[str, str]] = []
        for record in records or ():
            try:
                feature = tf.train.Example.FromString(record).features.feature
            except Exception as error:  # protobuf's DecodeError has moved between its releases
                if type(error).__name__ != "DecodeError":
                    raise
                errors.append((f"{shard.file}:{number}", "a record that is no tf.train.Example"))
            else:
                ids.append(record_id(feature, shard.file, number))
                inputs.append(record)
                values = feature[LABEL].int64_list.value if LABEL in feature else ()
                labels.append(values[0] if values else None)
            number += 1
        if records is None:
            errors.append((f"{shard.file}:{number}", "the file is damaged or cut off here; the rest is not read"))
        yield Batch(shard, at, last, ids, inputs, labels, errors, cut=records is None)


def _chunks(path: str) -> Iterator[list[bytes] | None]:
    """The records of a TFRecord file, at most BATCH at a time; None where it is damaged."""
    import tensorflow as tf

    from data.records import read_batches

    with open(path, "rb") as file:
        packing = "GZIP" if file.read(2) == b"\x1f\x8b" else ""
    try:
        yield from read_batches(tf.data.TFRecordDataset(path, packing, buffer_size=1 << 20), BATCH)
    except tf.errors.OpError:
        yield None


def _with_last(chunks: Iterator[list[bytes] | None]) -> Iterator[tuple[list[bytes] | None, bool]]:
    """Each item, and whether it is the last one. Without any, an empty one."""
    before = next(chunks, [])
    for chunk in chunks:
        yield before, False
        before = chunk
    yield before, True


class Pictures:
    """The pictures of all parts of a source, one after the other, with their ids and labels."""

    def __init__(self, input_: Input, scratch: str, classes: Sequence[str]) -> None:
        Path(scratch).mkdir(exist_ok=True)
        source = open_unlabelled(Path(input_.root), list(input_.names), Path(scratch))
        self.kind, self.names = source.kind, source.names
        self._parts: list[tuple[str, Images]] = list(source.parts.items())
        self._starts = np.cumsum([0, *(len(part) for _, part in self._parts)])
        self.unknown: list[str] = []
        self._labels = self._class_ids(classes)

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def labelled(self) -> bool:
        return bool((self._labels >= 0).any())

    @property
    def encoded(self) -> bool:
        """Whether they are picture files, whose levels have a unit."""
        return all(isinstance(part.pixels, Pixels) and part.pixels.encoded for _, part in self._parts)

    def get(self, index: int) -> np.ndarray:
        """Grey levels, float32 [height, width].

        Raises:
            DataError: it cannot be read.
        """
        part, at = self._at(index)
        assert isinstance(part[1].pixels, Pixels)
        picture = next(iter(part[1].pixels[at : at + 1]))
        if not picture.size or not np.isfinite(picture).all():
            raise DataError(f"{self.id(index)} has {'a pixel that is no number' if picture.size else 'no pixels'}.")
        return picture

    def id(self, index: int) -> str:
        (split, part), at = self._at(index)
        if part.ids is not None:  # the name of a file may be no UTF-8
            return part.ids[at].encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        return str(at) if len(self._parts) == 1 else f"{split}/{at}"

    def label(self, index: int) -> int | None:
        """The class id, or None."""
        return int(self._labels[index]) if self._labels[index] >= 0 else None

    def _at(self, index: int) -> tuple[tuple[str, Images], int]:
        part = int(np.searchsorted(self._starts, index, "right")) - 1
        return self._parts[part], index - int(self._starts[part])

    def _class_ids(self, classes: Sequence[str]) -> np.ndarray:
        """The class id of each label, int64 [N]; -1 where it is not known, and everywhere if one is no class."""
        ids = {name: number for number, name in enumerate(classes)}
        found = []
        for _, part in self._parts:
            values, inverse = np.unique(part.labels, return_inverse=True)
            numbers = np.full(len(values), -1)
            for at, value in enumerate(values.tolist()):
                name = self.names.get(value, str(value)) if isinstance(value, int) else value
                numbers[at] = ids.get(name, value if isinstance(value, int) and 0 <= value < len(classes) else -1)
                if numbers[at] < 0 and value not in (-1, ""):
                    self.unknown.append(str(name))
            found.append(numbers[inverse.reshape(-1)])
        labels = np.concatenate(found).astype(np.int64)
        return np.full_like(labels, -1) if self.unknown else labels


@lru_cache(maxsize=1)
def open_pictures(input_: Input, scratch: str, classes: tuple[str, ...]) -> Pictures:
    """The pictures of an input; each process opens them once.

    Raises:
        DataError: nothing that can be read; see `data.readers.detect.open_unlabelled`.
    """
    return Pictures(input_, scratch, classes)


def shards_of_pictures(count: int) -> list[Shard]:
    """Pieces of `PIECE` pictures, and one without any for none."""
    starts = range(0, max(count, 1), PIECE)
    return [
        Shard(f"part-{number:05d}-of-{len(starts):05d}", "", start, min(start + PIECE, count))
        for number, start in enumerate(starts)
    ]


def unit(pictures: Pictures, reading: Reading) -> Reading:
    """The reading with the levels of these pictures, if they are arrays in another unit than the training's."""
    if pictures.encoded:
        return reading
    found = Survey(raw="arrays")
    low, high = np.inf, -np.inf
    for index in np.unique(np.linspace(0, len(pictures) - 1, _SAMPLED).astype(int)):
        try:
            picture = pictures.get(int(index))
        except DataError:
            continue
        low, high = min(low, float(picture.min())), max(high, float(picture.max()))
        found.whole = found.whole and bool((picture == np.rint(picture)).all())
    if not low < high or (reading.levels[0] <= low and reading.levels[1] / 2 < high <= reading.levels[1]):
        return reading
    found.spans[""] = low, high
    return replace(reading, levels=levels_of(found))


def read_pictures(pictures: Pictures, reading: Reading, shard: Shard) -> Iterator[Batch]:
    """The images of a piece of the pictures, read as the training's were."""
    starts = range(shard.start, max(shard.stop, shard.start + 1), BATCH)
    for number, start in enumerate(starts):
        images: list[np.ndarray] = []
        kept: list[int] = []
        errors: list[tuple[str, str]] = []
        for index in range(start, min(start + BATCH, shard.stop)):
            try:
                picture = pictures.get(index)
                levels = picture if pictures.encoded else np.clip(picture, *reading.levels)
                images.append(read(levels, reading)[0])
                kept.append(index)
            except DataError as error:
                errors.append((pictures.id(index), str(error)))
        inputs = np.stack(images) if images else np.zeros((0, *reading.size), np.uint8)
        ids, labels = [pictures.id(index) for index in kept], [pictures.label(index) for index in kept]
        yield Batch(shard, number, number == len(starts) - 1, ids, inputs, labels, errors)
