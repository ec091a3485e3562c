"""How the stand-in starts, refuses to start, warms up, uses TLS and stops."""

from __future__ import annotations

import logging
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import grpc
import numpy as np
import pytest
import trustme

from serving import protos
from serving.client import Client, Tls
from serving.launch import ModelServer, model_server
from serving.model_server import server as server_module
from serving.model_server.__main__ import main
from serving.model_server.settings import parse
from tests.serving.conftest import Writer
from tests.serving.models import write_warmup
from tests.serving.rpc import ALL, Rpc, config_of, model_of, predict_request, refusal, until


def refused(flags: list[str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The error of `python -m serving.model_server` when it does not start. gRPC may print lines before it."""
    monkeypatch.setattr(sys, "argv", ["server", *flags])
    assert main() == 2
    out, err = capfd.readouterr()
    *before, last = err.splitlines()
    assert not out and "Traceback" not in err and not [line for line in before if line.startswith("error")]
    assert last.startswith("error: ") and last.endswith(".")
    return last


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with files for the flags."""
    for name, text in {
        "nonsense": "nonsense",
        "empty": "",
        "relative": config_of('name: "a" base_path: "b"'),
        "twice": config_of('name: "a" base_path: "/b"', 'name: "a" base_path: "/b"'),
        "labelled": config_of('name: "a" base_path: "/b" version_labels { key: "stable" value: 1 }'),
        "ssl.half": 'server_key: "k"',
        "ssl.ca": 'server_key: "k" server_cert: "c" client_verify: true',
        "ssl.nonsense": 'server_key: "k" server_cert: "c"',
    }.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    monkeypatch.chdir(tmp_path)
    return tmp_path


BASE = "--model_base_path=models"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([BASE, "--enable_batch"], "does not support --enable_batch: see --help"),
        ([BASE, "--rest_port", "8501"], "does not support --rest_port: see"),
        ([BASE, "models"], "does not support models"),
        ([BASE, "--saved_model_tags=serve,gpu"], "does not support --saved_model_tags: see"),
        ([BASE, "--platform_config_file=nonsense"], "does not support --platform_config_file: see"),
        ([BASE, "--prefer_tflite_model"], "does not support --prefer_tflite_model: see"),
        ([BASE, "--grpc_socket_path=socket"], "does not support --grpc_socket_path: see"),
        ([BASE, "--use_alts_credentials=true"], "does not support --use_alts_credentials: see"),
        ([BASE, "--enable_signature_method_name_check=false"], "does not support --enable_signature_method_name_check"),
        ([BASE, "--mixed_precision=bfloat16"], "does not support --mixed_precision: see"),
        ([], "Give the models with --model_base_path"),
        ([BASE, "--model_config_file=empty"], "Give the models with --model_base_path"),
        ([BASE, "--enable_batching=maybe"], "maybe is neither true nor false"),
        ([BASE, "--rest_api_port"], "argument --rest_api_port: expected one argument"),
        ([BASE, "--port=70000"], "70000 is not a port, 0 to 65535"),
        ([BASE, "--port=-1"], "-1 is not a port"),
        ([BASE, "--port"], "argument --port: expected one argument"),
        ([BASE, "--file_system_poll_wait_seconds=soon"], "invalid float value: 'soon'"),
        (["--model_config_file=missing"], "missing cannot be read: No such file or directory"),
        (["--model_config_file=."], "cannot be read: Is a directory"),
        (
            ["--model_config_file=nonsense"],
            'nonsense: Error parsing text-format tensorflow.serving.ModelServerConfig: 1:1 : Message type "tensor',
        ),
        (["--model_config_file=binary"], "binary: Error parsing text-format tensorflow.serving.ModelServerConfig"),
        (["--model_config_file=empty", "--port=0"], "Only ModelConfigList is currently supported"),
        (["--model_config_file=relative", "--port=0"], "Expected model a to have an absolute path or URI; got base_"),
        (["--model_config_file=twice", "--port=0"], "Illegal to list model a multiple times in config"),
        (["--model_config_file=labelled", "--port=0"], "--allow_version_labels_for_unavailable_models"),
        ([BASE, "--ssl_config_file=nonsense"], "nonsense: Error parsing text-format tensorflow.serving.SSLConfig"),
        ([BASE, "--ssl_config_file=ssl.half"], "must hold the PEM texts server_key and server_cert"),
        ([BASE, "--ssl_config_file=ssl.ca"], "has no custom_ca to check them"),
        ([BASE, "--ssl_config_file=ssl.nonsense", "--port=0"], "or a valid key and certificate in --ssl_config_file"),
        ([BASE, "--host=203.0.113.1"], "cannot listen on 203.0.113.1:8500"),
    ],
    ids=lambda value: " ".join(value).replace(BASE, "") if isinstance(value, list) else "",
)
def test_what_cannot_be_is_refused_in_one_sentence(
    flags: list[str], words: str, files: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert words in refused(flags, capfd, monkeypatch)


def test_taken_ports(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("localhost", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"cannot listen on localhost:{port}" in refused([BASE, f"--port={port}"], capfd, monkeypatch)


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(["--help"])
    shown = capsys.readouterr().out
    assert ended.value.code == 0 and "A stand-in for tensorflow_model_server" in shown
    assert "--model_config_file " in shown and "Accepted and ignored, with a warning" in shown


HARMLESS = """
    --enable_batching --batching_parameters_file=missing --monitoring_config_file=missing --rest_api_port=8501
    --rest_api_num_threads 4 --rest_api_timeout_in_ms=3000 --rest_api_enable_cors_support=true
    --enable_per_model_batching_parameters --tensorflow_session_parallelism=2 --tensorflow_intra_op_parallelism 2
    --tensorflow_inter_op_parallelism=2 --tensorflow_session_config_file=missing --grpc_max_threads=8
    --grpc_channel_arguments=grpc.max_connection_age_ms=2000,grpc.lb_policy_name=x --max_num_load_retries=0
    --load_retry_interval_micros -1 --num_load_threads=2 --num_unload_threads=2 --flush_filesystem_caches=false
    --per_process_gpu_memory_fraction=0.5 --enable_model_warmup=false --num_request_iterations_for_warmup=1
    --remove_unused_fields_from_bundle_metagraph --num_tflite_pools=1 --num_tflite_interpreters_per_pool=1
    --xla_cpu_compilation_enabled --enable_profiler --thread_pool_factory_config_file=missing
    --skip_initialize_tpu=1 --enable_grpc_healthcheck_service=True"""


def test_harmless_flags_are_accepted_with_one_warning(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = []

    async def serve(settings: object, started: object) -> None:
        served.append(settings)

    monkeypatch.setattr(server_module, "serve", serve)
    monkeypatch.setattr(sys, "argv", ["server", *HARMLESS.split(), BASE, "--model_name", "mnist", "--port", "8600"])
    with caplog.at_level(logging.INFO):
        assert main() == 0
    names = sorted(flag.partition("=")[0] for flag in HARMLESS.split() if flag.startswith("--"))
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage() == f"The stand-in ignores these flags: {', '.join(names)}."
    assert served == [parse([BASE, *HARMLESS.split(), "--model_name=mnist", "--port=8600"])]
    assert served[0].port == 8600 and served[0].model_name == "mnist"


def test_no_ignored_flag_is_no_warning(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    async def serve(settings: object, started: object) -> None:
        pass

    monkeypatch.setattr(server_module, "serve", serve)
    monkeypatch.setattr(sys, "argv", ["server", BASE])
    assert main() == 0 and not caplog.records


def test_forms_of_booleans() -> None:
    flag = "--allow_version_labels_for_unavailable_models"
    for form in ([flag], [f"{flag}=true"], [f"{flag}=True"], [f"{flag}=1"], [flag, "true"]):
        assert parse([*form, BASE]).allow_version_labels_for_unavailable_models is True
    for form in ([], [f"{flag}=false"], [f"{flag}=0"], [flag, "false"]):
        assert parse([*form, BASE]).allow_version_labels_for_unavailable_models is False


def test_it_listens_on_this_machine_only(server: ModelServer) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing, but finds the address of this machine
        own = probe.getsockname()[0]
    if own.startswith("127."):
        pytest.skip("this machine has only the address localhost")
    port = int(server.address.rpartition(":")[2])
    socket.create_connection(("localhost", port), 5).close()
    with pytest.raises(OSError):
        socket.create_connection((own, port), 5)


def test_warm_up(rpc: Rpc, changing_server: ModelServer, tmp_path: Path, odd: Writer) -> None:
    """The warm-up request of version 1 succeeds, the one of version 2 fails."""
    for version, signature in ((1, "work"), (2, "rest")):
        request = predict_request({"rounds": np.int32(3)}, name="odd", signature_name=signature)
        write_warmup(odd(tmp_path / "warm", version), request)
    rpc.reload(config_of(model_of("warm", tmp_path / "warm", ALL)))
    assert rpc.states(name="warm") == {1: "AVAILABLE", 2: "END"}
    error = rpc.status(name="warm")[2][1]
    assert f"Could not load {tmp_path / 'warm' / '2'}" in error and 'Serving signature key "rest" not found' in error
    assert changing_server.log is not None
    assert "Warmed up warm version 1 with 1 requests." in changing_server.log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_lets_requests_finish(number: signal.Signals, tmp_path: Path, models: Path) -> None:
    flags = ["--model_name=odd", f"--model_base_path={models / 'odd'}"]
    with model_server(flags, tmp_path / "log", real=False) as server, Rpc(server.address) as rpc:
        assert server.process is not None

        def work(rounds: int) -> float:
            outputs = rpc.predict({"rounds": np.int32(rounds)}, name="odd", signature_name="work").outputs
            return float(outputs["ones"].float_val[0])

        work(10)
        began = time.perf_counter()
        work(200)
        rounds = int(200 * 1.2 / (time.perf_counter() - began))
        answers: list[float] = []
        slow = threading.Thread(target=lambda: answers.append(work(rounds)))
        slow.start()
        time.sleep(0.2)
        server.process.send_signal(number)
        until(lambda: "Stopping: no new requests" in (tmp_path / "log").read_text())
        with Rpc(server.address) as late:
            assert refusal(lambda: late.half(1.0, name="odd"))[0] is grpc.StatusCode.UNAVAILABLE
        assert not answers, "the request ended before the signal"
        slow.join()
        assert answers == [1.0]
        rpc.channel.close()
        assert server.process.wait(20) == 0
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.slow
def test_mutual_tls(tmp_path: Path, models: Path) -> None:
    authority, other = trustme.CA(), trustme.CA()
    leaf, certificate = authority.issue_cert("localhost"), authority.issue_cert("client")
    config = protos.SSLConfig(
        server_key=leaf.private_key_pem.bytes(),
        server_cert=leaf.cert_chain_pems[0].bytes(),
        custom_ca=authority.cert_pem.bytes(),
        client_verify=True,
    )
    (tmp_path / "ssl").write_text(str(config))
    ca, pair = authority.cert_pem.bytes(), (certificate.private_key_pem.bytes(), certificate.cert_chain_pems[0].bytes())
    stranger = other.issue_cert("client")
    foreign = (stranger.private_key_pem.bytes(), stranger.cert_chain_pems[0].bytes())
    flags = [
        "--model_name=half_plus_two",
        f"--model_base_path={models / 'half_plus_two'}",
        f"--ssl_config_file={tmp_path / 'ssl'}",
    ]
    with model_server(flags, tmp_path / "log", real=False) as server:
        with Rpc(server.address, grpc.ssl_channel_credentials(ca, *pair)) as rpc:
            assert rpc.half(1.0) == (2.5, 7) and rpc.health() == "SERVING"
        for key, chain in ((None, None), foreign):
            with Rpc(server.address, grpc.ssl_channel_credentials(ca, key, chain)) as rpc:
                assert refusal(lambda rpc=rpc: rpc.half(1.0))[0] == grpc.StatusCode.UNAVAILABLE
        with Rpc(server.address) as rpc:
            assert refusal(lambda rpc=rpc: rpc.half(1.0))[0] == grpc.StatusCode.UNAVAILABLE
        with Client(server.address, model="half_plus_two", tls=Tls(ca, pair[1], pair[0])) as client:
            assert client.metadata().version == 7
