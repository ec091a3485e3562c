"""The proxy: what passes through it, what it logs, and how it ends."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from serving import protos
from serving.client import Client, Tls
from serving.errors import NotFoundError, RequestError
from serving.launch import ModelServer
from serving.request_log import Record, read
from serving.request_log.__main__ import main
from tests.conftest import ROOT
from tests.serving.models import LABELS, serialize
from tests.serving.peers import frame
from tests.serving.request_logs import LIMITS, PREDICT, Bytes, Proxy, proxy, request, serving
from tests.serving.rpc import Rpc, refusal, until
from tests.serving.test_client_tls import Authority


@pytest.fixture(scope="module")
def behind() -> Iterator[tuple[Bytes, str]]:
    """A server of bytes and its address."""
    handler = Bytes()
    with serving(handler) as address:
        yield handler, address


@pytest.fixture(scope="module")
def before(behind: tuple[Bytes, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy before it."""
    with proxy(behind[1], tmp_path_factory.mktemp("proxy") / "log") as running:
        yield running


@pytest.fixture
def channel(before: Proxy) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(before.address, LIMITS) as channel:
        yield channel


def test_neither_the_proxy_nor_the_log_needs_tensorflow() -> None:
    code = "import serving.request_log.__main__, serving.request_log.writer, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert not {name.split(".")[0] for name in done.stdout.split()} & {"tensorflow", "tensorflow_serving", "tfx", "PIL"}


def test_what_the_stand_in_answers_is_passed_on_and_logged(
    server: ModelServer, images: np.ndarray, tmp_path: Path
) -> None:
    with proxy(server.address, tmp_path / "log") as running:
        with Client(running.address) as client, Client(server.address) as direct:
            found = client.predict(images[:3], metadata=[("x-request-id", "order-17")])
            assert (found.probabilities == direct.predict(images[:3]).probabilities).all()
            (classified,) = client.classify_examples([serialize(images[0])])
            assert client.metadata() == direct.metadata() and client.status() == direct.status()
        with Client(running.address, model="none") as client, pytest.raises(NotFoundError, match="none"):
            client.predict(images[:1])
        with Client(running.address) as client, pytest.raises(RequestError, match="The signature x is not one"):
            client.call("x", {})
        with Rpc(running.address) as rpc:
            assert rpc.health() == "SERVING"
        assert "Answered 2 requests: logged 2, sampled out 0, dropped 0." in running.stop()
    predicted, classify = read(tmp_path / "log")
    check(predicted, "Predict", "predict_images")
    assert predicted.request_id == "order-17" and predicted.version == found.versions[0]
    assert (predicted.inputs["images"] == images[:3]).all()
    assert (predicted.outputs["probabilities"] == found.probabilities).all()
    check(classify, "Classify", "classify_examples")
    assert classify.inputs["inputs"].tolist() == [serialize(images[0])]
    assert classify.outputs["classes"].tolist() == [[name.encode() for name in LABELS]]
    assert (classify.outputs["scores"] == classified.scores).all()
    assert len(classify.request_id) == 32 and predicted.time < classify.time
    check_files(tmp_path / "log")


def check(record: Record, method: str, signature: str) -> None:
    assert (record.method, record.model, record.signature) == (method, "mnist", signature)


def check_files(folder: Path) -> None:
    """One file in one folder, which TensorFlow reads and only the owner."""
    (hour,) = folder.iterdir()
    (file,) = hour.iterdir()
    assert [path.stat().st_mode & 0o777 for path in (folder, hour, file)] == [0o700, 0o700, 0o600]
    records = list(tf.data.TFRecordDataset(str(file)).as_numpy_iterator())
    logs = [PredictionLog.FromString(record) for record in records]
    assert [log.WhichOneof("log_type") for log in logs] == ["predict_log", "classify_log"]
    metadata = logs[0].log_metadata
    spec = logs[0].predict_log.response.model_spec
    assert metadata.model_spec == spec and spec.name == "mnist" and spec.version.value == 2
    assert metadata.timestamp_secs == pytest.approx(file.stat().st_mtime, abs=60)
    # TensorFlow Serving's own classes keep the fields that they do not know.
    kept = protos.PredictionLog.FromString(logs[0].SerializeToString())
    assert kept.log_metadata.request_id == "order-17"


def test_metadata_and_trailers_pass_both_ways(behind: tuple[Bytes, str], channel: grpc.Channel) -> None:
    sent = [("x-request-id", "a"), ("k-bin", b"\xff"), ("k", "v")]
    response, call = channel.unary_unary(PREDICT).with_call(request(), timeout=20, metadata=sent)
    assert response and set(sent) <= behind[0].seen[-1].items()
    assert dict(call.initial_metadata()) == {"first": "1"}
    assert dict(call.trailing_metadata()) == {"last-bin": b"\0\xff", "last": "2"}


def test_an_error_keeps_its_words_and_its_trailers(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(PREDICT)(request(), timeout=20, metadata=[("fail", "")])
    error = caught.value
    assert (error.code(), error.details()) == (grpc.StatusCode.DATA_LOSS, "a ü\nand more")
    assert dict(error.initial_metadata()) == {"first": "1"}
    assert dict(error.trailing_metadata()) == {"last-bin": b"\0\xff", "last": "2"}


def test_the_deadline_of_a_call_to_a_stalled_server(behind: tuple[Bytes, str], channel: grpc.Channel) -> None:
    handler, _ = behind
    for patience in (0.5, None):  # the second caller hangs up instead
        handler.cancelled.clear()
        count = len(handler.remaining)
        call = channel.unary_unary(PREDICT).future(request(), timeout=patience, metadata=[("stall", "")])
        until(lambda count=count: len(handler.remaining) > count)
        if patience is None:
            assert handler.remaining[-1] > 10**6  # there is no deadline
            call.cancel()
        else:
            assert 0 < handler.remaining[-1] < patience
            assert refusal(call.result)[0] is grpc.StatusCode.DEADLINE_EXCEEDED
        assert handler.cancelled.wait(20)


def test_streams_and_unknown_methods_pass(channel: grpc.Channel) -> None:
    chat = channel.stream_stream("/a.B/Chat")
    answered = threading.Semaphore(0)

    def requests() -> Iterator[bytes]:
        for content in (b"one", b"two"):
            yield content
            assert answered.acquire(timeout=20)  # the answer comes before the next request

    call, answers = chat(requests(), timeout=20), []
    for answer in call:
        answers.append(answer)
        answered.release()
    assert answers == [b"oneone", b"twotwo"] and call.code() is grpc.StatusCode.OK
    assert (dict(call.initial_metadata()), dict(call.trailing_metadata())) == ({"first": "1"}, {"last": "2"})
    ended = chat(iter([b"one", b"end"]), timeout=20)
    assert refusal(lambda: list(ended)) == (grpc.StatusCode.ABORTED, "ended")
    unknown = refusal(lambda: channel.unary_unary("/a.B/None")(b"", timeout=20))
    assert unknown == (grpc.StatusCode.UNIMPLEMENTED, "Method not found!")


def test_a_message_of_64_mib_passes(behind: tuple[Bytes, str], channel: grpc.Channel) -> None:
    content = protos.PredictRequest(output_filter=["x" * 64 * 2**20]).SerializeToString()
    assert channel.unary_unary(PREDICT)(content, timeout=60)
    assert behind[0].sizes[-1] == len(content)


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_requests_are_logged_as_they_were(
    compression: grpc.Compression, server: ModelServer, images: np.ndarray, tmp_path: Path
) -> None:
    with proxy(server.address, tmp_path / "log") as running:
        with Client(running.address, compression=compression) as client:
            client.predict(images[:50])
        running.stop()
    (logged,) = read(tmp_path / "log")
    assert (logged.inputs["images"] == images[:50]).all()


def test_what_is_not_grpc_passes_and_is_not_logged(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        proxy(f"127.0.0.1:{listener.getsockname()[1]}", tmp_path / "log") as running,
    ):
        host, _, port = running.address.rpartition(":")
        with socket.create_connection((host, int(port))) as client, listener.accept()[0] as server:
            client.sendall(b"GET / HTTP/1.1\r\n" * 10)
            assert server.recv(2**16).startswith(b"GET")
            server.sendall(frame(1, b"\xff" * 9, flags=4))
            assert client.recv(2**16) == frame(1, b"\xff" * 9, flags=4)
        assert "no longer logged, because it is not gRPC" in running.stop()


def test_a_server_that_is_not_there_is_unavailable_and_the_proxy_stays(tmp_path: Path) -> None:
    with proxy("localhost:1", tmp_path / "log") as running, grpc.insecure_channel(running.address) as channel:
        code, _ = refusal(lambda: channel.unary_unary(PREDICT)(request(), timeout=20))
        assert code is grpc.StatusCode.UNAVAILABLE
        printed = running.stop()
    assert "localhost:1 cannot be reached: " in printed and "Answered 0 requests" in printed
    assert not list((tmp_path / "log").rglob("*.*"))


def test_after_a_kill_nothing_that_was_answered_is_lost(behind: tuple[Bytes, str], tmp_path: Path) -> None:
    answered: set[str] = set()

    def ask(caller: int, address: str) -> None:
        with grpc.insecure_channel(address) as channel:
            predict, number = channel.unary_unary(PREDICT), 0
            while True:
                name = f"{caller}-{number}"
                try:
                    predict(request(), timeout=20, metadata=[("x-request-id", name)])
                except grpc.RpcError:
                    return
                answered.add(name)
                number += 1

    with proxy(behind[1], tmp_path / "log") as running:
        callers = [threading.Thread(target=ask, args=(caller, running.address)) for caller in range(8)]
        for caller in callers:
            caller.start()
        until(lambda: len(answered) > 200)
        running.process.kill()
        for caller in callers:
            caller.join()
    # The process that writes may just have begun.
    until(lambda: answered <= {record.request_id for record in read(tmp_path / "log")})
    assert not list((tmp_path / "log").rglob("*.unfinished"))


def test_sigterm_lets_running_calls_finish_and_be_logged(behind: tuple[Bytes, str], tmp_path: Path) -> None:
    handler, address = behind
    handler.release.clear()
    count = len(handler.seen)
    with proxy(address, tmp_path / "log") as running, grpc.insecure_channel(running.address) as channel:
        call = channel.unary_unary(PREDICT).future(
            request(), timeout=30, metadata=[("hold", ""), ("x-request-id", "held")]
        )
        until(lambda: len(handler.seen) > count)
        running.process.terminate()
        until(lambda: "Stopping" in running.output.read_text())
        handler.release.set()
        assert call.result()
        assert running.process.wait(30) == 0
    assert [record.request_id for record in read(tmp_path / "log")] == ["held"]


def test_tls_on_both_sides(tmp_path: Path) -> None:
    outer, inner = Authority(tmp_path / "outer", "localhost"), Authority(tmp_path / "inner", "models.example.org")
    config = protos.SSLConfig(server_key=outer.key.read_text(), server_cert=outer.cert.read_text())
    (tmp_path / "ssl.config").write_text(str(config))
    flags = [f"--ssl_config_file={tmp_path / 'ssl.config'}", f"--tls-ca={inner.ca}", "--tls-name=models.example.org"]
    flags += [f"--tls-cert={outer.cert}", f"--tls-key={outer.key}"]
    with (
        serving(Bytes(), inner.server(outer)) as address,
        proxy(address, tmp_path / "log", *flags) as running,
    ):
        with Client(running.address, model="m", tls=Tls.from_files(outer.ca)) as client:
            assert client.call("x", {}) == {}
        running.stop()
    assert [record.version for record in read(tmp_path / "log")] == [3]


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["--out=file"], 1, "file cannot hold a request log: File exists. Give a folder that can be written."),
        (["--out=/proc/log"], 1, "/proc/log cannot hold a request log: "),
        (["--out=log", "--tls-cert=none"], 1, "The PEM files none cannot be used"),
        (["--out=log", "--ssl_config_file=file"], 1, "file must hold the PEM texts server_key and server_cert"),
        (["--out=log", "--host=192.0.2.1"], 1, "The proxy cannot listen on 192.0.2.1:0: "),
        (["--out=log", "--target=8500"], 1, "The target 8500 must be host:port."),
        (["--out=log", "--sample=2"], 2, "2 must be a number from 0 to 1"),
        (["--out=log", "--max-mb=0"], 2, "0 must be a number greater than 0"),
        ([], 2, "the following arguments are required: --out"),
    ],
)
def test_refusals(
    flags: list[str],
    code: int,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    if code == 2:
        with pytest.raises(SystemExit, match="2"):
            main(["--listen=0", *flags])
    else:
        assert main(["--listen=0", *flags]) == code
    assert words in capsys.readouterr().err
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "file"]
