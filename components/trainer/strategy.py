"""The devices of one host: its GPUs, or logical devices of its CPU; and the precision that they are good at."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf

from components.trainer.settings import Training
from data.errors import UserError


def reserve_devices(replicas: int) -> None:
    """Splits the CPU into `replicas` logical devices where there is no GPU.

    TensorFlow allows this only before its first operation, so a process that runs the pipeline calls it first.

    Raises:
        UserError: TensorFlow has started with fewer devices.
    """
    if replicas == 1 or tf.config.list_physical_devices("GPU"):
        return
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * replicas)
    except RuntimeError:
        if len(tf.config.list_logical_devices("CPU")) < replicas:
            raise UserError(
                f"training.replicas = {replicas}, but TensorFlow already runs with"
                f" {len(tf.config.list_logical_devices('CPU'))} CPU device(s): start a new process."
            ) from None


def with_precision(training: Training, cpu_info: Path = Path("/proc/cpuinfo")) -> Training:
    """The settings with a Keras policy instead of "auto".

    bfloat16 pays on a CPU that has instructions for it; others emulate it, slowly. No GPU was there to measure, so
    "auto" leaves a GPU with float32.
    """
    if training.precision != "auto":
        return training
    flags = cpu_info.read_text().split() if cpu_info.exists() else []
    bfloat16 = {"avx512_bf16", "amx_bf16"} & set(flags) and not tf.config.list_physical_devices("GPU")
    return training.model_copy(update={"precision": "mixed_bfloat16" if bfloat16 else "float32"})
