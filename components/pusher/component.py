"""The Pusher whose push is atomic and happens once: a server that watches the folder sees a whole version or none."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

from tfx import types
from tfx import v1 as tfx
from tfx.components.pusher import executor
from tfx.dsl.components.base import executor_spec
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.utils import io_utils, proto_utils

from components.baseline import list_versions, same_model
from data.storage import remove_older

_HIDDEN = ".pushing-"


class AtomicExecutor(executor.Executor):
    """TFX's executor, pushing to a hidden folder beside the versions and renaming it afterwards.

    A model that is already the newest version is not pushed again: an orchestrator may try a step twice, or may
    evaluate an unchanged model again. The new version is always above the newest one, also if the clock is behind:
    TF Serving serves the highest number. An object store (`gs://`, `s3://`) has no rename: there TFX's own push runs,
    `saved_model.pb` last.
    """

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Pushes if every blessing is there."""
        destination = tfx.proto.PushDestination()
        proto_utils.json_to_proto(exec_properties["push_destination"], destination)
        base = destination.filesystem.base_directory
        pushed = artifact_utils.get_single_instance(output_dict["pushed_model"])
        newest = next(iter(list_versions(base)), 0)
        newest_folder = os.path.join(base, str(newest))
        if self.CheckBlessing(input_dict) and same_model(newest_folder, self.GetModelPath(input_dict)):
            io_utils.copy_dir(newest_folder, pushed.uri)
            self._MarkPushed(pushed, pushed_destination=newest_folder, pushed_version=str(newest))
            return
        if "://" in base:
            super().Do(input_dict, output_dict, exec_properties)
            return
        # A push that was killed leaves its folder. A younger folder may belong to a push that still runs.
        remove_older(Path(base), f"{_HIDDEN}*", seconds=24 * 60 * 60)
        hidden = os.path.join(base, f"{_HIDDEN}{uuid.uuid4().hex}")
        destination.filesystem.base_directory = hidden
        try:
            hidden_push = {**exec_properties, "push_destination": proto_utils.proto_to_json(destination)}
            super().Do(input_dict, output_dict, hidden_push)
            if pushed.get_int_custom_property("pushed"):
                version = max(int(pushed.get_string_custom_property("pushed_version")), newest + 1)
                while fileio.exists(os.path.join(base, str(version))):
                    version += 1  # versions are seconds, and another push took this one
                final = os.path.join(base, str(version))
                fileio.rename(pushed.get_string_custom_property("pushed_destination"), final)
                self._MarkPushed(pushed, pushed_destination=final, pushed_version=str(version))
        finally:
            if fileio.exists(hidden):
                fileio.rmtree(hidden)


class AtomicPusher(tfx.components.Pusher):
    """TFX's Pusher with the executor above."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(AtomicExecutor)
