"""How the stand-in starts, refuses to start, warms up, counts, encrypts and stops."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError

import grpc
import numpy as np
import pytest
import trustme

from serving import protos
from serving.channel import Tls
from serving.client import Client
from serving.launch import ModelServer, model_server
from serving.model_server.__main__ import main
from serving.model_server.settings import parse
from tests.serving.conftest import Writer
from tests.serving.rpc import Rpc, config_of, model_of, predict_request, refusal, save_odd, until, write_warmup

pytestmark = pytest.mark.slow  # starts many servers

METRICS = "/monitoring/prometheus/metrics"


def refused(flags: list[str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """What `python -m serving.model_server` says when it does not start; gRPC's own lines may come before."""
    monkeypatch.setattr(sys, "argv", ["server", *flags])
    assert main() == 2
    out, err = capfd.readouterr()
    *before, last = err.splitlines()
    assert not out and "Traceback" not in err and not [line for line in before if line.startswith("error")]
    assert last.startswith("error: ") and last.endswith(".")
    return last


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of files to name, which is the working folder, too."""
    for name, text in {
        "batching": "max_batch_size { value: 4 }",
        "batching.zero": "max_batch_size { value: 0 }",
        "batching.sizes": "max_batch_size { value: 4 } allowed_batch_sizes: 8",
        "batching.pad": "pad_variable_length_inputs: true",
        "monitoring": "prometheus_config { enable: true }",
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
        ([BASE, "--tensorflow_intra_op_parallelism=2"], "does not honour --tensorflow_intra_op_parallelism: leave it"),
        ([BASE, "models"], "does not honour models"),
        ([BASE, "--enable_batch"], "does not honour --enable_batch:"),
        ([], "Name the models by --model_base_path"),
        ([BASE, "--model_config_file=empty"], "Name the models by --model_base_path"),
        ([BASE, "--batching_parameters_file=batching"], "without --enable_batching would do nothing"),
        ([BASE, "--enable_batching=false", "--batching_parameters_file=batching"], "without --enable_batching"),
        ([BASE, "--enable_batching=maybe"], "maybe is neither true nor false"),
        ([BASE, "--monitoring_config_file=monitoring"], "serves its metrics at --rest_api_port"),
        ([BASE, "--monitoring_config_file=monitoring", "--rest_api_port=65536"], "65536 is no port"),
        ([BASE, "--port=70000"], "70000 is no port, 0 to 65535"),
        ([BASE, "--port=-1"], "-1 is no port"),
        ([BASE, "--port"], "argument --port: expected one argument"),
        ([BASE, "--file_system_poll_wait_seconds=soon"], "invalid float value: 'soon'"),
        ([BASE, "--grpc_channel_arguments=fast"], "takes key=value,…; 'fast' is neither"),
        (["--model_config_file=missing"], "missing cannot be read: No such file or directory"),
        (["--model_config_file=."], "cannot be read: Is a directory"),
        (
            ["--model_config_file=nonsense"],
            'nonsense is no ModelServerConfig in text format: 1:1 : Message type "tensor',
        ),
        (["--model_config_file=binary"], "binary is no ModelServerConfig in text format"),
        (["--model_config_file=empty", "--port=0"], "Only ModelConfigList is currently supported"),
        (["--model_config_file=relative", "--port=0"], "Expected model a to have an absolute path or URI; got base_"),
        (["--model_config_file=twice", "--port=0"], "Illegal to list model a multiple times in config"),
        (["--model_config_file=labelled", "--port=0"], "--allow_version_labels_for_unavailable_models"),
        ([BASE, "--enable_batching", "--batching_parameters_file=nonsense"], "nonsense is no BatchingParameters"),
        ([BASE, "--enable_batching", "--batching_parameters_file=batching.zero"], "must be at least 1"),
        ([BASE, "--enable_batching", "--batching_parameters_file=batching.sizes"], "last of them must equal max_batch"),
        ([BASE, "--enable_batching", "--batching_parameters_file=batching.pad"], "pad_variable_length_inputs"),
        ([BASE, "--ssl_config_file=ssl.half"], "must hold the PEM texts server_key and server_cert"),
        ([BASE, "--ssl_config_file=ssl.ca"], "has no custom_ca to check them by"),
        ([BASE, "--ssl_config_file=ssl.nonsense", "--port=0"], "certificate of --ssl_config_file are not what they"),
        ([BASE, "--host=203.0.113.1"], "203.0.113.1:8500 cannot be listened on"),
    ],
    ids=lambda value: " ".join(value).replace(BASE, "") if isinstance(value, list) else "",
)
def test_what_cannot_be_is_refused_in_one_sentence(
    flags: list[str], words: str, files: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert words in refused(flags, capfd, monkeypatch)


def test_taken_ports(files: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("localhost", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"localhost:{port} cannot be listened on" in refused([BASE, f"--port={port}"], capfd, monkeypatch)
        rest = [BASE, "--port=0", "--monitoring_config_file=monitoring", f"--rest_api_port={port}"]
        assert f"--rest_api_port={port} cannot be listened on: Address" in refused(rest, capfd, monkeypatch)


def test_the_command_line_of_a_process(capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-m", "serving.model_server", "--rest_api_num_threads=2"]
    wrong = subprocess.run(command, capture_output=True, text=True, check=False)
    assert wrong.returncode == 2 and not wrong.stdout and len(wrong.stderr.splitlines()) == 1
    assert "does not honour --rest_api_num_threads" in wrong.stderr and "It honours --port, --host" in wrong.stderr
    with pytest.raises(SystemExit) as ended:
        parse(["--help"])
    assert ended.value.code == 0 and "A stand-in for tensorflow_model_server" in capsys.readouterr().out


def test_forms_of_booleans_and_channel_arguments(files: Path) -> None:
    for form in ([], ["=true"], ["=True"], ["=1"]):
        batching = parse([BASE, "--enable_batching" + "".join(form), "--batching_parameters_file=batching"]).batching
        assert batching is not None and batching.max_batch_size == 4
    for form in ([], ["--enable_batching=false"], ["--enable_batching=0"]):
        assert parse([BASE, *form]).batching is None
    given = parse([BASE, "--grpc_channel_arguments=a=1,b=x,c=-2,d=--3,e=9999999999"]).channel_arguments
    assert given == (("a", 1), ("b", "x"), ("c", -2), ("d", "--3"), ("e", "9999999999"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, half_plus_two: Writer) -> Path:
    """Version 1 of `odd` is warmed up, version 2 fails at it."""
    folder = tmp_path_factory.mktemp("start")
    half_plus_two(folder / "half_plus_two", 1)
    for version, signature in (("1", "work"), ("2", "rest")):
        save_odd(folder / "odd" / version)
        write_warmup(folder / "odd" / version, "odd", signature, rounds=3)
    (folder / "monitoring").write_text("prometheus_config { enable: true }")
    return folder


@pytest.fixture(scope="module")
def monitored(folder: Path) -> Iterator[tuple[ModelServer, int]]:
    """A server and the port of its metrics."""
    with socket.create_server(("localhost", 0)) as probe:
        port = probe.getsockname()[1]
    (folder / "models").write_text(
        config_of(
            model_of("half_plus_two", folder / "half_plus_two"),
            model_of("odd", folder / "odd", "model_version_policy { all {} }"),
        )
    )
    flags = [
        f"--model_config_file={folder / 'models'}",
        f"--monitoring_config_file={folder / 'monitoring'}",
        f"--rest_api_port={port}",
    ]
    with model_server(flags, folder / "log", real=False) as server:
        yield server, port


def metrics(port: int) -> dict[str, float]:
    text = urllib.request.urlopen(f"http://localhost:{port}{METRICS}", timeout=10).read().decode()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {series: float(value) for series, value in (line.rsplit(" ", 1) for line in lines)}


def test_metrics(monitored: tuple[ModelServer, int]) -> None:
    server, port = monitored
    with Rpc(server.address) as rpc:
        for _ in range(3):
            rpc.half(1.0)
        refusal(lambda: rpc.predict({}))
        refusal(lambda: rpc.half(1.0, name="unknown"))
        seen = metrics(port)
        count = ':tensorflow:serving:request_count{model_name="half_plus_two",status='
        assert seen[f'{count}"OK"}}'] == 3 and seen[f'{count}"INVALID_ARGUMENT"}}'] == 1
        which = 'API="Predict",entrypoint="GRPC"'
        name = f':tensorflow:serving:request_latency_bucket{{{which},le="+Inf",model_name="half_plus_two"}}'
        assert seen[name] == 4 == seen[name.replace("bucket", "count").replace('le="+Inf",', "")]
        for number in range(20):
            refusal(lambda number=number: rpc.half(1.0, name=f"unknown{number}"))
            refusal(lambda number=number: rpc.half(1.0, signature_name=f"unknown{number}"))
        assert metrics(port).keys() == seen.keys()
    with pytest.raises(HTTPError) as caught:
        urllib.request.urlopen(f"http://localhost:{port}/v1/models/half_plus_two", timeout=10)
    assert caught.value.code == 404 and METRICS in caught.value.read().decode()


def test_a_request_whose_caller_has_gone_is_counted_as_cancelled(monitored: tuple[ModelServer, int]) -> None:
    with Rpc(monitored[0].address) as rpc:
        work = predict_request({"rounds": np.int32(10_000)}, name="odd", signature_name="work", version=1)
        assert refusal(lambda: rpc.prediction.Predict(work, timeout=0.2))[0] == grpc.StatusCode.DEADLINE_EXCEEDED
    series = ':tensorflow:serving:request_count{model_name="odd",status="CANCELLED"}'
    until(lambda: metrics(monitored[1]).get(series) == 1)


def test_a_silent_connection_does_not_hold_up_the_metrics(monitored: tuple[ModelServer, int]) -> None:
    with socket.create_connection(("localhost", monitored[1])):
        assert metrics(monitored[1])


def test_it_listens_on_this_machine_only(monitored: tuple[ModelServer, int]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing; finds the address packets would leave from
        own = probe.getsockname()[0]
    if own.startswith("127."):
        pytest.skip("this machine has no address but localhost")
    for port in (int(monitored[0].address.rpartition(":")[2]), monitored[1]):
        socket.create_connection(("localhost", port), 5).close()
        with pytest.raises(OSError):
            socket.create_connection((own, port), 5)


def test_warm_up(monitored: tuple[ModelServer, int], folder: Path) -> None:
    with Rpc(monitored[0].address) as rpc:
        until(lambda: rpc.states(name="odd") == {1: "AVAILABLE", 2: "END"})
        why = rpc.status(name="odd")[2][1]
    assert f"Could not load {folder / 'odd' / '2'}" in why and 'Serving signature key "rest" not found' in why
    assert "Warmed up odd version 1 with 1 requests." in (folder / "log").read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_lets_requests_finish(number: signal.Signals, tmp_path: Path) -> None:
    save_odd(tmp_path / "odd" / "1")
    flags = ["--model_name=odd", f"--model_base_path={tmp_path / 'odd'}"]
    with model_server(flags, tmp_path / "log", real=False) as server, Rpc(server.address) as rpc:
        assert server.process is not None

        def work(rounds: int) -> float:
            outputs = rpc.predict({"rounds": np.int32(rounds)}, name="odd", signature_name="work").outputs
            return float(outputs["ones"].float_val[0])

        work(10)
        began = time.perf_counter()
        work(200)
        rounds = int(200 * 1.7 / (time.perf_counter() - began))
        answers: list[float] = []
        slow = threading.Thread(target=lambda: answers.append(work(rounds)))
        slow.start()
        time.sleep(0.5)
        server.process.send_signal(number)
        until(lambda: "Stopping: no new requests" in (tmp_path / "log").read_text())
        with Rpc(server.address) as late:
            # Who connects at the very moment is cancelled by gRPC.
            codes = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
            assert refusal(lambda: late.half(1.0, name="odd"))[0] in codes
        assert not answers, "the request was over before the server was told to stop"
        slow.join()
        assert answers == [1.0]
        rpc.channel.close()
        assert server.process.wait(20) == 0
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_mutual_tls(tmp_path: Path, half_plus_two: Writer) -> None:
    half_plus_two(tmp_path / "half_plus_two", 1)
    authority, other = trustme.CA(), trustme.CA()
    leaf, client = authority.issue_cert("localhost"), authority.issue_cert("client")
    config = protos.SSLConfig(
        server_key=leaf.private_key_pem.bytes(),
        server_cert=leaf.cert_chain_pems[0].bytes(),
        custom_ca=authority.cert_pem.bytes(),
        client_verify=True,
    )
    (tmp_path / "ssl").write_text(str(config))
    ca, pair = authority.cert_pem.bytes(), (client.private_key_pem.bytes(), client.cert_chain_pems[0].bytes())
    stranger = other.issue_cert("client")
    foreign = (stranger.private_key_pem.bytes(), stranger.cert_chain_pems[0].bytes())
    flags = [
        "--model_name=half_plus_two",
        f"--model_base_path={tmp_path / 'half_plus_two'}",
        f"--ssl_config_file={tmp_path / 'ssl'}",
    ]
    with model_server(flags, tmp_path / "log", real=False) as server:
        with Rpc(server.address, grpc.ssl_channel_credentials(ca, *pair)) as rpc:
            assert rpc.half(1.0) == (2.5, 1) and rpc.health() == "SERVING"
        for key, certificate in ((None, None), foreign):
            with Rpc(server.address, grpc.ssl_channel_credentials(ca, key, certificate)) as rpc:
                assert refusal(lambda rpc=rpc: rpc.half(1.0))[0] == grpc.StatusCode.UNAVAILABLE
        with Rpc(server.address) as rpc:
            assert refusal(lambda rpc=rpc: rpc.half(1.0))[0] == grpc.StatusCode.UNAVAILABLE
        with Client(server.address, model="half_plus_two", tls=Tls(ca, pair[1], pair[0])) as mine:
            assert mine.metadata().version == 1
