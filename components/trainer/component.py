"""TFX's Trainer. With a warm start, its cache also sees which pushed model and which days a training starts from."""

from __future__ import annotations

from tfx.components.trainer.component import Trainer as TfxTrainer
from tfx.dsl.components.base import base_driver
from tfx.orchestration import metadata
from tfx.orchestration.portable import base_driver as portable_driver
from tfx.orchestration.portable import data_types
from tfx.proto.orchestration import driver_output_pb2
from tfx.utils import json_utils

from components.trainer.settings import TrainerSettings
from components.trainer.warm_start import find_start

START = "start"


class StartDriver(base_driver.BaseDriver, portable_driver.BaseDriver):
    """Finds the model that a training starts from, before TFX looks into its cache."""

    def __init__(self, metadata_handle: metadata.Metadata) -> None:
        base_driver.BaseDriver.__init__(self, metadata_handle)
        portable_driver.BaseDriver.__init__(self, metadata_handle)

    def run(self, execution_info: data_types.ExecutionInfo) -> driver_output_pb2.DriverOutput:
        """Adds the start to the execution properties."""
        settings = TrainerSettings.model_validate(json_utils.loads(execution_info.exec_properties["custom_config"]))
        output = driver_output_pb2.DriverOutput()
        if settings.training.warm_start:
            (examples,) = execution_info.input_dict["examples"]
            output.exec_properties[START].string_value = find_start(settings, examples.uri).identity
        return output


class Trainer(TfxTrainer):
    """TFX's Trainer with the driver above."""

    DRIVER_CLASS = StartDriver
