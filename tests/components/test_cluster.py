"""Several hosts: what TF_CONFIG says of this one, and which part of each batch its replicas take."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft

from components.trainer.cluster import connect, short_message, this_host
from components.trainer.fit import compile_model
from components.trainer.input import read_splits, split_batches
from components.trainer.model import build_model
from components.trainer.process import run_in_process
from components.trainer.settings import Training
from data.errors import DataError, SettingsError, UserError
from data.example import ExampleSpec
from data.readers import Images
from data.splits import shard_names
from pipeline.exit_codes import INTERRUPTED
from pipeline.local.cli import main
from serving.launch import free_port
from tests import processes
from tests.components.trainings import SMALL
from tests.conftest import ROOT

TWO = {"chief": ["a:1"], "worker": ["b:2"]}
THREE = {"worker": ["a:1", "b:2", "c:3"]}


def contexts(hosts: int, devices: int) -> Iterator[tf.distribute.InputContext]:
    for host in range(hosts):
        yield tf.distribute.InputContext(hosts, host, hosts * devices)


def configure(monkeypatch: pytest.MonkeyPatch, cluster: dict, kind: str, index: int) -> None:
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}}))


@pytest.mark.parametrize(("hosts", "devices"), [(1, 1), (1, 2), (2, 1), (3, 1), (2, 4), (5, 2)])
@pytest.mark.parametrize("records", [40, 41, 43, 59])
def test_the_slices_of_all_replicas_are_the_global_batches(hosts: int, devices: int, records: int) -> None:
    def batches(context: tf.distribute.InputContext) -> list[np.ndarray]:
        tf.random.set_seed(5)
        shuffled = tf.data.Dataset.range(records).shuffle(records, seed=3, reshuffle_each_iteration=True)
        return list(split_batches(shuffled.batch(20), context).repeat(2).as_numpy_iterator())

    whole = batches(tf.distribute.InputContext())
    taken = [batches(context) for context in contexts(hosts, devices)]
    assert sorted(np.concatenate(whole[: len(whole) // 2])) == list(range(records))
    for step, batch in enumerate(whole):
        slices = [part for host in taken for part in host[step * devices : (step + 1) * devices]]
        assert len(slices) == hosts * devices
        np.testing.assert_array_equal(np.concatenate(slices), batch)
        assert max(map(len, slices)) - min(map(len, slices)) <= 1
    assert all(len(host) == len(whole) * devices for host in taken)


def test_a_last_batch_smaller_than_the_replicas_spoils_nothing(
    transform: tft.TFTransformOutput, example_files: dict[str, list[str]], digits: dict[str, Images]
) -> None:
    """With one example in it, a replica's slice is empty; with three, one replica has more than the other.

    TensorFlow keeps the shapes of collectives for a process's life: in all tests two replicas train this one network.
    """
    images, files = digits["eval"], (example_files["train"], example_files["eval"])
    splits = [read_splits(*files, transform, Training(), len(images) - last)[1] for last in (1, 3)]
    strategy = connect(2).strategy
    with strategy.scope():
        network = build_model(SMALL, ExampleSpec())
        compile_model(network, Training(schedule="constant", learning_rate=1e-3), 2)
    logits = network(images.pixels.astype(np.float32) / 255, training=False)
    each = tf.nn.sparse_softmax_cross_entropy_with_logits(images.labels, logits).numpy()
    for validation in splits:
        assert validation.steps == 2
        loss, accuracy = network.evaluate(validation.distribute(strategy), steps=2, verbose=0)
        assert loss == pytest.approx(each.mean(), rel=1e-5)
        assert accuracy == pytest.approx((logits.numpy().argmax(axis=1) == images.labels).mean(), abs=1e-6)
    for validation in splits:
        history = network.fit(validation.distribute(strategy), steps_per_epoch=2, verbose=0).history
        assert np.isfinite(history["loss"]).all()
        assert all(np.isfinite(array).all() for array in network.get_weights())


def test_replicas_share_the_cores() -> None:
    """A thread too many for each of them costs a fifth of the speed."""
    code = (
        "import tensorflow as tf\nfrom components.trainer.cluster import connect, reserve_devices\nreserve_devices(2)\n"
        "assert len(connect(2).strategy.extended.worker_devices) == 2\n"
        "print(tf.config.threading.get_intra_op_parallelism_threads())"
    )
    cores = len(os.sched_getaffinity(0))
    for given, expected in ((None, max(1, cores // 2)), ("6", 3), ("1", 1)):
        environment = {name: value for name, value in os.environ.items() if name != "TF_NUM_INTRAOP_THREADS"}
        environment |= {"TF_NUM_INTRAOP_THREADS": given} if given else {}
        ended, printed = processes.run(processes.python, ["-c", code], str(ROOT), environment=environment)
        assert (ended, printed.splitlines()[-1]) == (0, str(expected)), printed


def test_who_this_host_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert this_host() is None
    for cluster, kind, index, expected in (
        (TWO, "chief", 0, (0, 2, "a:1")),
        (TWO, "worker", 0, (1, 2, "a:1")),
        (THREE, "worker", 0, (0, 3, "a:1")),
        (THREE, "worker", 2, (2, 3, "a:1")),
    ):
        configure(monkeypatch, cluster, kind, index)
        host = this_host()
        assert host is not None
        assert (host.index, host.count, host.chief) == expected
        assert host.is_chief == (host.index == 0)
    configure(monkeypatch, {"worker": ["a:1"]}, "worker", 0)
    assert this_host() is None
    monkeypatch.setenv("TF_CONFIG", "{}")
    assert this_host() is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "TF_CONFIG cannot be used"),
        ('{"cluster": 3, "task": {"type": "worker", "index": 0}}', "TF_CONFIG cannot be used"),
        (json.dumps({"cluster": TWO}), "names no task for this host"),
        (json.dumps({"cluster": TWO, "task": {"type": "worker"}}), "TF_CONFIG cannot be used"),
        (json.dumps({"cluster": TWO, "task": {"type": "worker", "index": 1}}), "exceeds"),
        (json.dumps({"cluster": TWO, "task": {"type": "worker", "index": "x"}}), "TF_CONFIG cannot be used"),
        (json.dumps({"cluster": {**TWO, "ps": ["d:4"]}, "task": {"type": "ps", "index": 0}}), "a 'ps'"),
        (json.dumps({"cluster": TWO, "task": {"type": "evaluator", "index": 0}}), "an? 'evaluator'"),
    ],
)
def test_a_wrong_tf_config_is_a_sentence(text: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(SettingsError, match=words) as caught:
        this_host()
    assert "\n" not in str(caught.value)


def test_the_command_line_refuses_a_wrong_tf_config(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(monkeypatch, TWO, "ps", 0)
    assert main([]) == 2
    assert "makes this host a 'ps'" in capsys.readouterr().err


def test_the_strategy_is_chosen_by_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(connect(2).strategy, tf.distribute.MirroredStrategy)
    assert [connect(replicas).strategy.num_replicas_in_sync for replicas in (1, 2)] == [1, 2]
    configure(monkeypatch, {"worker": ["a:1"]}, "worker", 0)
    assert isinstance(connect(1).strategy, tf.distribute.MirroredStrategy)


def test_hosts_that_do_not_connect_are_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch, THREE, "worker", 1)
    # TensorFlow runs in this process, which is one way not to connect.
    with pytest.raises(UserError, match=r"The 3 training hosts did not connect: .*program startup"):
        connect(1)


@pytest.mark.slow
def test_who_waits_dies_with_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while TensorFlow waits, holding Python's lock."""
    cluster = {"worker": [f"127.0.0.1:{free_port()}" for _ in range(2)]}
    configure(monkeypatch, cluster, "worker", 1)
    code = (
        "from components.trainer.cluster import connect, launch\n"
        "print('ready', flush=True)\nif __name__ == '__main__': launch(connect, 1)"
    )
    # The child holds the pipe's other end as long as it lives.
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and "ready" in process.stdout.readline()
        time.sleep(8)
        process.kill()
        assert "ready" not in process.stdout.read()


@pytest.mark.slow
def test_what_goes_wrong_in_a_process_of_its_own_is_raised_here() -> None:
    with pytest.raises(UserError, match="ended with code -9 and without a message"):
        run_in_process(signal.raise_signal, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="ValueError: invalid literal"):
        run_in_process(int, "x")
    with pytest.raises(DataError, match="the train split is missing"):
        run_in_process(shard_names, "nowhere", "train")


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 1])
def test_a_host_that_waits_heeds_an_interrupt(index: int, prepared: Path, small_mnist: Path, tmp_path: Path) -> None:
    """The chief finds the steps before the Trainer in the cache."""
    cluster = {"worker": [f"127.0.0.1:{free_port()}" for _ in range(2)]}
    config = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
    command = ["-m", "pipeline.run_local", "--run-root", str(prepared.parent), "--set", f"data.path={small_mnist}"]
    log = tmp_path / "log"
    process = processes.start(log, processes.python, command, environment={**os.environ, "TF_CONFIG": config})
    while not log.exists() or "waits for" not in log.read_text():
        assert process.is_alive(), log.read_text()
        time.sleep(0.05)
    shown = log.read_text()
    assert ("Worker 1 of 1" if index else "Host 1 of 2") in shown
    time.sleep(8)  # for the process that waits to begin
    process.terminate()
    process.join(60)
    rest = log.read_text().removeprefix(shown)
    assert process.exitcode == INTERRUPTED, rest
    assert ("Worker 1 of 1: interrupted." if index else "Interrupted in Trainer.") in rest and "Traceback" not in rest


def test_the_chief_s_text_reaches_every_host() -> None:
    text = '{"path": "/läufe/7"}'
    cluster = connect(2)
    assert cluster.is_chief
    assert cluster.broadcast(text) == text
    cluster.finish()


def test_an_error_on_one_host_alone_is_no_lost_host() -> None:
    with pytest.raises(tf.errors.UnavailableError), connect(1).together():
        raise tf.errors.UnavailableError(None, None, "something else")
    message = (
        "Graph execution error:\n\nDetected at node while/CollectiveReduceV2 defined at\n\n"
        "Collective ops is aborted by: failed to connect to all addresses\n"
        "Additional GRPC error information from remote target /job:worker/replica:0/task:0:\n:{}"
    )
    short = short_message(tf.errors.UnavailableError(None, None, message))
    assert short == "failed to connect to all addresses (/job:worker/replica:0/task:0)"
