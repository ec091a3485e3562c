"""How the stand-in starts, refuses to start, uses TLS and stops."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
import trustme

from serving import protos
from serving.client import Client, Tls
from serving.launch import ModelServer, model_server
from serving.model_server.__main__ import main
from tests.conftest import ROOT
from tests.serving.rpc import Held, Rpc, config_of, refusal, until

BASE = "--model_base_path=models"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with files for the flags."""
    for name, text in {
        "nonsense": "nonsense",
        "relative": config_of('name: "a" base_path: "b"'),
        "ssl.half": 'server_key: "k"',
        "ssl.ca": 'server_key: "k" server_cert: "c" client_verify: true',
        "ssl.nonsense": 'server_key: "k" server_cert: "c"',
    }.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        ([BASE, "--enable_batching=true"], 2, "does not support --enable_batching; leave it out, or use TensorFlow"),
        ([BASE, "models"], 2, "does not support models"),
        ([], 2, "one of the arguments --model_base_path --model_config_file is required"),
        ([BASE, "--model_config_file=nonsense"], 2, "not allowed with argument --model_base_path"),
        ([BASE, "--port=70000"], 2, "70000 must be a port, 0 to 65535"),
        ([BASE, "--file_system_poll_wait_seconds=0"], 2, "0 must be a number greater than 0"),
        (["--model_config_file=missing"], 1, "missing cannot be read: No such file or directory"),
        (["--model_config_file=."], 1, "cannot be read: Is a directory"),
        (["--model_config_file=nonsense"], 1, "nonsense: Error parsing text-format tensorflow.serving.ModelServerConf"),
        (["--model_config_file=binary"], 1, "binary: Error parsing text-format tensorflow.serving.ModelServerConfig"),
        (["--model_config_file=relative", "--port=0"], 1, "The model a needs an absolute base_path, not b"),
        ([BASE, "--ssl_config_file=nonsense"], 1, "nonsense: Error parsing text-format tensorflow.serving.SSLConfig"),
        ([BASE, "--ssl_config_file=ssl.half"], 1, "must hold the PEM texts server_key and server_cert"),
        ([BASE, "--ssl_config_file=ssl.ca"], 1, "has no custom_ca to check them"),
        ([BASE, "--ssl_config_file=ssl.nonsense", "--port=0"], 1, "or a valid key and certificate in --ssl_config_fil"),
        ([BASE, "--host=203.0.113.1"], 1, "cannot listen on 203.0.113.1:8500"),
    ],
    ids=lambda value: " ".join(value).replace(BASE, "") if isinstance(value, list) else "",
)
def test_what_cannot_be_is_refused_in_one_sentence(
    flags: list[str], code: int, words: str, files: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    try:
        ended = main(flags)
    except SystemExit as exit:
        ended = int(exit.code or 0)
    finally:
        for number, handler in zip((signal.SIGTERM, signal.SIGINT), handlers, strict=True):
            signal.signal(number, handler)
    out, err = capfd.readouterr()
    last = err.splitlines()[-1]  # gRPC may print lines before it
    assert ended == code and not out and "Traceback" not in err
    assert words in last and "error: " in last


def test_a_taken_port_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("localhost", 0)) as taken:
        port = taken.getsockname()[1]
        assert main([BASE, f"--port={port}"]) == 1
    assert f"cannot listen on localhost:{port}" in capfd.readouterr().err


def test_it_listens_on_this_machine_only_and_says_what_it_is(server: ModelServer) -> None:
    assert server.log is not None and "This is a stand-in for one machine." in server.log.read_text()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing, but finds the address of this machine
        own = probe.getsockname()[0]
    if own.startswith("127."):
        pytest.skip("this machine has only the address localhost")
    port = int(server.address.rpartition(":")[2])
    socket.create_connection(("localhost", port), 5).close()
    with pytest.raises(OSError):
        socket.create_connection((own, port), 5)


@pytest.mark.slow
def test_a_stop_answers_every_request_that_was_sent_before_it(models: Path, tmp_path: Path) -> None:
    """The health changes first. New requests are unavailable, and a slow one is answered, though clients stay."""
    log, signalled, stop, answers = tmp_path / "log", threading.Event(), threading.Event(), Counter[str]()
    flags = ["--model_name=odd", f"--model_base_path={models / 'odd'}"]

    def call() -> None:
        with Rpc(server.address) as own:
            while not stop.is_set():
                before = not signalled.is_set()
                try:
                    own.predict({"x": [1.0]}, name="odd")
                    answer = "OK"
                except grpc.RpcError as error:
                    answer = str(error.code())
                if before:
                    answers[answer] += 1
                if answer != "OK":
                    return

    with (
        ThreadPoolExecutor(4) as threads,
        model_server(flags, log, real=False) as server,
        Rpc(server.address) as rpc,
    ):
        assert server.process is not None
        callers = [threads.submit(call) for _ in range(4)]
        until(lambda: answers["OK"] > 50)
        held = Held(rpc, tmp_path)
        signalled.set()
        server.process.send_signal(signal.SIGTERM)
        until(lambda: rpc.health() == "NOT_SERVING")
        until(lambda: refused(server.address))
        stop.set()
        for caller in callers:
            caller.result()
        assert held.release().model_spec.version.value == 1
        assert server.process.wait(30) == 0
    assert set(answers) == {"OK"}, answers
    assert "Traceback" not in log.read_text()


def refused(address: str) -> bool:
    """Whether a new request is UNAVAILABLE."""
    with Rpc(address) as late:
        try:
            late.predict({"x": [1.0]}, name="odd")
        except grpc.RpcError as error:
            return error.code() is grpc.StatusCode.UNAVAILABLE
    return False


@pytest.mark.slow
def test_mutual_tls_and_sigint(tmp_path: Path, models: Path) -> None:
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
        assert server.process is not None
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(30) == 0
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.slow
def test_a_server_ends_with_the_process_that_started_it(models: Path, tmp_path: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from serving.launch import model_server
flags = ["--model_name=half_plus_two", "--model_base_path={models / "half_plus_two"}"]
with model_server(flags, Path({str(tmp_path / "log")!r}), real=False) as server:
    print(server.process.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    server = Path("/proc") / done.stdout.strip()
    until(lambda: not server.exists() or "State:\tZ" in (server / "status").read_text())
