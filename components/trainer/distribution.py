"""Where the network trains: several hosts, or the GPUs of this one, or logical devices of its CPU."""

from __future__ import annotations

import tensorflow as tf

from components.trainer.cluster import meet, this_host
from data.errors import UserError


def reserve_devices(replicas: int) -> None:
    """Splits the CPU into `replicas` logical devices where there is no GPU.

    On one of several hosts it leaves the GPUs to the training, which has a process of its own there.
    TensorFlow takes either only before its first operation, so a process that runs the pipeline calls it first.

    Raises:
        ConfigError: TF_CONFIG cannot be used.
        UserError: TensorFlow has started with fewer devices.
    """
    if this_host():
        tf.config.set_visible_devices([], "GPU")
        return
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


def choose_strategy(replicas: int) -> tf.distribute.Strategy:
    """MultiWorkerMirroredStrategy where TF_CONFIG lists several hosts, else MirroredStrategy.

    On several hosts it waits for all of them, and each brings all its GPUs or, without any, its CPU as one replica.
    On one host the replicas are all its GPUs, or `replicas` logical CPU devices where there is none.

    Raises:
        ConfigError: TF_CONFIG cannot be used.
        UserError: the hosts did not meet, or TensorFlow has started with fewer devices.
    """
    host = this_host()
    if host:
        return meet(host)
    gpus = tf.config.list_logical_devices("GPU")
    if gpus:
        return tf.distribute.MirroredStrategy([gpu.name for gpu in gpus])
    reserve_devices(replicas)
    return tf.distribute.MirroredStrategy([f"CPU:{index}" for index in range(replicas)])
