"""The models that are being served, found in TF Serving's base path, where no resolver can ask ML Metadata."""

import logging
import os

import tensorflow as tf
from tfx import v1 as tfx
from tfx.dsl.io import fileio
from tfx.utils import io_utils, path_utils

log = logging.getLogger(__name__)


def versions(serving_dir: str) -> list[int]:
    """The versions TF Serving would load from its base path, newest first; none where there is no such folder.

    In an object store a push is many copies, `saved_model.pb` last: a folder without it is a push that broke off.
    """
    if not fileio.isdir(serving_dir):
        return []
    # Object stores list a folder with a slash behind it.
    names = [name.rstrip("/") for name in fileio.listdir(serving_dir)]
    found = (name for name in names if name.isdecimal() and fileio.exists(f"{serving_dir}/{name}/saved_model.pb"))
    return sorted(map(int, found), reverse=True)


def same_model(one: str, other: str) -> bool:
    """Whether two folders hold copies of one SavedModel, by the fingerprint `tf.saved_model.save` leaves in it."""
    try:
        first, second = (tf.saved_model.experimental.read_fingerprint(folder) for folder in (one, other))
    except FileNotFoundError:
        return False
    return vars(first) == vars(second)


@tfx.dsl.components.component
def ServedModel(
    candidate: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.Model],
    model: tfx.dsl.components.OutputArtifact[tfx.types.standard_artifacts.Model],
    serving_dir: tfx.dsl.components.Parameter[str],
    code: tfx.dsl.components.Parameter[str],
) -> None:
    """Copies the newest served version other than the candidate, for the Evaluator to compare the candidate with.

    A container's stand-in for LatestOtherBlessedModel, for only what was blessed is pushed.

    Args:
        candidate: the Trainer's model.
        model: the copy; empty where no other model is served, and then the Evaluator has no baseline.
        serving_dir: TF Serving's base path.
        code: fingerprint of this file, for the cache.
    """
    own = path_utils.serving_model_path(candidate.uri, path_utils.is_old_model_artifact(candidate))
    for version in versions(serving_dir):
        folder = os.path.join(serving_dir, str(version))
        if not same_model(folder, own):
            io_utils.copy_dir(folder, path_utils.serving_model_path(model.uri))
            model.set_string_custom_property("version", str(version))
            log.info("The baseline is version %d, the newest in %s but for the candidate.", version, serving_dir)
            return
    log.info("There is no baseline: no other model is served from %s.", serving_dir)
