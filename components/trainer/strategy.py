"""The devices of one host: its GPUs, or logical devices of its CPU."""

from __future__ import annotations

import tensorflow as tf

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


def mirrored_strategy(replicas: int) -> tf.distribute.MirroredStrategy:
    """MirroredStrategy over all GPUs of this host, or over `replicas` logical CPU devices where there is none.

    Raises:
        UserError: TensorFlow has started with fewer devices.
    """
    gpus = tf.config.list_logical_devices("GPU")
    if gpus:
        return tf.distribute.MirroredStrategy([gpu.name for gpu in gpus])
    reserve_devices(replicas)
    return tf.distribute.MirroredStrategy([f"CPU:{index}" for index in range(replicas)])
