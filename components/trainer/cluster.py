"""The training hosts: what TF_CONFIG says of this one, its devices and their precision, and what all do together.

A single host is also a Cluster, so the Trainer needs only one code path.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.distribute import multi_worker_util

from components.trainer.process import run_in_process
from components.trainer.settings import Training
from data.errors import SettingsError, UserError

# What a collective operation raises when a host is gone.
LOST_HOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.InternalError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Host:
    """This host among those that TF_CONFIG lists: `index` of `count`, the chief is 0; and the chief's host:port."""

    resolver: tf.distribute.cluster_resolver.TFConfigClusterResolver
    index: int
    count: int
    chief: str

    @property
    def is_chief(self) -> bool:
        return self.index == 0


def this_host() -> Host | None:
    """This host as TF_CONFIG describes it; None without TF_CONFIG, or if it lists a single host.

    Raises:
        SettingsError: TF_CONFIG cannot be read, or gives this host a task that does not train.
    """
    try:
        resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
        spec, kind, task = resolver.cluster_spec(), resolver.task_type, resolver.task_id
        if not spec.jobs:
            return None
        if kind is None:
            raise ValueError("it names no task for this host")
        if kind not in ("chief", "worker"):
            raise SettingsError(
                f"TF_CONFIG makes this host a {kind!r}; only 'chief' and 'worker' train here: leave the others out."
            )
        count = multi_worker_util.worker_count(spec, kind)
        if count == 1:
            return None
        leader = ("chief" if "chief" in spec.jobs else "worker", 0)
        return Host(resolver, multi_worker_util.id_in_cluster(spec, kind, task), count, spec.task_address(*leader))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SettingsError(
            f"TF_CONFIG cannot be used: {str(error).rstrip('.') or type(error).__name__}."
            ' It looks like {"cluster": {"chief": ["host:port"], "worker": ["host:port", …]},'
            ' "task": {"type": "worker", "index": 0}}.'
        ) from None


def prepare_devices(replicas: int) -> None:
    """Prepares this process, which runs the pipeline, before its first use of TensorFlow.

    On one of several hosts it leaves the GPUs to the training, which runs in a process of its own.

    Raises:
        SettingsError: TF_CONFIG cannot be used.
        UserError: TensorFlow has started with fewer devices than `replicas`.
    """
    if this_host():
        tf.config.set_visible_devices([], "GPU")
    else:
        reserve_devices(replicas)


def reserve_devices(replicas: int) -> None:
    """Splits the CPU into `replicas` logical devices where there is no GPU; each computes with its share of the cores.

    TensorFlow allows this only before its first operation, so a process that runs the pipeline calls it first.

    Raises:
        UserError: TensorFlow has started with fewer devices.
    """
    if replicas == 1 or tf.config.list_physical_devices("GPU"):
        return
    cpu = tf.config.list_physical_devices("CPU")[0]
    cores = int(os.environ.get("TF_NUM_INTRAOP_THREADS") or len(os.sched_getaffinity(0)))
    try:
        tf.config.threading.set_intra_op_parallelism_threads(max(1, cores // replicas))
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


def describe_hardware(training: Training) -> str:
    """Hosts and devices that will train, such as "1 x 2 CPU". What is learned depends on them."""
    host, gpus = this_host(), len(tf.config.list_physical_devices("GPU"))
    devices = f"{gpus} GPU" if gpus else f"{1 if host else training.replicas} CPU"
    precision = f", {with_precision(training).precision}" if training.precision == "auto" else ""
    return f"{host.count if host else 1} x {devices}{precision}"


class Cluster:
    """The hosts that train together. All of them call the same methods in the same order.

    Attributes:
        strategy: MultiWorkerMirroredStrategy on several hosts, MirroredStrategy on one.
        stage: how far the training is, for the message about a lost host.
    """

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self.strategy = strategy
        self.stage = "before the first epoch"

    @property
    def is_chief(self) -> bool:
        """True on the one host that writes checkpoints, logs and the model."""
        return self.strategy.extended.should_checkpoint

    @contextmanager
    def together(self) -> Iterator[None]:
        """Encloses what needs every host.

        Raises:
            UserError: a host was lost.
        """
        try:
            yield
        except LOST_HOST as error:
            if not isinstance(self.strategy, tf.distribute.MultiWorkerMirroredStrategy):
                raise
            raise UserError(
                f"A training host was lost {self.stage}: {short_message(error)}. Start the same command on every host"
                " again: the training continues from its last finished epoch."
            ) from error

    def broadcast(self, text: str) -> str:
        """The chief's `text`, on every host; the other hosts' own text is ignored."""
        content = np.frombuffer(text.encode(), np.uint8).astype(np.int32)
        length = self._broadcast(np.array([len(content)], np.int32))[0]
        return bytes(self._broadcast(np.resize(content, length)).astype(np.uint8)).decode()

    def finish(self) -> None:
        """Waits until every host is here. So the chief, if it starts again during its export, finds the others."""
        self.stage = "after the last epoch"
        self._broadcast(np.zeros(1, np.int32))
        if not self.is_chief:
            time.sleep(2)  # or the other hosts may not receive this host's last message

    def _broadcast(self, numbers: np.ndarray) -> np.ndarray:
        """A sum over all replicas. Only the first one, the chief's, adds numbers other than zero."""

        def value(context: tf.distribute.experimental.ValueContext) -> tf.Tensor:
            return tf.constant(numbers if context.replica_id_in_sync_group == 0 else np.zeros_like(numbers))

        with self.together():
            values = self.strategy.experimental_distribute_values_from_function(value)
            return self.strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None).numpy()


def connect(replicas: int) -> Cluster:
    """The cluster that TF_CONFIG describes, or this host alone, with `replicas` logical CPU devices if it has no GPU.

    Each of several hosts brings all its GPUs or, without any, its CPU as one replica. They wait for each other, up to
    TensorFlow's limit of one hour. Meanwhile the process ignores signals and blocks all Python threads. It must be
    its first use of TensorFlow: see `launch`.

    Raises:
        SettingsError: TF_CONFIG cannot be used.
        UserError: the hosts did not connect, or TensorFlow has started with fewer devices.
    """
    host = this_host()
    if host is None:
        reserve_devices(replicas)
        gpus = [gpu.name for gpu in tf.config.list_logical_devices("GPU")]
        return Cluster(tf.distribute.MirroredStrategy(gpus or [f"CPU:{index}" for index in range(replicas)]))
    try:
        return Cluster(tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=host.resolver))
    except (tf.errors.OpError, RuntimeError) as error:
        raise UserError(
            f"The {host.count} training hosts did not connect: {short_message(error)}."
            " Start the same command on every host; TF_CONFIG must give each its own task."
        ) from error


def launch(function: Callable[[Any], None], argument: Any) -> None:
    """Calls `function` with `argument`: here, or in a process of its own where TF_CONFIG lists several hosts.

    Raises:
        UserError: what `function` raises, or the process was killed.
    """
    host = this_host()
    if host is None:
        function(argument)
        return
    if host.is_chief:
        log.info("Host 1 of %d, the chief: waits for the others.", host.count)
    run_in_process(function, argument)


def short_message(error: BaseException) -> str:
    """The cause in a TensorFlow error, whose message also lists the nodes of the graph; at most 200 characters."""
    text = str(error)
    cause = re.search(r"Collective ops is aborted by: ([^\n]*)", text) or re.search(r"(\S[^\n]*)", text)
    target = re.search(r"remote target (/job:\w+/replica:\d+/task:\d+)", text)
    short = cause[1].strip().rstrip(".:") if cause else type(error).__name__
    return short[:200] + (f" ({target[1]})" if target else "")
