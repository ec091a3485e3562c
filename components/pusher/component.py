"""The Pusher whose push is atomic and happens once: a server that watches the folder sees a whole version or none.

Each version carries its provenance. A model that was rolled back is not pushed again.
"""

from __future__ import annotations

import json
import logging
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfx import types
from tfx.components.pusher import component, executor
from tfx.dsl.components.base import executor_spec
from tfx.dsl.io import fileio
from tfx.proto import pusher_pb2
from tfx.types import artifact_utils
from tfx.types.component_spec import ChannelParameter
from tfx.utils import io_utils, proto_utils

from components.digests import DIGEST, read_digests
from components.evaluator.report import read_evaluation
from components.infra_validator.report import SERVER
from components.version_folder import (
    MODELS,
    ROLLED_BACK,
    environment,
    has_weights,
    model_id,
    read_provenance,
    read_warm_start,
    same_model,
    version_folders,
    write_provenance,
)
from data.errors import UserError
from data.example import ExampleSpec
from data.process import remove_older
from data.reference import IN_VERSION, REFERENCE
from data.signature import fingerprint, private_key, sign, signed_by

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

HIDDEN = ".pushing-"
"""The beginning of the name of a folder that becomes a version, or was to become one."""
SIGN_KEY = "sign_key"
"""The execution property that names the key. It does not hold it."""
_LARGEST_VERSION = 2**63 - 1

log = logging.getLogger(__name__)


@contextmanager
def hidden_folder(base: str) -> Iterator[str]:
    """The path of a hidden folder in TensorFlow Serving's base path, for a version to be; removed at the end."""
    # A push that was killed leaves its folder. A younger folder may belong to a push that still runs.
    remove_older(Path(base), f"{HIDDEN}*", seconds=24 * 60 * 60)
    hidden = os.path.join(base, f"{HIDDEN}{uuid.uuid4().hex}")
    try:
        yield hidden
    finally:
        if fileio.exists(hidden):
            fileio.rmtree(hidden)


def publish(folder: str, base: str, version: int) -> int:
    """Makes `folder` a version in `base` by one rename, and returns its number.

    That is `version`, or the next that is free: versions are seconds, and another push may have taken this one.
    """
    version = _free(base, version)
    fileio.rename(folder, os.path.join(base, str(version)))
    return version


def _free(base: str, version: int) -> int:
    """The first number from `version` on that no folder has."""
    while fileio.exists(os.path.join(base, str(version))):
        version += 1
    return version


def _copy(model: str, folder: str, provenance: dict[str, Any], evaluation: str) -> None:
    """Copies a SavedModel with its provenance and the reference of its evaluation.

    A server takes `saved_model.pb` for the sign that all is there.
    """
    log.debug("Copies the model to %s.", folder)
    io_utils.copy_dir(model, folder, deny_regex_patterns=[r"/saved_model\.pb$"])
    write_provenance(folder, provenance)
    io_utils.copy_file(os.path.join(evaluation, REFERENCE), os.path.join(folder, IN_VERSION))
    io_utils.copy_file(os.path.join(model, "saved_model.pb"), os.path.join(folder, "saved_model.pb"))


def _sign(folder: str, key: EllipticCurvePrivateKey | None, base: str) -> None:
    if key:
        sign(folder, key, Path(base).name)
        log.info("Signed with the key %s….", fingerprint(key)[:16])


def _is_whole(folder: str, model: str) -> bool:
    """Whether the version `folder` has each file of the SavedModel `model`, and weights that can be read."""
    files = [os.path.join(parent, name) for parent, _, names in fileio.walk(model) for name in names]
    return all(fileio.exists(os.path.join(folder, os.path.relpath(file, model))) for file in files) and (
        has_weights(folder)
    )


def rolled_back(folder: str) -> list[str]:
    """The models that a roll-back, whose copy is the version `folder`, replaced; empty if the version is no copy."""
    try:
        about = read_provenance(folder).get(ROLLED_BACK) or {}
    except UserError:
        return []
    return about.get(MODELS, [])


class AtomicExecutor(executor.Executor):
    """TFX's executor, pushing to a hidden folder beside the versions and renaming it afterwards.

    A model that is already the newest version is not pushed again: an orchestrator may try a step twice, or may
    evaluate an unchanged model again. It is pushed again if that version is not signed with the key. A model that was
    rolled back is not pushed while the roll-back is the newest version. A new version is always above the newest one,
    also if the clock is behind: TF Serving serves the highest number. An object store (`gs://`, `s3://`) has no rename:
    there `saved_model.pb` comes last.
    """

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Pushes if every blessing is there."""
        destination = pusher_pb2.PushDestination()
        proto_utils.json_to_proto(exec_properties["push_destination"], destination)
        base = destination.filesystem.base_directory
        pushed = artifact_utils.get_single_instance(output_dict["pushed_model"])
        setting = exec_properties.get(SIGN_KEY)
        key = private_key(setting) if setting else None
        newest_folder = next(iter(version_folders(base)), None)
        newest = int(Path(newest_folder).name) if newest_folder else 0
        if newest >= _LARGEST_VERSION:
            raise UserError(
                f"No version can follow {newest} in {base}: it is the largest number of TensorFlow Serving."
                " Remove this folder, or give it a smaller number."
            )
        if newest_folder and self.CheckBlessing(input_dict):
            model = self.GetModelPath(input_dict)
            signed = key is None or signed_by(newest_folder) == fingerprint(key)
            if same_model(newest_folder, model) and _is_whole(newest_folder, model) and signed:
                self._mark(pushed, newest_folder)
                return
            if model_id(model) in rolled_back(newest_folder):
                log.warning("The model is not pushed: a roll-back serves version %d instead of it.", newest)
                known = next((folder for folder in version_folders(base) if same_model(folder, model)), None)
                self._mark(pushed, known)
                return
        if not self.CheckBlessing(input_dict):
            self._MarkNotPushed(pushed)
            return
        model, provenance = self.GetModelPath(input_dict), self._provenance(input_dict, exec_properties)
        evaluation = artifact_utils.get_single_uri(input_dict["evaluation"])
        version = max(int(time.time()), newest + 1)
        if "://" in base:
            version = _free(base, version)
            _copy(model, os.path.join(base, str(version)), provenance, evaluation)
            _sign(os.path.join(base, str(version)), key, base)
        else:
            with hidden_folder(base) as folder:
                _copy(model, folder, provenance, evaluation)
                _sign(folder, key, base)
                version = publish(folder, base, version)
        self._mark(pushed, os.path.join(base, str(version)))

    def _mark(self, pushed: types.Artifact, folder: str | None) -> None:
        """Names the version `folder` that holds the model; without one, the model is not pushed."""
        if folder:
            io_utils.copy_dir(folder, pushed.uri)
            self._MarkPushed(pushed, pushed_destination=folder, pushed_version=Path(folder).name)
        else:
            self._MarkNotPushed(pushed)

    def _provenance(
        self, input_dict: dict[str, list[types.Artifact]], exec_properties: dict[str, Any]
    ) -> dict[str, Any]:
        """What the version folder says about its model."""
        known = json.loads(exec_properties["provenance"])
        (examples,), (evaluation,), (blessing,) = (
            input_dict[key] for key in ("examples", "evaluation", "infra_blessing")
        )
        labels = ExampleSpec.model_validate(known["example"]).labels
        found, start = read_evaluation(evaluation.uri, labels), read_warm_start(self.GetModelPath(input_dict))
        return {
            "run": self._context.pipeline_run_id if self._context else None,
            "pushed": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            **known,
            "data": {"digest": examples.get_string_custom_property(DIGEST), "files": read_digests(examples.uri)},
            **({"warm_start": start} if start else {}),
            "evaluation": found.figures,
            "gates": [asdict(gate) for gate in found.gates],
            "infra_check": {"server": blessing.get_string_custom_property(SERVER), "artifact": blessing.uri},
            "packages": environment(),
        }


class AtomicPusher(component.Pusher):
    """TFX's Pusher with the executor above. It pushes the copy that the infra check served and warmed up.

    Args:
        examples: of ExampleGen.
        evaluation: of the Evaluator.
        model_blessing: of the Evaluator.
        infra_blessing: of the infra check.
        serving_dir: TensorFlow Serving's base path.
        provenance: what the version folder says about its model, beside what the inputs say; with an `ExampleSpec`
            as `example`.
        sign_key: names the key that signs a version, as `data.signature.private_key` takes it; "" for none.
        signer: the fingerprint of that key, or "" if it is not known yet. TFX's cache must see another one.
    """

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(AtomicExecutor)

    def __init__(
        self,
        examples: types.BaseChannel,
        evaluation: types.BaseChannel,
        model_blessing: types.BaseChannel,
        infra_blessing: types.BaseChannel,
        serving_dir: str,
        provenance: dict[str, Any],
        sign_key: str = "",
        signer: str = "",
    ) -> None:
        super().__init__(
            model_blessing=model_blessing,
            infra_blessing=infra_blessing,
            push_destination=pusher_pb2.PushDestination(
                filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=serving_dir)
            ),
        )
        for name, channel in (("examples", examples), ("evaluation", evaluation)):
            self.spec.INPUTS = {**self.spec.INPUTS, name: ChannelParameter(type=channel.type)}
            self.inputs[name] = channel
        self.exec_properties[SIGN_KEY], self.exec_properties["signer"] = sign_key, signer
        self.exec_properties["provenance"] = json.dumps(provenance, sort_keys=True, ensure_ascii=False)
