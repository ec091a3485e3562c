"""Reader of TFRecords of tf.train.Examples: TensorFlow Datasets', TensorFlow's old ones, and this project's own."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import DataError
from data.process import quiet
from data.readers.arrays import as_picture
from data.readers.idx import is_emnist
from data.readers.rows import Rows
from data.readers.source import Ignored, Source
from data.readers.tree import kind_of, read_text, split_of

IMAGE_KEYS = ("image", "image_raw", "image/encoded", "img", "images", "picture", "pixels", "x", "data", "feature")
LABEL_KEYS = ("label", "image/class/label", "class", "labels", "target", "y", "digit", "category")
_SIDES = (("height", "width", "depth"), ("rows", "columns", "channels"), ("rows", "cols", "channels"),
          ("image/height", "image/width", "image/channels"))  # fmt: skip


def read_records(
    root: Path,
    files: list[str],
    ignored: Ignored,
    scratch: Path,
    size: tuple[int, int] | None,
    labelled: bool = True,
) -> Source:
    """Reads the examples once, and keeps their images in a file in the folder `scratch`.

    An image is a picture file such as a PNG, or raw pixels with or without its height, width and depth.

    Args:
        files: paths relative to `root`.
        size: rows and columns of raw pixels that say none; None is a square.
        labelled: whether each example needs a label.

    Raises:
        DataError: a damaged file, or examples without an image or a label.
    """
    rows = Rows(scratch, labelled)
    keys = ("", "")
    own = _profile(root, files)
    size = size or own.get("size")
    for file in sorted(files):
        path = root / file
        for index, feature in enumerate(_features(path)):
            where = f"example {index} of {path}"
            if not keys[0]:
                labels = labelled or any(key in feature for key in LABEL_KEYS)
                label_key = _key(feature, LABEL_KEYS, "label", where) if labels else ""
                keys = _key(feature, IMAGE_KEYS, "image", where), label_key
            target = None
            if labelled or (keys[1] and keys[1] in feature):
                label = _values(feature, keys[1], where)
                target = plain_value(label[0]) if len(label) == 1 else list(label)
            id_ = record_id(feature, file, index)
            try:
                image = _values(feature, keys[0], where)
                if isinstance(image[0], bytes) and len(image) == 1 and not _is_raw(image[0], feature):
                    rows.add_file(split_of(file), image[0], target, id_)
                else:
                    rows.add(split_of(file), _pixels(image, feature, size, where), target, id_)
            except DataError as error:
                rows.add_error(split_of(file), error, target, id_)
    emnist = any(map(is_emnist, files))
    kind = f"TFRecords of tf.train.Examples: {keys[0]}{f' and {keys[1]}' if keys[1] else ''}"
    return rows.source(kind, own.get("names") or _names(root, files, keys[1]), ignored, str(root), turned=emnist)


def record_id(feature: Any, file: str, index: int) -> str:
    """The value of an example's feature `id`; without one, the file's name and the number of the record."""
    if (
        "id" in feature
        and (kind := feature["id"].WhichOneof("kind"))
        and (values := getattr(feature["id"], kind).value)
    ):
        return str(plain_value(values[0]))
    return f"{file}:{index}"


def plain_value(value: Any) -> Any:
    """A value of a feature: text for bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _features(path: Path) -> Iterator[Any]:
    with quiet():
        import tensorflow as tf
    with path.open("rb") as file:
        packing = "GZIP" if file.read(2) == b"\x1f\x8b" else ""
    try:
        for record in tf.data.TFRecordDataset(str(path), compression_type=packing).as_numpy_iterator():
            yield tf.train.Example.FromString(record).features.feature
    except tf.errors.OpError:
        kind = kind_of(path)
        what = "a damaged or cut-off TFRecord file" if kind == "tfrecord" else f"no TFRecord file, but a {kind}"
        raise DataError(f"{path} is {what}: fetch it again.") from None
    except Exception as error:  # protobuf's DecodeError has moved between its releases
        if type(error).__name__ != "DecodeError":
            raise
        raise DataError(f"{path} holds records that are no tf.train.Examples: write them as such.") from None


def _key(feature: Any, usual: tuple[str, ...], what: str, where: str) -> str:
    if found := [key for key in usual if key in feature]:
        return found[0]
    raise DataError(
        f"{where} has no {what}: its features are {', '.join(sorted(feature)) or 'none'}. Call one {usual[0]}."
    )


def _values(feature: Any, key: str, where: str) -> Any:
    value = feature[key]
    kind = value.WhichOneof("kind")
    values = getattr(value, kind).value if kind else ()
    if not len(values):
        raise DataError(f"{where} has no value of {key}: correct it, or leave it out.")
    return values


def _is_raw(content: bytes, feature: Any) -> bool:
    """Whether bytes are pixels rather than a picture file."""
    starts = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"RIFF", b"II*\0", b"MM\0*")
    return not content.startswith(starts)


def _pixels(image: Any, feature: Any, size: tuple[int, int] | None, where: str) -> np.ndarray:
    shape: tuple[int, ...] | None = None
    for keys in _SIDES:
        if keys[0] in feature and keys[1] in feature:
            sides = [int(_values(feature, key, where)[0]) for key in keys if key in feature]
            shape = (sides[0], sides[1], sides[2] if len(sides) > 2 else 1)
            break
    if isinstance(image[0], bytes):
        content = image[0]
        count = math.prod(shape) if shape else None
        wide = (count and len(content) == 4 * count) or (
            count is None and math.isqrt(len(content)) ** 2 != len(content) and not size
        )
        if wide and len(content) % 4:
            raise DataError(
                f"{where} has an image of {len(content)} bytes: neither a picture file nor raw pixels of a square."
            )
        array = np.frombuffer(content, "<f4" if wide else np.uint8)
    else:
        array = np.asarray(image)
    if shape is None:
        shape = as_picture(len(array), size, where)
    if math.prod(shape) != len(array):
        raise DataError(
            f"{where} has {len(array)} pixels, but says that it is {' × '.join(map(str, shape))}: correct it."
        )
    return array.reshape(shape)


def _profile(root: Path, files: list[str]) -> dict[str, Any]:
    """The size of the images and the names of the classes in a profile that data.build wrote beside the records."""
    path = (root / files[0]).parent / "profile.toml"
    try:
        data = tomllib.loads(read_text(path))["data"]
        return {"size": (data["rows"], data["columns"]), "names": dict(enumerate(data.get("class_names", ())))}
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError):
        return {}


def _names(root: Path, files: list[str], label: str) -> dict[int, str]:
    """The class names of TensorFlow Datasets' `label.labels.txt`, beside the records."""
    for folder in dict.fromkeys((root / file).parent for file in files):
        path = folder / f"{label}.labels.txt"
        if path.is_file():
            return dict(enumerate(line for line in read_text(path).splitlines() if line))
    return {}
