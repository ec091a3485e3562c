"""The notification at the end of a run: real HTTP over loopback."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from data.notify import RETRIES, notify
from pipeline.exit_codes import DATA_REFUSED, FAILED, PUSHED, WRONG_USE
from pipeline.local.cli import main
from tests.conftest import Outcome, random_images, write_folder
from tests.endpoint import listening
from tests.pipeline.few_digits import prepared

Run = Callable[..., Outcome]


def test_it_is_one_post_of_json_with_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_TOKEN", "s3cret")
    monkeypatch.setenv("ROOM", "ops")
    with listening(204) as endpoint:
        assert notify(f"{endpoint.url}/rooms/${{ROOM}}", {"run": "one", "figures": {"accuracy": 0.5}}) is None
    assert endpoint.got == [{"run": "one", "figures": {"accuracy": 0.5}}]
    ((path, headers),) = endpoint.headers
    assert path == "/rooms/ops" and headers["Authorization"] == "Bearer s3cret"
    assert headers["Content-Type"] == "application/json"


def test_a_server_that_is_busy_is_tried_again() -> None:
    with listening(503, 429, 200) as endpoint:
        assert notify(endpoint.url, {"run": "one"}) is None
    assert len(endpoint.got) == 3


@pytest.mark.parametrize(
    ("answer", "calls", "problem"),
    [
        (500, RETRIES + 1, "the server answered 500"),
        (404, 1, "the server answered 404"),
        (302, 1, "the server answered 302"),
    ],
)
def test_what_is_not_delivered_is_said(answer: int, calls: int, problem: str) -> None:
    with listening(answer) as endpoint:
        assert notify(endpoint.url, {}) == problem
    assert len(endpoint.got) == calls


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/", "http://host.invalid/", "http://[", "https://$UNSET_NAME/"])
def test_nobody_there_is_no_exception(url: str) -> None:
    assert notify(url, {}) is not None


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ops@example.org", "it must begin with http:// or https://, or with a $VARIABLE"),
        ("https://$UNSET_NAME/", "notify.url names $UNSET_NAME, which is not set in the environment"),
    ],
)
def test_a_wrong_url_is_refused_before_the_run(
    url: str, message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["--run-root", str(tmp_path / "root"), "--set", f"notify.url={url}"]) == WRONG_USE
    assert message in capfd.readouterr().err and not (tmp_path / "root").exists()


@pytest.mark.slow
def test_a_run_reports_its_end_and_does_not_depend_on_the_endpoint(
    run: Run, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_TOKEN", "s3cret")
    few = prepared(tmp_path_factory.getbasetemp())
    root, data = few.root, few.data
    with listening(200) as endpoint:
        setting = f"notify.url={endpoint.url}/T0/hook5ecret"
        gate = "validation.min_class_examples=1000"
        refused = run(root, data, setting, gate, options=("--to", "DataGate"), report=True)
        assert refused.code == DATA_REFUSED, refused.text
        done = run(root, data, setting, options=("--to", "CuratedSchema"))
        assert done.code == PUSHED, done.text
    first, second = endpoint.got
    assert first["verdict"] == "data refused" and first["exit_code"] == DATA_REFUSED
    assert first["error"].startswith("The data gate stopped the run") and first["figures"] == {}
    assert first["run"] in first["report"] and Path(first["report"]).is_file() and Path(first["log"]).is_file()
    assert second["verdict"] == "done up to CuratedSchema" and second["error"] == "" and second["version"] is None
    outcome = run(root, data, setting, options=("--to", "CuratedSchema"))  # nobody listens any more
    assert outcome.code == PUSHED and "The notification was not delivered: ConnectionError." in outcome.text
    for file in (path for path in root.rglob("*") if path.is_file()):
        content = file.read_bytes()
        assert b"s3cret" not in content and b"hook5ecret" not in content, file


@pytest.mark.slow
def test_a_resumed_run_tells_whom_the_profile_or_the_command_names(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address is not recorded, as it may hold a secret."""
    splits = {split: random_images(30, 28, 28, 10, seed) for seed, split in enumerate(("train", "eval", "test"))}
    root, data = tmp_path / "root", write_folder(tmp_path / "data", splits)
    shard = next(data.glob("test-*"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-100])
    with listening(200) as endpoint:
        assert run(root, data, f"notify.url={endpoint.url}", options=("--to", "ExampleGen")).code == FAILED
        shard.write_bytes(whole)
        monkeypatch.setattr(sys, "argv", ["run_local"])  # Beam's libraries read it
        assert main(["--run-root", str(root), "--resume", "--set", f"notify.url={endpoint.url}"]) == PUSHED
    assert [got["verdict"] for got in endpoint.got] == ["failed in ExampleGen", "done up to ExampleGen"]
