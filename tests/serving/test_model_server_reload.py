"""Models and labels change with a reload or with the polled config file. An invalid config changes nothing."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import model_management_pb2

from serving.launch import ModelServer, model_server
from tests.serving.conftest import Writer
from tests.serving.models import write_warmup
from tests.serving.rpc import ALL, Rpc, available, config_of, model_of, predict_request, refusal, reload_request, until

pytestmark = pytest.mark.slow  # waits for polls


BAD: list[tuple[Callable[[Path], str], grpc.StatusCode, str]] = [
    (
        lambda base: model_of("new", Path("half")),
        grpc.StatusCode.INVALID_ARGUMENT,
        "absolute path or URI; got base_path()=half",
    ),
    (
        lambda base: model_of("new", base / "\\000"),
        grpc.StatusCode.INVALID_ARGUMENT,
        "Expected model new to have an ab",
    ),
    (
        lambda base: model_of("good", base),
        grpc.StatusCode.INVALID_ARGUMENT,
        "Illegal to list model good",
    ),
    (lambda base: model_of("", base), grpc.StatusCode.INVALID_ARGUMENT, "Every model in the config needs a name"),
    (lambda base: model_of("new", base / "missing"), grpc.StatusCode.UNKNOWN, "{new: no version was found under"),
    (lambda base: model_of("new", base / "broken"), grpc.StatusCode.UNKNOWN, "{new: Could not load "),
    (lambda base: f'name: "t" base_path: "{base}" model_platform: "torch"', grpc.StatusCode.INVALID_ARGUMENT, "torch"),
    (
        lambda base: model_of("new", base, 'version_labels { key: "a" value: 9 }'),
        grpc.StatusCode.FAILED_PRECONDITION,
        "Request to assign label to version 9 of model new, which is not currently available for inference",
    ),
]


@pytest.mark.parametrize(("bad", "code", "words"), BAD, ids=[words[-20:] for *_, words in BAD])
def test_a_bad_reload_changes_nothing(
    rpc: Rpc,
    tmp_path: Path,
    half_plus_two: Writer,
    bad: Callable[[Path], str],
    code: grpc.StatusCode,
    words: str,
) -> None:
    base = tmp_path / "good"
    half_plus_two(base, 1)
    (base / "broken" / "1").mkdir(parents=True)
    (base / "broken" / "1" / "saved_model.pb").write_bytes(b"\x12\x03garbage")
    rpc.reload(config_of(model_of("good", base)))
    until(lambda: rpc.health() == "SERVING")
    refused = refusal(lambda: rpc.reload(config_of(model_of("good", base), model_of("other", base), bad(base))))
    assert refused[0] == code and words in refused[1]
    assert rpc.half(1.0, name="good") == (2.5, 1) and rpc.health() == "SERVING"
    until(lambda: refusal(lambda: rpc.half(1.0, name="other"))[0] == grpc.StatusCode.NOT_FOUND)
    half_plus_two(base, 2)
    until(lambda: rpc.half(1.0, name="good") == (2.5, 2))


def test_a_reload_without_a_list_of_models(rpc: Rpc) -> None:
    empty = refusal(lambda: rpc.model.HandleReloadConfigRequest(model_management_pb2.ReloadConfigRequest()))
    assert empty[0] == grpc.StatusCode.INVALID_ARGUMENT and "Only ModelConfigList is currently supported" in empty[1]


def test_a_model_that_leaves_the_config_is_unloaded_and_may_come_back_at_once(
    rpc: Rpc, tmp_path: Path, half_plus_two: Writer
) -> None:
    half_plus_two(tmp_path / "a", 1)
    half_plus_two(tmp_path / "b", 1)
    a, b = model_of("a", tmp_path / "a"), model_of("b", tmp_path / "b")
    for _ in range(4):
        assert rpc.reload(config_of(a, b)).status.error_code == 0
        assert rpc.half(1.0, name="a") == rpc.half(1.0, name="b") == (2.5, 1)
        rpc.reload(config_of(b))
        gone = refusal(lambda: rpc.half(1.0, name="a"))
        assert gone == (grpc.StatusCode.NOT_FOUND, "Servable not found for request: Latest(a)")
    until(lambda: rpc.states(name="a") == {1: "END"})


def test_a_model_that_leaves_waits_for_its_requests_and_its_return_for_it(
    rpc: Rpc, tmp_path: Path, odd: Writer
) -> None:
    odd(tmp_path / "busy", 1)
    busy = config_of(model_of("busy", tmp_path / "busy"))
    rpc.reload(busy)
    answers: list[float] = []

    def work() -> None:
        outputs = rpc.predict({"rounds": np.int32(9_000)}, name="busy", signature_name="work").outputs
        answers.extend(outputs["ones"].float_val)

    slow = threading.Thread(target=work)
    slow.start()
    time.sleep(0.2)
    rpc.reload("model_config_list {}")
    time.sleep(0.2)
    assert rpc.states(name="busy") == {1: "UNLOADING"} and not answers
    rpc.reload(busy)
    assert rpc.states(name="busy") == {1: "AVAILABLE"}
    slow.join()
    assert answers == [1.0]


def test_a_label_moves_only_to_what_is_loaded_already(rpc: Rpc, tmp_path: Path, half_plus_two: Writer) -> None:
    base = tmp_path / "labelled"
    half_plus_two(base, 1)
    half_plus_two(base, 2)
    both = config_of(model_of("labelled", base, ALL))
    stable = config_of(model_of("labelled", base, ALL + 'version_labels { key: "stable" value: 2 }'))
    rpc.reload(config_of(model_of("labelled", base, "model_version_policy { specific { versions: 1 } }")))
    assert refusal(lambda: rpc.reload(stable))[0] == grpc.StatusCode.FAILED_PRECONDITION
    assert available(rpc, "labelled") == {1}
    rpc.reload(both)
    rpc.reload(stable)
    assert rpc.half(1.0, name="labelled", version_label="stable") == (2.5, 2)


def test_a_reload_goes_on_when_its_caller_has_gone(rpc: Rpc, tmp_path: Path, odd: Writer) -> None:
    def state() -> str:
        try:
            return rpc.states(name="slow")[1]
        except grpc.RpcError:
            return "not found"

    write_warmup(odd(tmp_path / "slow", 1), predict_request({"rounds": np.int32(5000)}, signature_name="work"))
    until(lambda: rpc.health() == "SERVING")
    reload = rpc.model.HandleReloadConfigRequest.future(reload_request(config_of(model_of("slow", tmp_path / "slow"))))
    until(lambda: state() == "LOADING")
    reload.cancel()
    assert rpc.health() == "SERVING"
    until(lambda: state() == "AVAILABLE")
    assert reload.cancelled()


def test_labels_follow_the_polled_config_file(tmp_path: Path, half_plus_two: Writer) -> None:
    base, config, log = tmp_path / "half_plus_two", tmp_path / "models.config", tmp_path / "log"
    half_plus_two(base, 1)

    def labelled(**labels: int) -> str:
        pairs = "".join(f' version_labels {{ key: "{key}" value: {value} }}' for key, value in labels.items())
        return config_of(model_of("half_plus_two", base, ALL + pairs))

    def version(label: str) -> int:
        return rpc.half(0.0, version_label=label)[1]

    config.write_text(labelled(stable=1, canary=2))
    flags = [
        f"--model_config_file={config}",
        "--model_config_file_poll_wait_seconds=0.05",
        "--file_system_poll_wait_seconds=0.05",
        "--allow_version_labels_for_unavailable_models",
    ]
    with model_server(flags, log, real=False) as server, Rpc(server.address) as rpc:
        until(lambda: rpc.health() == "SERVING")
        assert version("stable") == 1
        ahead = refusal(lambda: version("canary"))
        assert ahead == (grpc.StatusCode.NOT_FOUND, "Servable not found for request: Specific(half_plus_two, 2)")
        half_plus_two(base, 2, add=5.0)
        until(lambda: available(rpc) == {1, 2})
        assert (version("stable"), version("canary")) == (1, 2)
        config.write_text(labelled(stable=2, previous=1))
        until(lambda: version("stable") == 2)
        assert version("previous") == 1 and "Unrecognized" in refusal(lambda: version("canary"))[1]
        # A reload takes effect at once. Then the poll applies the file again.
        rpc.reload(labelled(stable=1))
        until(lambda: version("stable") == 2)
        # The server logs an invalid file and changes nothing. It tries the file again at each poll.
        for wrong, complaint in (
            (labelled(stable=3), "version 3 of model half_plus_two, which is not currently available for inference"),
            ("model_config_list {", "Error parsing text-format tensorflow.serving.ModelServerConfig"),
        ):
            config.write_text(wrong)
            until(lambda complaint=complaint: complaint in log.read_text())
            assert version("stable") == 2 and rpc.health() == "SERVING"
        config.write_text(labelled(stable=3))
        half_plus_two(base, 3)
        until(lambda: version("stable") == 3)
        assert not re.search("Traceback|The poll failed", log.read_text())


def test_nothing_of_all_this_left_a_traceback_in_the_log(changing_server: ModelServer) -> None:
    assert changing_server.log is not None
    assert not re.search("Traceback|The poll failed", changing_server.log.read_text())
