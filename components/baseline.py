"""The baseline: the newest pushed model other than the candidate.

Every runner finds it in the same way, in TensorFlow Serving's base path. A runner with ML Metadata uses
`LatestPushedModelStrategy`, so that TFX's cache sees an unchanged baseline. A container step uses `LatestPushedModel`.
"""

import hashlib
import logging
import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import ml_metadata as mlmd
import tensorflow as tf
from google.protobuf.message import DecodeError
from ml_metadata.proto import metadata_store_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tfx import types
from tfx import v1 as tfx
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.utils import io_utils, path_utils

from components.assets_extra import read_labels, same_model
from components.trainer.export import PROBABILITIES

VERSION = "version"
"""The custom property of a baseline: which pushed version it is a copy of."""

log = logging.getLogger(__name__)

Tensors = dict[str, str]
"""Dtype and shape of each tensor by its name, such as `float32 [-1, 10]`; -1 is any size."""


class Signature(NamedTuple):
    """What a signature takes and returns."""

    inputs: Tensors
    outputs: Tensors


def list_versions(serving_dir: str) -> list[int]:
    """The versions that TensorFlow Serving would load from its base path, newest first; none without that folder.

    In an object store a push is many copies, `saved_model.pb` last: a folder without it is an incomplete push.
    """
    if not fileio.isdir(serving_dir):
        return []
    # Object stores list a folder with a slash behind it.
    names = [name.rstrip("/") for name in fileio.listdir(serving_dir)]
    found = (name for name in names if name.isdecimal() and fileio.exists(f"{serving_dir}/{name}/saved_model.pb"))
    return sorted(map(int, found), reverse=True)


def find_baseline(serving_dir: str, candidate: str) -> int | None:
    """The version of the newest pushed model that is not the SavedModel `candidate` and can be compared with it.

    A model can be compared if the signatures that both have take the same inputs, and the outputs that both have are
    the same: dtypes, shapes, and so the number of classes. Its classes must also have the same names. Each version
    that cannot be compared is logged, and so is a missing baseline.
    """
    wanted, labels, seen = _interface(candidate), read_labels(candidate), False
    for version in list_versions(serving_dir):
        folder = os.path.join(serving_dir, str(version))
        if same_model(folder, candidate):
            continue
        seen = True
        try:
            found = _interface(folder)
        except DecodeError:
            log.warning("Version %d in %s is no baseline: its saved_model.pb is damaged.", version, serving_dir)
            continue
        if PROBABILITIES not in found.get(tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY, Signature({}, {})).outputs:
            log.warning(
                "Version %d in %s is no baseline: it has no signature serving_default that returns %s.",
                *(version, serving_dir, PROBABILITIES),
            )
            continue
        if different := next(_differences(wanted, found), None):
            log.warning("Version %d in %s is no baseline: its %s.", version, serving_dir, different)
            continue
        if not has_weights(folder):
            log.warning("Version %d in %s is no baseline: its variables are damaged.", version, serving_dir)
            continue
        other_labels = read_labels(folder)
        if labels and other_labels and labels != other_labels:
            log.warning(
                "Version %d in %s is no baseline: its classes are %s, the candidate's are %s.",
                *(version, serving_dir, ", ".join(other_labels), ", ".join(labels)),
            )
            continue
        log.info("The baseline is version %d, the newest other model in %s.", version, serving_dir)
        return version
    others = "no other model in %s can be compared" if seen else "no other model was pushed to %s"
    log.info(f"There is no baseline: {others}.", serving_dir)
    return None


class LatestPushedModelStrategy(tfx.dsl.experimental.ResolverStrategy):
    """Resolves `model` to the baseline, copied once into the pipeline root and registered once in ML Metadata.

    The artifact keeps its id from run to run, so an unchanged run takes the evaluation from TFX's cache.

    Args:
        serving_dir: TensorFlow Serving's base path.
        baseline_dir: folder for the copies.
    """

    def __init__(self, serving_dir: str, baseline_dir: str) -> None:
        self._serving_dir, self._baseline_dir = serving_dir, baseline_dir

    def resolve_artifacts(
        self, store: mlmd.MetadataStore, input_dict: Mapping[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]]:
        (candidate,) = input_dict["candidate"]
        version = find_baseline(self._serving_dir, _saved_model(candidate))
        models = [self._register(store, version, candidate)] if version is not None else []
        return {**input_dict, "model": models}

    def _register(self, store: mlmd.MetadataStore, version: int, candidate: types.Artifact) -> types.Artifact:
        folder = os.path.join(self._serving_dir, str(version))
        baseline = tfx.types.standard_artifacts.Model()
        baseline.uri = os.path.join(self._baseline_dir, f"{version}-{_digest(folder)}")
        if not fileio.exists(baseline.uri):
            unfinished = tfx.types.standard_artifacts.Model()
            unfinished.uri = f"{baseline.uri}.unfinished"
            io_utils.copy_dir(folder, _saved_model(unfinished))
            fileio.rename(unfinished.uri, baseline.uri)
        known = store.get_artifacts_by_uri(baseline.uri)
        if not known:
            baseline.set_string_custom_property(VERSION, str(version))
            baseline.mlmd_artifact.type_id = candidate.type_id
            baseline.mlmd_artifact.state = metadata_store_pb2.Artifact.LIVE
            (identifier,) = store.put_artifacts([baseline.mlmd_artifact])
            known = store.get_artifacts_by_id([identifier])
        elif known[0].state != metadata_store_pb2.Artifact.LIVE:  # the copy was missing
            known[0].state = metadata_store_pb2.Artifact.LIVE
            store.put_artifacts([known[0]])
        (artifact_type,) = store.get_artifact_types_by_id([candidate.type_id])
        return artifact_utils.deserialize_artifact(artifact_type, known[0])


@tfx.dsl.components.component
def LatestPushedModel(
    candidate: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.Model],
    model: tfx.dsl.components.OutputArtifact[tfx.types.standard_artifacts.Model],
    serving_dir: tfx.dsl.components.Parameter[str],
) -> None:
    """Copies the baseline for the Evaluator.

    Args:
        candidate: the Trainer's model.
        model: the copy; empty if there is no baseline.
        serving_dir: TensorFlow Serving's base path.
    """
    version = find_baseline(serving_dir, _saved_model(candidate))
    if version is not None:
        io_utils.copy_dir(os.path.join(serving_dir, str(version)), _saved_model(model))
        model.set_string_custom_property(VERSION, str(version))


def _saved_model(artifact: types.Artifact) -> str:
    return path_utils.serving_model_path(artifact.uri, path_utils.is_old_model_artifact(artifact))


def _digest(folder: str) -> str:
    """A hash that differs between two models that were pushed under the same version number."""
    names = (name for name in ("fingerprint.pb", "saved_model.pb") if fileio.exists(f"{folder}/{name}"))
    with fileio.open(f"{folder}/{next(names)}", "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()[:16]


def has_weights(folder: str) -> bool:
    """Whether the variables of a SavedModel can be read."""
    try:
        reader = tf.train.load_checkpoint(os.path.join(folder, "variables", "variables"))
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
    except (tf.errors.OpError, ValueError, RuntimeError, IndexError):
        return False
    return True


def _interface(folder: str) -> dict[str, Signature]:
    """Each signature of a SavedModel, without loading it."""
    with fileio.open(f"{folder}/saved_model.pb", "rb") as file:
        graphs = saved_model_pb2.SavedModel.FromString(file.read()).meta_graphs
    return {
        name: Signature(_tensors(signature.inputs), _tensors(signature.outputs))
        for graph in graphs
        for name, signature in graph.signature_def.items()
        if not name.startswith("__")
    }


def _tensors(infos: Mapping[str, Any]) -> Tensors:
    return {
        name: f"{tf.as_dtype(info.dtype).name} {[dim.size for dim in info.tensor_shape.dim]}"
        for name, info in sorted(infos.items())
    }


def _differences(wanted: Mapping[str, Signature], found: Mapping[str, Signature]) -> Iterator[str]:
    """What differs between the signatures that two models have, in words; not an output that only one of them has."""
    for name in sorted(wanted.keys() & found.keys()):
        mine, other = wanted[name], found[name]
        if mine.inputs != other.inputs:
            yield f"signature {name} takes {_text(other.inputs)}, the candidate's {_text(mine.inputs)}"
        for output in sorted(mine.outputs.keys() & other.outputs.keys()):
            if mine.outputs[output] != other.outputs[output]:
                yield (
                    f"signature {name} returns {output} {other.outputs[output]}, the candidate's {mine.outputs[output]}"
                )


def _text(tensors: Tensors) -> str:
    return ", ".join(f"{name} {tensor}" for name, tensor in tensors.items())
