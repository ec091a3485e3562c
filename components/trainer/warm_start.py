"""Warm start: which pushed model a training starts from, which days are new to it, and what it is written."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from pydantic import BaseModel

from components.digests import day_digests, days_of_files, learned_days, read_digests
from components.trainer.settings import TrainerSettings
from components.version_folder import has_weights, model_id, read_provenance, version_folders
from data.days import in_order, span_of, to_text
from data.errors import UserError


class Start(BaseModel):
    """How a training starts: from the version in `folder`, or from scratch if that is empty.

    `bases` are the models that stand in the line of this one, the first one first: version, model id, and days of each.
    `new_days` are the labels of the days that the base has not seen; `reason` says why there is no base.
    """

    folder: str = ""
    bases: list[dict[str, str]] = []
    new_days: list[str] = []
    reason: str = ""

    @property
    def identity(self) -> str:
        """What the result depends on, for TFX's cache."""
        return f"{self.bases[-1]['model_id']}, new: {to_text(self.new_days)}" if self.folder else "from scratch"

    def files(self, patterns: Sequence[str], examples: str) -> tuple[list[str], list[str]]:
        """The files of the new days, and those of the others, among the imported examples that match `patterns`."""
        days, new = days_of_files(examples), set(self.new_days)
        files = sorted(file for pattern in patterns for file in tf.io.gfile.glob(pattern))
        is_new = [days[file.rpartition("/")[2]] in new for file in files]
        return [*compress(files, is_new)], [*compress(files, (not value for value in is_new))]

    def __str__(self) -> str:
        if not self.folder:
            return f"Trains from scratch: {self.reason}."
        base = self.bases[-1]
        return (
            f"Starts from version {base['version']}, which has learned {base['days']}. New: {to_text(self.new_days)}."
        )


def find_start(settings: TrainerSettings, examples: str) -> Start:
    """The start of a training on the imported examples at the URI `examples`.

    The base is the newest pushed model that was trained on other days, so the same days give the same base again. A
    model that does not fit, or has learned a day as it no longer is, is no base.
    """
    days = day_digests(read_digests(examples))
    for folder in version_folders(settings.serving_dir):
        version = f"version {Path(folder).name}"
        try:
            provenance = read_provenance(folder)
        except UserError:
            return Start(reason=f"the provenance of {version} is damaged")
        known = learned_days(provenance)
        if known == days:
            continue
        if problem := _problem(folder, provenance, settings):
            return Start(reason=f"{version} does not fit, {problem}")
        if changed := in_order(day for day in known.keys() & days.keys() if known[day] != days[day]):
            return Start(reason=f"the day {changed[0]} has changed since {version} has learned it")
        oldest = min(map(span_of, days))
        if gone := [day for day in in_order(known.keys() - days.keys()) if span_of(day) >= oldest]:
            return Start(reason=f"{version} has learned the day {gone[0]}, which is gone or has a new version")
        if not (new_days := in_order(days.keys() - known.keys())):
            return Start(reason=f"no day is new to {version}")
        bases = (provenance.get("warm_start") or {}).get("bases", [])
        if settings.training.from_scratch_every and len(bases) + 1 >= settings.training.from_scratch_every:
            return Start(reason=f"{len(bases) + 1} models have one start, as training.from_scratch_every says")
        base = {"version": Path(folder).name, "model_id": model_id(folder) or "", "days": to_text(known)}
        return Start(folder=folder, bases=[*bases, base], new_days=new_days)
    return Start(reason=f"no model of other days was pushed to {settings.serving_dir}")


def _problem(folder: str, provenance: dict[str, Any], settings: TrainerSettings) -> str:
    """Why a training cannot start from the version in `folder`; empty if it can."""
    if not provenance.get("data"):
        return "it has no provenance"
    if (provenance.get("settings") or {}).get("model") != settings.model.model_dump(mode="json"):
        return "its network is another one"
    if provenance.get("example") != settings.example.model_dump(mode="json"):
        return "it reads other examples"
    if (provenance.get("fingerprints") or {}).get("Transform") != settings.preprocessing:
        return "its sequences are made by other code or libraries"
    return "" if has_weights(folder) else "its variables are damaged"


def read_weights(folder: str, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    """The variables of the model in a version folder, in the order of Keras' `get_weights`.

    Raises:
        UserError: they have not these shapes.
    """
    reader = tf.train.load_checkpoint(os.path.join(folder, "variables", "variables"))
    names = [f"model_variables/{index}/.ATTRIBUTES/VARIABLE_VALUE" for index in range(len(shapes))]
    found = reader.get_variable_to_shape_map()
    if [tuple(found.get(name, ())) for name in names] != [tuple(shape) for shape in shapes]:
        raise UserError(
            f"The network of {folder} is not that of this code: train once with --set training.warm_start=false."
        )
    return [reader.get_tensor(name) for name in names]
