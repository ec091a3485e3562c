"""ML Metadata on real database servers: whole runs, the cache, the history, and servers that do not answer."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.definition import STEPS
from pipeline.exit_codes import FAILED, PUSHED, WRONG_USE
from pipeline.history.__main__ import main as history
from pipeline.local.cli import main
from tests.conftest import MNIST, Outcome
from tests.pipeline import databases
from tests.pipeline.few_digits import SMALL, few_mnist

Server = tuple[str, int]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["mysql", "postgresql"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The kind and the port of a server."""
    if databases.find(request.param) is None:
        pytest.skip(f"no server for {request.param} is installed: apt-get install mariadb-server postgresql")
    with databases.running(request.param, tmp_path_factory.mktemp(request.param)) as port:
        yield request.param, port


@pytest.fixture
def connection(server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MLMD_PASSWORD", databases.PASSWORD)
    kind, port = server
    return f'metadata.connection="{databases.CONNECTIONS[kind].format(port=port)}"'


def test_a_run_the_cache_and_the_history(
    server: Server,
    connection: str,
    run: Callable[..., Outcome],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """PostgreSQL has limits for what a step records, so there the whole chain runs."""
    last = STEPS[-1] if server[0] == "postgresql" else "DataGate"
    data = few_mnist(tmp_path)
    settings = (
        SMALL,
        "training.epochs=1",
        "training.warmup_epochs=0",
        "gates.accuracy=0.0",
        "gates.class_accuracy=0.0",
    )
    for state in ("COMPLETE", "CACHED"):
        options = () if last == STEPS[-1] else ("--to", last)
        outcome = run(tmp_path, data, *settings, connection, options=options)
        assert outcome.code == PUSHED, outcome.text
        capfd.readouterr()
        assert history(["show", "last", "--run-root", str(tmp_path), "--set", connection]) == 0
        shown = capfd.readouterr()
        assert shown.out.count(state) >= STEPS.index(last) and "training.epochs=1" in shown.out
        assert not shown.err  # ML Metadata's own lines
    assert databases.PASSWORD not in "".join(p.read_text(errors="replace") for p in tmp_path.glob("logs/*/*"))
    if server[0] == "postgresql":
        assert (
            run(
                tmp_path,
                data,
                'data.class_names=["é",' + '"b","c","d","e","f","g","h","i","j"]',
                connection,
                options=("--to", "CuratedSchema"),
            ).code
            == WRONG_USE
        )


def test_a_server_that_refuses_is_told_as_such(
    server: Server, connection: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLMD_PASSWORD", "wrong")
    arguments = ["--run-root", str(tmp_path), "--set"]
    assert main([*arguments, f"data.path={MNIST}", connection]) == FAILED
    assert history(["list", *arguments, connection]) == FAILED
    shown = "".join(capfd.readouterr())
    sentence = f"The ML Metadata server 127.0.0.1:{server[1]} cannot be used: it refused the user mlmd. Check the user,"
    assert shown.count(sentence) == 2 and "Restore" not in shown and "Traceback" not in shown


@pytest.mark.parametrize("kind", ["mysql", "postgresql"])
def test_a_server_that_is_not_there_or_not_named(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLMD_PASSWORD", "any")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        text = databases.CONNECTIONS[kind].format(port=port)
        arguments = ["list", "--run-root", str(tmp_path), "--set"]
        assert history([*arguments, f'metadata.connection="{text}"']) == FAILED
        err = capfd.readouterr().err
        assert f"No ML Metadata server answers at 127.0.0.1:{port}: Connection refused. Start it, or correct" in err
    nameless = text.replace("'mlmd' user", "'' user")
    assert history([*arguments, f'metadata.connection="{nameless}"']) == WRONG_USE
    assert f"metadata.connection gives {kind} no d" in capfd.readouterr().err
