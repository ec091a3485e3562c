"""The demo's web application and its command: what they answer, and what they refuse."""

from __future__ import annotations

import base64
import io
import re
import signal
import socket
import struct
import subprocess
import sys
import urllib.request
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from data.digits import read
from data.pictures import Reading
from serving.client import AsyncClient, Client
from serving.client.images import read_image
from serving.demo.__main__ import main
from serving.demo.app import FORMATS, MAX_BYTES, MAX_PIXELS, create_app
from serving.demo.digits import load
from serving.errors import ImageError
from serving.launch import ModelServer, free_port
from tests.conftest import MNIST, ROOT
from tests.serving.demos import demo, save_both_directions
from tests.serving.models import LABELS
from tests.serving.rpc import Rpc, config_of, model_of

PNG, GREY = {"Content-Type": "image/png"}, {"Content-Type": "application/octet-stream"}


@contextmanager
def application(target: str, hosts: Iterable[str] = ("localhost",), **options: Any) -> Iterator[TestClient]:
    """The application in this process, with a model server at `target`."""
    app = create_app(lambda: AsyncClient(target, **{"timeout": 5.0, **options}), hosts)
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def alone() -> Iterator[TestClient]:
    """The application without a model server."""
    with application(f"localhost:{free_port()}", timeout=0.5) as client:
        yield client


def test_only_small_pictures_are_taken(alone: TestClient) -> None:
    for answer, status, words in (
        (alone.post("/api/read", content=b"x" * (MAX_BYTES + 1), headers=PNG), 413, "larger than 4 MB"),
        (alone.post("/api/read", content=iter([b"x" * 2**20] * 5), headers=PNG), 413, "larger than 4 MB"),
        (alone.post("/api/read", content=b"x"), 415, "Send a picture"),
        (alone.post("/api/read", content=b"x", headers={"Content-Type": "text/plain"}), 415, "Send a picture"),
        (alone.post("/api/read", data={"a": "b"}), 415, "Send a picture"),
        (alone.get("/api/read"), 405, "Method Not Allowed."),
        (alone.get("/nothing"), 404, "Not Found."),
        (alone.get("/page/%2e%2e/app.py"), 404, "Not Found."),
    ):
        assert answer.status_code == status and words in answer.json()["error"], answer.text


def test_foreign_names_and_origins_are_refused(alone: TestClient) -> None:
    for host in ("evil.example", "evil.example:8600", "localhost.evil.example", "127.0.0.1", "[", ""):
        for path in ("/", "/api/digits", "/page/app.js"):
            refused = alone.get(path, headers={"Host": host})
            assert (refused.status_code, refused.text) == (400, "Invalid host header"), host
    for host in ("localhost", "localhost:1234", "LOCALHOST"):
        assert alone.get("/", headers={"Host": host}).status_code == 200
    for origin in ("http://evil.example", "null", "http://localhost:1", "http://[", "localhost", ""):
        refused = alone.post("/api/read", content=b"x", headers={**PNG, "Origin": origin})
        assert refused.status_code == 403 and "own page" in refused.json()["error"]
    assert alone.get("/", headers={"Origin": "http://localhost"}).status_code == 200
    with application("localhost:1", hosts="*") as open_to_all:
        assert open_to_all.get("/", headers={"Host": "name.example"}).status_code == 200


def test_every_response_forbids_what_the_page_does_not_need(alone: TestClient) -> None:
    refused = alone.get("/", headers={"Host": "evil.example"})
    preflight = alone.options(
        "/api/read", headers={"Origin": "http://localhost", "Access-Control-Request-Method": "POST"}
    )
    answers = [alone.get(path) for path in ("/", "/page/app.js", "/page/style.css", "/page/icon.svg", "/nothing")]
    for answer in (*answers, refused, preflight):
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'") and "unsafe" not in policy and "*" not in policy
        assert "frame-ancestors 'none'" in policy and "base-uri 'none'" in policy and "form-action 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert not [name for name in answer.headers if name.startswith("access-control")]
    assert preflight.status_code == 405


def test_the_page_loads_only_its_own_files_and_has_nothing_inline() -> None:
    folder = ROOT / "serving" / "demo" / "page"
    page = (folder / "index.html").read_text()
    for address in re.findall(r'(?:src|href)="([^"]+)"', page):
        assert address.startswith("/page/") and (folder / address.removeprefix("/page/")).is_file()
    assert not re.search(r"\sstyle=|\son\w+=|<script>|<style", page)
    for file in folder.iterdir():
        text = file.read_text()
        assert len(text.splitlines()) < 200, file
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text), file
        assert "://" not in text.replace("http://www.w3.org/2000/svg", ""), file


def test_a_dead_server_is_a_sentence_and_the_digits_stay(alone: TestClient) -> None:
    for answer in (alone.get("/api/status"), alone.post("/api/read", content=b"x" * 784, headers=GREY)):
        assert answer.status_code == 503 and answer.json()["error"].startswith("The model server does not answer.")
        assert not re.search("UNAVAILABLE|ipv[46]|TLS|backends", answer.text), answer.text
    digits = alone.get("/api/digits").json()
    assert len(digits) == 20 and {digit["answer"] for digit in digits} == {None}


def test_a_command_that_cannot_start_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with socket.create_server(("127.0.0.1", 0)) as used:
        port = used.getsockname()[1]
        taken = f"cannot listen on 127.0.0.1:{port}: Address already in use"
        for arguments, code, words in (
            (("--run-root", tmp_path, "--port", 0), 1, "holds no model yet; push one with make run"),
            (("--target", "localhost:1", "--port", port), 1, taken),
            (("--target", "localhost:1", "--port", 99999), 2, "99999 must be a port, 0 to 65535"),
            (("--target", "localhost:1", "--host", "nowhere.invalid"), 1, "cannot listen on nowhere.invalid"),
            (("--version", 3), 2, "--version and --label choose among the versions of a --target"),
            (("--target", "localhost:1", "--version", 3, "--label", "stable"), 2, "not allowed with"),
        ):
            try:
                ended = main([str(argument) for argument in arguments])
            except SystemExit as exit:
                ended = int(exit.code or 0)
            errors = capsys.readouterr().err
            assert ended == code and words in errors and "Traceback" not in errors
            assert code == 2 or len(errors.splitlines()) == 1
    for number, handler in zip((signal.SIGTERM, signal.SIGINT), handlers, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"])
def test_a_signal_ends_it_without_a_traceback(number: signal.Signals, code: int) -> None:
    with demo("--target", "localhost:1") as running:
        assert running.url.startswith("http://localhost:") and len(running.lines) == 1
        assert running.end(number) == (code, "")


def test_other_machines_are_let_in_only_when_it_is_asked_for() -> None:
    with demo("--target", "localhost:1", "--host", "0.0.0.0") as running:
        assert running.url.startswith("http://0.0.0.0:")
        assert running.process.stdout is not None
        assert "without a password" in running.process.stdout.readline()
        port = int(running.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: any.example\r\nConnection: close\r\n\r\n")
            assert b"200 OK" in connection.recv(100)


def test_serving_itself_needs_no_web_framework() -> None:
    code = "import sys, serving.client, serving.launch, serving.demo.__main__\n"
    code += "assert not {'starlette', 'uvicorn', 'PIL', 'tensorflow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.slow
def test_what_is_installed_has_the_page(installed: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from serving.demo.__main__ import main; sys.exit(main(['--target', 'localhost:1', '--port', '0']))"
    )
    environment = {"PYTHONPATH": str(installed)}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        (url,) = re.findall(r"http://\S+:\d+", process.stdout.readline())
        for path in ("/", *(f"/page/{file.name}" for file in (ROOT / "serving" / "demo" / "page").iterdir())):
            with urllib.request.urlopen(url + path) as answer:
                assert answer.status == 200 and answer.read()
        process.terminate()


@pytest.mark.slow
def test_the_answer_is_the_models(server: ModelServer) -> None:
    seven = (MNIST / "seven.png").read_bytes()
    with application(server.address, label="stable") as app, Client(server.address, label="stable") as client:
        assert app.get("/api/status").json() | {"max_bytes": 0} == {
            "target": server.address, "version": "1", "size": [28, 28], "by_row": True, "max_bytes": 0
        }  # fmt: skip
        found = app.post("/api/read", content=seven, headers=PNG).json()
        pixels = np.frombuffer(base64.b64decode(found["pixels"]), np.uint8).reshape(found["size"])
        prediction = client.predict(pixels[None])
        assert np.array_equal(np.float32(found["by_row"]), client.predict_rows(pixels[None])[0])
        assert np.array_equal(np.float32(found["probabilities"]), prediction.probabilities[0])
        assert (found["class"], found["version"]) == (prediction.class_ids[0], "1")
        assert found["labels"] == list(LABELS) and 0 < found["milliseconds"] < 5000
        again = app.post("/api/read", content=pixels.tobytes(), headers=GREY).json()
        assert again["pixels"] == found["pixels"] and again["probabilities"] == found["probabilities"]
        digits = app.get("/api/digits").json()
        assert [digit["answer"] for digit in digits] == client.predict(load().pixels).class_ids.tolist()
        white = io.BytesIO()
        Image.new("L", (90, 90), 255).save(white, "PNG")
        for content, headers, words in (
            (b"x" * 783, GREY, "The model needs 28 × 28 bytes, not 783."),
            (b"<b>no</b>", PNG, "The picture is not a picture"),
            (seven[:200], PNG, "The picture cannot be read"),
            (b"", PNG, "The picture is not a picture"),
            (white.getvalue(), PNG, "The picture is blank"),
        ):
            refused = app.post("/api/read", content=content, headers=headers)
            assert refused.status_code == 400 and words in refused.json()["error"]


@pytest.mark.slow
def test_a_model_of_another_size_without_names_and_rows(rpc: Rpc, changing_server: ModelServer, tmp_path: Path) -> None:
    save_both_directions(tmp_path / "3", rows=20, columns=32)
    with application(changing_server.address, model="both") as app:
        missing = app.get("/api/status")
        assert missing.status_code == 502 and "does not have this model" in missing.json()["error"]
        rpc.reload(config_of(model_of("both", tmp_path)))
        assert app.get("/api/status").json()["by_row"] is False
        found = app.post("/api/read", content=(MNIST / "seven.png").read_bytes(), headers=PNG).json()
        assert found["size"] == [20, 32] and found["by_row"] is None and found["labels"] == ["0", "1", "2"]
        digits = app.get("/api/digits").json()
        assert base64.b64decode(digits[3]["pixels"]) == read(load().pixels[3].astype(np.float32), (20, 32))[0].tobytes()


def test_the_page_has_each_digit_twice() -> None:
    digits = load()
    assert digits.labels.tolist() == [*range(10), *range(10)] and len(set(digits.positions.tolist())) == 20
    assert digits.pixels.shape == (20, 28, 28) and load((32, 24)).pixels.shape == (20, 32, 24)


@pytest.mark.slow
def test_the_digits_are_those_of_the_shards() -> None:
    from tests.serving.demo_digits import pick

    digits = load()
    pixels, labels = pick(digits.positions.tolist())
    assert np.array_equal(pixels, digits.pixels) and np.array_equal(labels, digits.labels)


@pytest.mark.parametrize("side", [2**12 + 1, 2**16, 2**30])
def test_a_picture_with_too_many_pixels_is_not_decoded(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("it was decoded"))
    with pytest.raises(ImageError, match=f"The picture has more than {MAX_PIXELS:,} pixels|exceeds limit"):
        read_image(io.BytesIO(bomb), Reading((28, 28)), FORMATS, MAX_PIXELS)


def test_what_is_no_picture_gets_a_sentence() -> None:
    files = {}
    for kind in ("PNG", "TIFF"):
        files[kind] = io.BytesIO()
        Image.fromarray(np.random.default_rng(3).integers(0, 256, (50, 50), np.uint8)).save(files[kind], kind)
    whole, other = (file.getvalue() for file in files.values())
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n"
    for content in (b"", b"text", whole[:30], whole[:200], other, postscript):
        with pytest.raises(ImageError) as caught:
            read_image(io.BytesIO(content), Reading((28, 28)), FORMATS, MAX_PIXELS)
        assert str(caught.value).endswith(".") and "/" not in str(caught.value)
