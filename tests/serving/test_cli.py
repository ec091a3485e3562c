"""`python -m serving.client`: its tables, its JSON and its exit codes."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import trustme
from PIL import Image
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataResponse, SignatureDefMap
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusResponse
from tensorflow_serving.apis.predict_pb2 import PredictResponse

from serving.client import Client
from serving.client.__main__ import main
from serving.launch import ModelServer
from tests.conftest import ROOT, Outcome
from tests.serving.conftest import Fake, by_field, listening
from tests.serving.models import LABELS
from tests.serving.rpc import fill

Command = Callable[..., Any]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command in this process: command("predict", …)."""

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as exit:
            code = int(exit.code or 0)
        shown = capsys.readouterr()
        if code == 1:
            assert shown.err.startswith("error: ") and shown.err.count("\n") == 1 and not shown.out
            return Outcome(code, shown.err)
        return Outcome(code, shown.out if code == 0 else shown.err)

    return run


# `python -m serving.client` with retries that take less than a second.
FAST_RETRIES_MAIN = """
import runpy
from serving.client.channel import BACKOFF
BACKOFF[:] = [0.01, 0.02, 0.05, 0.05]
runpy.run_module("serving.client", run_name="__main__", alter_sys=True)
"""
# `python -m serving.client` with Python's handler for SIGINT, which is missing if the parent process ignores SIGINT.
CTRL_C_MAIN = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("serving.client", run_name="__main__", alter_sys=True)
"""


def python(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs Python in a process of its own."""
    line = [sys.executable, *(str(argument) for argument in arguments)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def pngs(images: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three images of the model's size."""
    folder = tmp_path_factory.mktemp("pngs")
    for index, image in enumerate(images[:3]):
        Image.fromarray(image).save(folder / f"{index}.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def expected(server: ModelServer, images: np.ndarray) -> Any:
    """The predictions for them."""
    with Client(server.address) as client:
        return client.predict(images[:3])


def test_predict_prints_json_for_machines(server: ModelServer, pngs: list[Path], expected: Any) -> None:
    done = python("-m", "serving.client", "predict", *pngs, "--target", server.address, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    answers = json.loads(done.stdout)
    assert [answer["image"] for answer in answers] == [str(path) for path in pngs]
    assert [answer["class"] for answer in answers] == expected.class_ids.tolist()
    assert [answer["label"] for answer in answers] == [LABELS[class_id] for class_id in expected.class_ids]
    np.testing.assert_allclose([answer["probabilities"] for answer in answers], expected.probabilities, atol=1e-6)


def test_predict_prints_a_table_for_people(
    command: Command, server: ModelServer, pngs: list[Path], expected: Any
) -> None:
    done = command("predict", *pngs, "--target", server.address, "--chunk", 2)
    assert done.code == 0
    header, *lines = done.text.splitlines()
    assert header.split() == ["image", "class", "probability", "next", "best"]
    for line, path, class_id, row in zip(lines, pngs, expected.class_ids, expected.probabilities, strict=True):
        image, found, probability, second, _, third, _ = line.split()
        assert (image, found) == (str(path), LABELS[class_id])
        assert float(probability) == pytest.approx(row.max(), abs=1e-4)
        assert [best.rstrip(":") for best in (second, third)] == [LABELS[i] for i in np.argsort(-row)[1:3]]


def test_predict_prints_file_names_as_they_are(
    command: Command, server: ModelServer, pngs: list[Path], tmp_path: Path
) -> None:
    for name in ("[bold]7.png", "[/red].png", ":smile:.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(pngs[0].read_bytes())
        done = command("predict", path, "--target", server.address)
        assert done.code == 0 and str(path) in done.text


def test_predict_reads_a_picture_as_the_model_says_and_has_a_word_for_odd_ones(
    command: Command, server: ModelServer, digit: np.ndarray, tmp_path: Path
) -> None:
    paper, white, two = tmp_path / "paper.png", tmp_path / "white.png", tmp_path / "two.png"
    Image.fromarray(np.pad(np.kron(255 - digit, np.ones((10, 10), np.uint8)), 50, constant_values=255)).save(paper)
    Image.new("L", (300, 200), 255).save(white)
    Image.fromarray(np.hstack([digit, digit])).save(two)
    with Client(server.address) as client:
        expected = client.predict(digit[None])
        assert client.predict([paper, white]).notes == ("", "blank: there is no ink")
    to = ("--target", server.address)
    answers = json.loads(command("predict", paper, white, two, *to, "--json").text)
    np.testing.assert_allclose(answers[0]["probabilities"], expected.probabilities[0], atol=0.2)
    assert [answer["note"] for answer in answers] == ["", "blank: there is no ink", "more than one character"]
    assert "note" not in command("predict", paper, *to).text
    assert "blank: there is no ink" in command("predict", paper, white, *to).text
    (stretched,) = json.loads(command("predict", paper, *to, "--fit", "stretch", "--json").text)
    assert stretched["note"].startswith("unlike the training: 0.")
    assert stretched["probabilities"] != answers[0]["probabilities"]


def test_status_and_metadata(command: Command, server: ModelServer) -> None:
    to = ("--target", server.address)
    assert json.loads(command("status", *to, "--json").text) == [
        {"version": version, "state": "AVAILABLE", "error": ""} for version in (1, 2)
    ]
    assert [line.split() for line in command("status", *to, "--label", "stable").text.splitlines()] == [
        ["version", "state", "error"],
        ["1", "AVAILABLE"],
    ]
    found = {entry["signature"]: entry for entry in json.loads(command("metadata", *to, "--json").text)}
    assert found["predict_images"]["inputs"] == {"images": {"dtype": "uint8", "shape": [-1, 28, 28]}}
    assert found["predict_images"]["version"] == 2 and found["predict_images"]["method"].endswith("/predict")
    table = command("metadata", *to, "--model", "half_plus_two").text
    assert "x float32 [-1]" in table and "y float32 [-1]" in table and "tensorflow/serving/classify" in table


def test_status_prints_a_servers_words_as_they_are(command: Command) -> None:
    words = "Could not load [/models/3]: shape [batch, 10]"

    class Sick(Fake):
        def GetModelStatus(self, request: Any, context: grpc.ServicerContext) -> Any:
            response = GetModelStatusResponse()
            response.model_version_status.add(version=3, state=50).status.error_message = words
            return response

    with listening(Sick(by_field)) as address:
        assert words in command("status", "--target", address).text


class Rude(Fake):
    """Its words would command a terminal; and an input of half_plus_two of TensorFlow Serving has no rank."""

    ESCAPE = "\x1b]0;owned\x07\x9b2J\x7f\u202e"

    def __init__(self) -> None:
        super().__init__(self.answer)

    def answer(self, request: Any, context: Any) -> Any:
        names = np.array([[self.ESCAPE.encode() + b"\n", b"b"]], object)
        reading = {"size": np.array([[28, 28]]), "levels": np.float32([[0, 255]]), "ink": np.float32([[0, 1]])}
        words = {name: np.array([word], object) for name, word in (("fit", b"digit"), ("background", b""))}
        prediction = {"probabilities": np.float32([[0.6, 0.4]]), "class_ids": np.array([0]), "classes": names}
        describing = request.model_spec.signature_name == "describe"
        response = PredictResponse()
        for name, array in ({"class_names": names, **reading, **words} if describing else prediction).items():
            fill(response.outputs[name], array)
        return response

    def GetModelMetadata(self, request: Any, context: Any) -> Any:
        signatures, response = SignatureDefMap(), GetModelMetadataResponse()
        signature = signatures.signature_def[self.ESCAPE]
        signature.inputs[self.ESCAPE].dtype = signature.inputs["images"].dtype = 4
        signature.inputs[self.ESCAPE].tensor_shape.unknown_rank = True
        signature.inputs["images"].tensor_shape.dim.add(size=-1)
        signature.method_name = self.ESCAPE
        response.metadata["signature_def"].Pack(signatures)
        response.model_spec.version.value = 3
        return response

    def GetModelStatus(self, request: Any, context: Any) -> Any:
        response = GetModelStatusResponse()
        wanted = request.model_spec.version.value
        for version in (wanted,) if wanted else (3, 4):
            response.model_version_status.add(version=version, state=30).status.error_message = self.ESCAPE
        return response


def test_control_characters_of_a_server_reach_no_terminal(command: Command, pngs: list[Path], tmp_path: Path) -> None:
    odd = tmp_path / "\x1b[2J.png"
    odd.write_bytes(pngs[0].read_bytes())
    with listening(Rude()) as address:
        for arguments in (("predict", odd, "--fit", "digit"), ("metadata",), ("status",)):
            for form in ((), ("--json",)):
                shown = command(*arguments, "--target", address, *form).text
                assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", shown)
                assert re.search(r"\\(x|u00)1b\]0;owned\\(x|u00)07", shown)
                assert shown.count("\n") == (1 if form else 3 if "predict" not in arguments else 2)


def test_a_shape_of_any_rank_is_shown(command: Command) -> None:
    with listening(Rude()) as address:
        assert "uint8 of any rank" in command("metadata", "--target", address).text
        (found,) = json.loads(command("metadata", "--target", address, "--json").text)
    assert [entry["shape"] for entry in found["inputs"].values()] == [None, [-1]]


def test_the_status_of_a_label_is_that_of_its_version(command: Command) -> None:
    """TensorFlow Serving answers with all versions, whatever the label."""
    with listening(Rude()) as address:
        shown = json.loads(command("status", "--label", "stable", "--target", address, "--json").text)
    assert [entry["version"] for entry in shown] == [3]


def test_reload_sends_the_file(command: Command, server: ModelServer, config_text: str, tmp_path: Path) -> None:
    config = tmp_path / "models.config"
    config.write_text(config_text)  # the config in force: nothing changes for other tests
    answer = json.loads(command("reload", config, "--target", server.address, "--json").text)
    assert answer == {"reloaded": str(config), "target": server.address}
    config.write_text("model_config_list {")
    broken = command("reload", config, "--target", server.address)
    assert (
        broken.code == 1
        and "models.config: Error parsing text-format tensorflow.serving.ModelServerConfig: 1:19" in broken.text
    )
    assert ".." not in broken.text
    missing = command("reload", tmp_path / "none", "--target", server.address)
    assert missing.code == 1 and "none cannot be read: No such file" in missing.text


@pytest.mark.parametrize("loop", [("--callers", 3), ("--rate", 100)], ids=["closed", "open"])
def test_bench_measures(loop: tuple[object, ...], command: Command, server: ModelServer, pngs: list[Path]) -> None:
    to = ("--target", server.address, "--seconds", 0.2)
    found = json.loads(command("bench", *loop, *to, "--batch", 30, "--json").text)
    assert found["errors"] == {} and found["requests"] > 0
    assert found["images/s"] == pytest.approx(30 * found["requests/s"])
    assert 0 < found["p50 ms"] <= found["p90 ms"] <= found["p99 ms"] < 60_000
    if "--rate" in loop:
        assert found["loop"] == "open, 100 requests/s" and found["requests"] == 20
    else:
        assert found["loop"] == "closed, 3 callers"
    done = command("bench", *pngs, *loop, *to)
    assert done.code == 0 and "none" in done.text and "requests/s" in done.text


def test_bench_of_what_is_not_served_or_never_answers_fails(command: Command, server: ModelServer) -> None:
    wrong = command("bench", "--model", "nobody", "--target", server.address)
    assert wrong.code == 1 and "NOT_FOUND: The model nobody is not available" in wrong.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "arguments are required: COMMAND"),
        (("predict",), "arguments are required: IMAGE"),
        (("guess",), "invalid choice: 'guess'"),
        (("status", "--version", "1", "--label", "stable"), "not allowed with"),
        (("status", "--version", "one"), "invalid int value: 'one'"),
        (("status", "--timeout", "0"), "--timeout: 0 must be a number greater than 0"),
        (("status", "--timeout", "nan"), "--timeout: nan must be a number greater than 0"),
        (("status", "--timeout", "soon"), "--timeout: soon must be a number greater than 0"),
        (("bench", "--seconds", "inf"), "--seconds: inf must be a number greater than 0"),
        (("bench", "--callers", "-1"), "--callers: -1 must be a whole number of at least 1"),
        (("bench", "--batch", "1.5"), "--batch: 1.5 must be a whole number of at least 1"),
        (("bench", "--callers", "2", "--rate", "3"), "not allowed with"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_command_line_is_exit_code_2(arguments: tuple[str, ...], message: str, command: Command) -> None:
    done = command(*arguments)
    assert done.code == 2 and message in done.text and "Traceback" not in done.text


def test_help_needs_no_server(command: Command) -> None:
    done = command("--help")
    assert done.code == 0
    for name in ("predict", "status", "metadata", "reload", "bench"):
        assert name in done.text
        assert "--target" in command(name, "--help").text


def test_what_goes_wrong_is_one_line_and_exit_code_1(command: Command, server: ModelServer, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("text")
    to = ("--target", server.address)
    for arguments, message in (
        (("predict", tmp_path / "none.png", *to), "none.png cannot be read: No such file or directory."),
        (("predict", tmp_path / "text.png", *to), "text.png is not a picture that can be read: give a PNG file."),
        (("predict", tmp_path / "none.png", *to, "--model", "half_plus_two"), "no signature predict_images"),
        (
            ("status", *to, "--version", 2**63),
            "version 9223372036854775808, label None is not valid",
        ),
        (("status", *to, "--timeout", 1e6), "timeout = 1000000.0 must be a number of seconds above 0, at most 86400"),
        (("status", *to, "--version", 9), "NOT_FOUND: Version 9 of the model mnist is not known"),
        (("metadata", *to, "--label", "nowhere"), "The model mnist has no label nowhere"),
        (("status", *to, "--tls-cert", tmp_path / "text.png"), "certificate and its key"),
        (("status", *to, "--tls-ca", tmp_path / "none.pem"), "none.pem cannot be used: [Errno 2] No such file"),
    ):
        done = command(*arguments)
        assert done.code == 1 and message in done.text


def test_tls_by_its_options_and_one_line_where_it_fails(command: Command, tmp_path: Path) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    issued, client = authority.issue_cert("localhost"), authority.issue_cert("client@example.org")
    ca, other, cert, key = (tmp_path / name for name in ("ca.pem", "other.pem", "cert.pem", "key.pem"))
    authority.cert_pem.write_to_path(str(ca))
    stranger.cert_pem.write_to_path(str(other))
    client.private_key_pem.write_to_path(str(key))
    client.cert_chain_pems[0].write_to_path(str(cert))
    pair = (issued.private_key_pem.bytes(), issued.cert_chain_pems[0].bytes())
    mutual = grpc.ssl_server_credentials([pair], authority.cert_pem.bytes(), require_client_auth=True)
    with listening(Fake(by_field), credentials=mutual) as address:
        done = command("metadata", "--target", address, "--tls-ca", ca, "--tls-cert", cert, "--tls-key", key, "--json")
        assert (done.code, json.loads(done.text)) == (0, [])
        # A process of its own, because only the first channel of a process reads gRPC's log settings.
        failed = python("-c", FAST_RETRIES_MAIN, "metadata", "--target", address, "--tls-ca", other)
    assert failed.returncode == 1 and failed.stdout == ""
    assert failed.stderr.startswith(f"error: {address}: UNAVAILABLE: ") and failed.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["status", "bench"])
def test_ctrl_c_while_it_waits_ends_without_a_traceback(name: str) -> None:
    waiting, release = threading.Event(), threading.Event()

    class Hanging(Fake):
        def GetModelStatus(self, request: Any, context: grpc.ServicerContext) -> Any:
            waiting.set()
            release.wait(30)

        GetModelMetadata = GetModelStatus

    with listening(Hanging(by_field)) as address:
        arguments = [sys.executable, "-c", CTRL_C_MAIN, name, "--timeout", "60", "--target", address]
        running = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            assert waiting.wait(30)
            running.send_signal(signal.SIGINT)
            out, err = running.communicate(timeout=20)
        finally:
            release.set()
            running.kill()
    assert (running.returncode, out, err) == (130, "", "")
