"""The baseline: the newest pushed model other than the candidate.

Every runner finds it in the same way, in TensorFlow Serving's base path. A runner with ML Metadata uses
`LatestPushedModelStrategy`, so that TFX's cache sees an unchanged baseline. A container step uses `LatestPushedModel`.
"""

import logging
import os
from collections.abc import Mapping
from pathlib import Path

import ml_metadata as mlmd
import tensorflow as tf
from google.protobuf.message import DecodeError
from ml_metadata.proto import metadata_store_pb2
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2
from tfx import types
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.components.common.resolver import ResolverStrategy
from tfx.dsl.io import fileio
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import io_utils, path_utils

from components.trainer.signatures import PROBABILITIES, SERVING_DEFAULT
from components.version_folder import (
    VERSION,
    has_weights,
    model_id,
    read_labels,
    same_model,
    saved_model,
    version_folders,
)

UNFINISHED = ".unfinished"
"""The ending of a folder that a killed run did not finish copying."""

log = logging.getLogger(__name__)


def find_baseline(serving_dir: str, candidate: str) -> str | None:
    """The version folder of the newest pushed model that is not the SavedModel `candidate` and can be compared with it.

    A model can be compared if the signatures that both have take the same inputs, and the outputs that both have are
    the same: dtypes, shapes, and so the number of classes. Its classes must also have the same names. Each version
    that cannot be compared is logged, and so is a missing baseline.
    """
    labels, others = read_labels(candidate), False
    for folder in version_folders(serving_dir):
        if same_model(folder, candidate):
            continue
        others = True
        if problem := _problem(folder, candidate, labels):
            log.warning("Version %s in %s is no baseline: %s.", Path(folder).name, serving_dir, problem)
            continue
        log.info("The baseline is version %s, the newest other model in %s.", Path(folder).name, serving_dir)
        return folder
    why = "no other model in %s can be compared" if others else "no other model was pushed to %s"
    log.info(f"There is no baseline: {why}.", serving_dir)
    return None


def _problem(folder: str, candidate: str, labels: tuple[str, ...]) -> str:
    """Why the model in `folder` cannot be compared with `candidate`, whose classes are `labels`; empty if it can."""
    try:
        wanted, found = _interface(candidate), _interface(folder)
    except DecodeError:
        return "its saved_model.pb is damaged"
    if f"{SERVING_DEFAULT} returns {PROBABILITIES}" not in found:
        return f"it has no signature {SERVING_DEFAULT} that returns {PROBABILITIES}"
    for what in sorted(wanted.keys() & found.keys()):
        if wanted[what] != found[what]:
            return f"its signature {what} {found[what]}, the candidate's {wanted[what]}"
    if not has_weights(folder):
        return "its variables are damaged"
    other = read_labels(folder)
    if labels and other and labels != other:
        return f"its classes are {', '.join(other)}, the candidate's are {', '.join(labels)}"
    return ""


class LatestPushedModelStrategy(ResolverStrategy):
    """Resolves `model`, the candidate, to the baseline, copied once into the pipeline root and registered once.

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
        (candidate,) = input_dict["model"]
        folder = find_baseline(self._serving_dir, saved_model(candidate))
        return {"model": [self._register(store, folder, candidate)] if folder else []}

    def _register(self, store: mlmd.MetadataStore, folder: str, candidate: types.Artifact) -> types.Artifact:
        version = Path(folder).name
        baseline = standard_artifacts.Model()
        baseline.uri = os.path.join(self._baseline_dir, f"{version}-{(model_id(folder) or '')[:16]}")
        live = metadata_store_pb2.Artifact.LIVE
        known = next(iter(store.get_artifacts_by_uri(baseline.uri)), None)
        if known is None or known.state != live or not fileio.exists(baseline.uri):
            # A copy whose files are gone or have changed is not live: pipeline.runs.store looks before each run.
            unfinished = f"{baseline.uri}{UNFINISHED}"
            for leftover in filter(fileio.exists, (unfinished, baseline.uri)):
                fileio.rmtree(leftover)
            io_utils.copy_dir(folder, path_utils.serving_model_path(unfinished))
            fileio.rename(unfinished, baseline.uri)
        if known is None:
            baseline.set_string_custom_property(VERSION, version)
            known = baseline.mlmd_artifact
            known.type_id = candidate.type_id
        if known.state != live:
            known.state = live
            (identifier,) = store.put_artifacts([known])
            (known,) = store.get_artifacts_by_id([identifier])
        (artifact_type,) = store.get_artifact_types_by_id([candidate.type_id])
        return artifact_utils.deserialize_artifact(artifact_type, known)


@component
def LatestPushedModel(
    candidate: InputArtifact[standard_artifacts.Model],
    model: OutputArtifact[standard_artifacts.Model],
    serving_dir: Parameter[str],
) -> None:
    """Copies the baseline for the Evaluator.

    Args:
        candidate: the Trainer's model.
        model: the copy; empty if there is no baseline.
        serving_dir: TensorFlow Serving's base path.
    """
    if folder := find_baseline(serving_dir, saved_model(candidate)):
        io_utils.copy_dir(folder, saved_model(model))
        model.set_string_custom_property(VERSION, Path(folder).name)


def read_signatures(folder: str) -> dict[str, meta_graph_pb2.SignatureDef]:
    """The signatures of a SavedModel by their names, without loading it.

    Raises:
        google.protobuf.message.DecodeError: `saved_model.pb` is damaged.
    """
    with fileio.open(f"{folder}/saved_model.pb", "rb") as file:
        graphs = saved_model_pb2.SavedModel.FromString(file.read()).meta_graphs
    found = {name: signature for graph in graphs for name, signature in graph.signature_def.items()}
    return {name: signature for name, signature in found.items() if not name.startswith("__")}


def _interface(folder: str) -> dict[str, str]:
    """What the signatures of a SavedModel take, all inputs together, and return, each output by itself; in words."""
    words: dict[str, str] = {}
    for name, signature in read_signatures(folder).items():
        words[f"{name} takes"] = ", ".join(f"{key} {_tensor(info)}" for key, info in sorted(signature.inputs.items()))
        words |= {f"{name} returns {key}": _tensor(info) for key, info in signature.outputs.items()}
    return words


def _tensor(info: meta_graph_pb2.TensorInfo) -> str:
    """Dtype and shape, such as `float32 [-1, 10]`; -1 is any size."""
    return f"{tf.as_dtype(info.dtype).name} {[dim.size for dim in info.tensor_shape.dim]}"
