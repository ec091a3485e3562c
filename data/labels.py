"""From labels as people save them (numbers, text, one-hot) to classes 0 … K-1 with names."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data.errors import DataError

_SHOWN = 5


@dataclass(frozen=True)
class Classes:
    """The classes of a data set: `names`, by label, and the `labels` of each split, int64 [N]."""

    names: tuple[str, ...]
    labels: Mapping[str, np.ndarray]


def plain(labels: np.ndarray, name: str) -> np.ndarray:
    """Labels [N], int64 or text, from labels [N], [N, 1], [1, N] or one-hot [N, K] of any type.

    Args:
        name: what a message calls them.

    Raises:
        DataError: another shape, numbers that are not whole, objects that are no text, rows that are not one-hot.
    """
    if labels.ndim == 2 and 1 in labels.shape:
        labels = labels.reshape(-1)
    if labels.dtype.kind == "O":
        labels = np.asarray([text.decode("utf-8", "replace") if isinstance(text, bytes) else text for text in labels])
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8", "replace")
    if labels.ndim == 2 and labels.dtype.kind in "biuf":
        odd = np.flatnonzero((np.count_nonzero(labels, axis=1) != 1) | (labels.max(axis=1, initial=0) != 1))
        if len(odd):
            raise DataError(
                f"{name} is {labels.dtype} {list(labels.shape)}, and row {odd[0]} is not one-hot:"
                f" {_few(labels[odd[0]])}. Give each image one label, as a number or as text [N]."
            )
        return np.argmax(labels, axis=1).astype(np.int64)
    if labels.ndim != 1 or labels.dtype.kind not in "biufU":
        raise DataError(f"{name} is {labels.dtype} {list(labels.shape)}, but labels are whole numbers or text [N].")
    if labels.dtype.kind == "f":
        odd = np.flatnonzero(~np.isfinite(labels) | (labels != np.floor(labels)))
        if len(odd):
            raise DataError(f"{name} has the label {labels[odd[0]]} at {odd[0]}, but labels are whole numbers or text.")
    return _text(labels) if labels.dtype.kind == "U" else labels.astype(np.int64)


def with_unknown(labels: Sequence[Any]) -> list[Any]:
    """Labels with -1 or, among text, "" instead of None."""
    unknown = "" if any(isinstance(label, str | bytes) for label in labels) else -1
    return [unknown if label is None else label for label in labels]


def _text(labels: np.ndarray) -> np.ndarray:
    """Text without blanks around it and in one Unicode form; int64 if every text is a number such as "7" or "7.0"."""
    values, inverse = np.unique(labels, return_inverse=True)
    texts = [one_form(str(value).strip()) for value in values]
    numbers = [re.sub(r"\.0*$", "", text) for text in texts]
    if all(re.fullmatch(r"0|-?[1-9][0-9]{0,17}", number) for number in numbers):
        return np.asarray([int(number) for number in numbers], np.int64)[inverse.reshape(-1)]
    return np.asarray(texts)[inverse.reshape(-1)]


def to_classes(
    source: object, splits: Mapping[str, np.ndarray], names: Mapping[int, str], count: int | None
) -> Classes:
    """The classes of all labels of all splits, in order: numbers by value, text by alphabet.

    Labels 0 … K-1 stay. Others get a class each, which is called like the label, or as `names` says.

    Args:
        splits: the labels of each split as `plain` gives them.
        count: how many classes there are; None is those that occur.

    Raises:
        DataError: a label that the training images lack, only one class, or more classes than `count`.
    """
    if len({labels.dtype.kind for labels in splits.values()}) > 1:
        splits = {split: labels.astype(str) for split, labels in splits.items()}
    found = {split: np.unique(labels) for split, labels in splits.items()}
    values = np.unique(np.concatenate(list(found.values())))
    numbers = values.dtype.kind == "i"
    if count and numbers and not names and not (len(values) == count and values.min() > 0):
        _check(source, splits, lambda label: 0 <= label < count, f"is outside 0 … {count - 1}: correct it, or say how"
               " many classes there are with --classes.")  # fmt: skip
        return Classes(tuple(map(str, range(count))), splits)
    known = set(found["train"].tolist())
    _check(source, splits, known.__contains__, "never occurs among the training images: correct it, add such images to"
           " the training images, or leave these out.")  # fmt: skip
    if len(values) < 2 and (count or 0) < 2:
        raise DataError(f"{source} holds one class only, so there is nothing to distinguish: add another class.")
    if count and len(values) > count:
        raise DataError(
            f"{source} holds {len(values)} classes ({_few(values)}), more than --classes {count}: correct that."
        )
    if len(names) == len(values) and numbers and not set(values.tolist()) <= names.keys():  # as for labels from 1
        names = dict(zip(values.tolist(), names.values(), strict=True))
    called = [names.get(int(value), str(value)) if numbers else str(value) for value in values]
    return Classes(tuple(called), {split: np.searchsorted(values, labels) for split, labels in splits.items()})


def as_known(source: object, classes: Classes, names: Sequence[str], place: object) -> Classes:
    """The same labels as classes of a data set that has `names`, by label; plain numbers are labels of these.

    Raises:
        DataError: a class that the data set lacks; `place` says where its classes are written.
    """
    numbers = {str(label): label for label in range(len(names))}
    known = {name: label for label, name in enumerate(names)}
    labels = numbers if set(classes.names) <= numbers.keys() and not set(classes.names) <= known.keys() else known
    if unknown := [name for name in classes.names if name not in labels]:
        raise DataError(
            f"{source} holds the class {unknown[0]}, and {place} has no such class ({_few(np.asarray(names))}):"
            " correct the label, or build a new data set."
        )
    table = np.asarray([labels[name] for name in classes.names])
    return Classes(tuple(names), {split: table[found] for split, found in classes.labels.items()})


def _check(source: object, splits: Mapping[str, np.ndarray], right: Callable[[int], bool], sentence: str) -> None:
    for split, labels in splits.items():
        wrong = [value for value in np.unique(labels).tolist() if not right(value)]
        if wrong:
            index = int(np.flatnonzero(labels == wrong[0])[0])
            word = "training" if split == "train" else split
            raise DataError(f"{source}: label {wrong[0]} of {word} example {index} {sentence}")


def merged(labels: Sequence[np.ndarray]) -> np.ndarray:
    """The labels of several files, one after the other: numbers if all are."""
    kinds = {array.dtype.kind for array in labels}
    return np.concatenate(list(labels) if len(kinds) == 1 else [array.astype(str) for array in labels])


def one_form(name: str) -> str:
    """A name in Unicode's composed form, so that é is one name, however it was typed."""
    return unicodedata.normalize("NFC", name)


def _few(values: np.ndarray) -> str:
    shown = ", ".join(map(str, values[:_SHOWN].tolist()))
    return shown + (", …" if len(values) > _SHOWN else "")
