"""Versions appear, disappear and are broken, and configs change, while the stand-in serves."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import model_pb2

from serving.launch import ModelServer
from serving.model_server.manager import Manager, State
from serving.model_server.servable import StatusError
from tests.serving.conftest import Writer
from tests.serving.models import write_warmup
from tests.serving.rpc import ALL, Held, Rpc, config_of, model_of, parsed, predict_request, refusal, rss, until

NAME = "half_plus_two"


def states(manager: Manager, name: str = NAME) -> dict[int, str]:
    """The state of each version."""
    return {number: State.Name(version.state) for number, version in manager.versions(model_pb2.ModelSpec(name=name))}


def half(manager: Manager, **spec: object) -> tuple[float, int]:
    """The answer of half_plus_two to x = 0, and the version."""
    request = predict_request({"x": [0.0]}, **spec)
    number, servable = manager.find(request.model_spec)
    return float(servable.predict(request)["y"][0]), number


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / NAME).mkdir()
    return tmp_path / NAME


@pytest.fixture
def manager(base: Path, caplog: pytest.LogCaptureFixture) -> Manager:
    """The models of a server that has started with an empty base path, without the server."""
    manager = Manager()
    manager.apply(parsed(config_of(model_of(NAME, base))), start=True)
    assert caplog.messages == [f"The model {NAME} is not available: there is no version in {base}."]
    return manager


def test_an_empty_base_path_is_watched_and_one_that_is_gone_changes_nothing(
    manager: Manager, base: Path, half_plus_two: Writer
) -> None:
    assert not manager.ready
    with pytest.raises(StatusError, match="is not available"):
        half(manager)
    half_plus_two(base, 1)
    manager.poll()
    assert manager.ready and half(manager) == (2.0, 1)
    base.rename(base.with_name("away"))
    manager.poll()
    assert manager.ready and half(manager) == (2.0, 1)


def test_policies(base: Path, half_plus_two: Writer) -> None:
    manager = Manager()
    for version in (1, 2, 3):
        half_plus_two(base, version, add=float(version))
    for policy, expected in (
        ("", {3}),
        ("latest { num_versions: 2 }", {2, 3}),
        ("specific { versions: 1 versions: 3 }", {1, 3}),
        ("all {}", {1, 2, 3}),
        ("specific { versions: 1 }", {1}),
        ("latest {}", {3}),
    ):
        text = f"model_version_policy {{ {policy} }}" if policy else ""
        manager.apply(parsed(config_of(model_of(NAME, base, text))))
        found = {number for number, state in states(manager).items() if state == "AVAILABLE"}
        assert found == expected and half(manager) == (max(expected), max(expected))
        assert all(half(manager, version=number) == (number, number) for number in expected)
    assert states(manager) == {1: "END", 2: "END", 3: "AVAILABLE"}


def test_a_broken_version_leaves_the_old_one_and_says_so_until_it_is_repaired(
    manager: Manager, base: Path, half_plus_two: Writer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = half_plus_two(tmp_path, 2, add=5.0)
    half_plus_two(base, 1)
    manager.poll()
    (base / "2").mkdir()
    for content in (b"garbage", (source / "saved_model.pb").read_bytes()):  # the second one lacks its variables
        (base / "2" / "saved_model.pb").write_bytes(content)
        caplog.clear()
        for _ in range(3):
            manager.poll()
        errors = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert len(errors) == 1  # it is not loaded again before it changes
        (_, version) = manager.versions(predict_request({}, version=2).model_spec)[0]
        assert version.error.startswith(f"Could not load {base / '2'}: ") and version.state == State.END
        assert manager.ready and half(manager) == (2.0, 1)
    shutil.copytree(source, base / "2", dirs_exist_ok=True)
    manager.poll()
    assert half(manager) == (5.0, 2) and states(manager) == {1: "END", 2: "AVAILABLE"}


def test_folders_that_are_no_versions(manager: Manager, base: Path, half_plus_two: Writer, tmp_path: Path) -> None:
    source = half_plus_two(tmp_path, 1)
    for name in ("0012", "tmp", "-3", "1.5"):
        shutil.copytree(source, base / name)
    (base / "99").mkdir()
    (base / "98").write_text("a file")
    manager.poll()
    assert states(manager) == {12: "AVAILABLE"} and half(manager) == (2.0, 12)


def test_warm_up(base: Path, odd: Writer) -> None:
    """The warm-up request of version 1 succeeds, the one of version 2 fails, and version 3 has garbage."""
    manager = Manager()
    for version, signature in ((1, "types"), (2, "rest"), (3, "types")):
        request = predict_request({"x": [[1.0, 2.0]]}, name="odd", signature_name=signature)
        write_warmup(odd(base, version), request)
    (base / "3" / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"garbage")
    manager.apply(parsed(config_of(model_of("odd", base, ALL))))
    assert states(manager, "odd") == {1: "AVAILABLE", 2: "END", 3: "END"}
    errors = [version.error for _, version in manager.versions(model_pb2.ModelSpec(name="odd"))]
    assert "The signature rest is not one of the model's" in errors[1] and "holds no warm-up request" in errors[2]


@contextmanager
def calling(rpc: Rpc, name: str, threads: int = 4) -> Iterator[list[tuple[float, int]]]:
    """Threads call the model while the block runs. The list has their answers to x = 0. No call may fail."""
    answers: list[tuple[float, int]] = []
    failures: list[Exception] = []
    done = threading.Event()

    def call() -> None:
        while not done.is_set():
            try:
                answers.append(rpc.half(0.0, name=name))
            except Exception as error:
                failures.append(error)
                return

    workers = [threading.Thread(target=call) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        until(lambda: answers or failures)
        yield answers
    finally:
        done.set()
        for worker in workers:
            worker.join()
    assert not failures, failures[0]


def test_a_new_version_takes_over_while_all_call(rpc: Rpc, base: Path, half_plus_two: Writer, tmp_path: Path) -> None:
    half_plus_two(base, 1)
    rpc.reload(config_of(model_of("swapped", base)))
    with calling(rpc, "swapped") as answers:
        half_plus_two(base, 2, add=5.0)
        until(lambda: answers[-1] == (5.0, 2))
        until(lambda: rpc.states(name="swapped") == {1: "END", 2: "AVAILABLE"})
        # Without the newest version the server loads the version before it.
        (base / "2").rename(tmp_path / "2")
        until(lambda: answers[-1] == (2.0, 1))
        until(lambda: rpc.states(name="swapped") == {1: "AVAILABLE", 2: "END"})
    assert set(answers) == {(2.0, 1), (5.0, 2)}


def test_a_request_keeps_the_version_that_it_calls(rpc: Rpc, base: Path, odd: Writer, tmp_path: Path) -> None:
    odd(base, 1)
    busy = config_of(model_of("busy", base))
    rpc.reload(busy)
    held = Held(rpc, tmp_path, "busy")
    rpc.reload(config_of())
    assert rpc.states(name="busy") == {1: "END"}
    rpc.reload(busy)
    assert rpc.states(name="busy") == {1: "AVAILABLE"}
    assert held.release().model_spec.version.value == 1


def test_the_memory_of_old_versions_is_used_again(changing_server: ModelServer, rpc: Rpc, base: Path) -> None:
    module, megabytes = tf.Module(), 64
    module.ballast = tf.Variable(tf.zeros([megabytes, 2**18]))
    function = tf.function(lambda x: {"y": x + module.ballast[0, 0]}, [tf.TensorSpec([None], name="x")])
    tf.saved_model.save(module, str(base / "1"), signatures=function)
    rpc.reload(config_of(model_of("large", base)))
    held = []
    for version in range(2, 7):
        (base / str(version - 1)).rename(base / str(version))
        until(lambda version=version: max(rpc.states(name="large").items()) == (version, "AVAILABLE"))
        held.append(rss(changing_server))
    # Two versions are in memory during a swap.
    assert held[-1] < held[2] + megabytes, held


BAD: list[tuple[Callable[[Path], str], grpc.StatusCode, str]] = [
    (lambda base: model_of("new", Path("half")), grpc.StatusCode.INVALID_ARGUMENT, "an absolute base_path, not half"),
    (lambda base: model_of(NAME, base), grpc.StatusCode.INVALID_ARGUMENT, f"one name for each model, and has {NAME}"),
    (lambda base: model_of("", base), grpc.StatusCode.INVALID_ARGUMENT, "and has an empty one"),
    (lambda base: f'name: "t" base_path: "{base}" model_platform: "a"', grpc.StatusCode.INVALID_ARGUMENT, "platform a"),
    (lambda base: model_of("new", base / "none"), grpc.StatusCode.UNKNOWN, "there is no version in "),
    (
        lambda base: model_of("new", base / "broken"),
        grpc.StatusCode.UNKNOWN,
        "The model new is not available: Could not",
    ),
    (
        lambda base: model_of("new", base, 'version_labels { key: "a" value: 9 }'),
        grpc.StatusCode.FAILED_PRECONDITION,
        "The label a names version 9 of the model new, which is not available",
    ),
]


@pytest.mark.parametrize(("bad", "code", "words"), BAD, ids=[words[-20:] for *_, words in BAD])
def test_a_bad_config_changes_nothing(
    manager: Manager, base: Path, half_plus_two: Writer, bad: Callable[[Path], str], code: object, words: str
) -> None:
    half_plus_two(base, 1)
    (base / "broken" / "1").mkdir(parents=True)
    (base / "broken" / "1" / "saved_model.pb").write_bytes(b"\x12\x03garbage")
    manager.poll()
    with pytest.raises(StatusError) as raised:
        manager.apply(parsed(config_of(model_of(NAME, base), model_of("other", base), bad(base))))
    assert raised.value.code is code and words in str(raised.value)
    assert manager.ready and half(manager) == (2.0, 1)
    with pytest.raises(StatusError, match="The model other is not available"):
        half(manager, name="other")
    half_plus_two(base, 2, add=5.0)
    manager.poll()
    assert half(manager) == (5.0, 2)


def test_labels_for_canary_promotion_and_roll_back(rpc: Rpc, base: Path, half_plus_two: Writer) -> None:
    def apply(**labels: int) -> None:
        pairs = "".join(f' version_labels {{ key: "{key}" value: {number} }}' for key, number in labels.items())
        rpc.reload(config_of(model_of(NAME, base, ALL + pairs)))

    def version(label: str) -> int:
        return rpc.half(0.0, version_label=label)[1]

    half_plus_two(base, 1)
    apply(stable=1)
    half_plus_two(base, 2)
    apply(stable=1, canary=2)
    assert (version("stable"), version("canary")) == (1, 2)
    apply(stable=2, previous=1)
    assert (version("stable"), version("previous")) == (2, 1)
    assert refusal(lambda: version("canary"))[0] == grpc.StatusCode.INVALID_ARGUMENT
    assert refusal(lambda: apply(stable=3))[0] == grpc.StatusCode.FAILED_PRECONDITION
    apply(stable=1)
    assert version("stable") == 1
