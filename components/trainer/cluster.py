"""Several training hosts: who this one is, how they meet, and what is said when one is lost."""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection
from queue import Queue
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.distribute import multi_worker_util

from data.errors import ConfigError, UserError

LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.InternalError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
)


@dataclass(frozen=True)
class Host:
    """This host among those TF_CONFIG lists: `index` of `count`, the chief being 0, and the chief's host:port."""

    resolver: tf.distribute.cluster_resolver.TFConfigClusterResolver
    index: int
    count: int
    chief: str

    @property
    def is_chief(self) -> bool:
        return self.index == 0


def this_host() -> Host | None:
    """Who TF_CONFIG says this host is; None without one, or where it lists a single host.

    Raises:
        ConfigError: TF_CONFIG cannot be read, or gives this host a task that does not train.
    """
    try:
        resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
        spec, kind, task = resolver.cluster_spec(), resolver.task_type, resolver.task_id
        if not spec.jobs:
            return None
        if kind is None:
            raise ValueError("it names no task for this host")
        if kind not in ("chief", "worker"):
            raise ConfigError(
                f"TF_CONFIG makes this host a {kind!r}; only 'chief' and 'worker' train here: leave the others out."
            )
        count = multi_worker_util.worker_count(spec, kind)
        if count == 1:
            return None
        leader = ("chief" if "chief" in spec.jobs else "worker", 0)
        return Host(resolver, multi_worker_util.id_in_cluster(spec, kind, task), count, spec.task_address(*leader))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(
            f"TF_CONFIG cannot be used: {str(error).rstrip('.') or type(error).__name__}."
            ' It looks like {"cluster": {"chief": ["host:port"], "worker": ["host:port", …]},'
            ' "task": {"type": "worker", "index": 0}}.'
        ) from None


def meet(host: Host) -> tf.distribute.MultiWorkerMirroredStrategy:
    """Waits until all hosts are here, up to TensorFlow's limit of an hour, and returns the strategy they share.

    It waits deaf to signals and with all Python threads at rest, and must be the process's first use of TensorFlow:
    see `in_own_process`.

    Raises:
        UserError: they did not meet.
    """
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=host.resolver)
    except (tf.errors.OpError, RuntimeError) as error:
        raise UserError(
            f"The {host.count} training hosts did not meet: {reason(error)}."
            " Start the same command on every host; TF_CONFIG must give each its own task."
        ) from error


def tell(strategy: tf.distribute.Strategy, text: str) -> str:
    """The chief's `text`, on every host; what the others pass is ignored.

    All hosts must call it at the same point: it is a sum in which only the chief's numbers are not zero.

    Raises:
        UserError: a host was lost.
    """
    content = np.frombuffer(text.encode(), np.uint8).astype(np.int32)
    with loss_of_host_told(strategy, lambda: "before the first epoch"):
        length = _from_chief(strategy, np.array([len(content)], np.int32))[0]
        return bytes(_from_chief(strategy, np.resize(content, length)).astype(np.uint8)).decode()


def _from_chief(strategy: tf.distribute.Strategy, numbers: np.ndarray) -> np.ndarray:
    def contribution(value: tf.distribute.experimental.ValueContext) -> tf.Tensor:
        return tf.constant(numbers if value.replica_id_in_sync_group == 0 else np.zeros_like(numbers))

    values = strategy.experimental_distribute_values_from_function(contribution)
    return strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None).numpy()


def part(strategy: tf.distribute.Strategy) -> None:
    """Waits until every host has come this far, the chief with its export, lest a restarted chief find nobody.

    A helper then lingers, or its last answer to the others could be lost.

    Raises:
        UserError: a host was lost.
    """
    with loss_of_host_told(strategy, lambda: "after the last epoch"):
        _from_chief(strategy, np.zeros(1, np.int32))
    if not strategy.extended.should_checkpoint:
        time.sleep(2)


@contextmanager
def loss_of_host_told(strategy: tf.distribute.Strategy, place: Callable[[], str]) -> Iterator[None]:
    """Turns the errors a collective ends with when a host is gone into a sentence; `place` is where that was.

    Raises:
        UserError: a host was lost.
    """
    try:
        yield
    except LOST as error:
        if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            raise
        raise UserError(
            f"A training host was lost {place()}: {reason(error)}. Start the same command on every host again:"
            " the training goes on from its last finished epoch."
        ) from error


def in_own_process(function: Callable[..., None], *arguments: Any) -> None:
    """Calls `function` in a process of its own, relays its log records, and raises what it raises.

    A process can join a cluster only before its first use of TensorFlow, and the chief's data steps have used it.
    It also waits there without heeding signals: interrupting this process, or killing it, ends the other.

    Raises:
        UserError: the process was killed.
    """
    spawn = multiprocessing.get_context("spawn")
    receiver, sender = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_call, args=(sender, function, arguments), daemon=True)
    process.start()
    sender.close()
    try:
        while isinstance(said := receiver.recv(), logging.LogRecord):
            logger = logging.getLogger(said.name)
            if logger.isEnabledFor(said.levelno):
                logger.handle(said)
        process.join()
    except EOFError:
        process.join()
        raise UserError(f"The training process ended with code {process.exitcode} and without a word.") from None
    finally:
        process.kill()
    if said is not None:
        raise said


def _call(sender: Connection, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to both, and the parent knows what to do
    _end_with_parent()
    logging.getLogger().handlers = [_Sending(sender)]
    logging.getLogger().setLevel(logging.INFO)
    logging.getLogger("components").setLevel(logging.DEBUG)
    outcome: Exception | None = None
    try:
        function(*arguments)
    except Exception as error:
        # A traceback does not travel; the root logger's records go to the log file only.
        logging.getLogger().exception("The training process failed.")
        outcome = error if isinstance(error, UserError) else RuntimeError(f"{type(error).__name__}: {error}")
    logging.getLogger().handlers = []
    sender.send(outcome)


class _Sending(QueueHandler):
    """Sends records, stripped to what can travel, through a pipe instead of a queue."""

    def __init__(self, pipe: Connection) -> None:
        super().__init__(Queue())
        self._pipe = pipe

    def enqueue(self, record: logging.LogRecord) -> None:
        self._pipe.send(record)


def _end_with_parent() -> None:
    """Has Linux kill this process when its parent is killed."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl:
        prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def reason(error: BaseException) -> str:
    """The heart of a TensorFlow error, whose message also lists the nodes of the graph; at most 200 characters."""
    text = str(error)
    cause = re.search(r"Collective ops is aborted by: ([^\n]*)", text) or re.search(r"(\S[^\n]*)", text)
    target = re.search(r"remote target (/job:\w+/replica:\d+/task:\d+)", text)
    short = cause[1].strip().rstrip(".:") if cause else type(error).__name__
    return short[:200] + (f" ({target[1]})" if target else "")
