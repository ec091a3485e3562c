"""The log itself: sampling, redaction, disks that stall or are full, retention, recovery, and the reader."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from serving.errors import LogError
from serving.launch import model_server, wait_until_available
from serving.protos import PredictRequest
from serving.records import frame
from serving.request_log import RequestLog, read
from serving.request_log.files import Files
from serving.request_log.record import encode_record
from serving.tensors import encode
from tests.conftest import suspend
from tests.serving.clients import Connect, numbered
from tests.serving.conftest import Fake, by_content, listening, refuse
from tests.serving.request_logs import RESPONSE, request
from tests.serving.rpc import Rpc, until

SECRET = b"what a user sends"


def secret_request() -> bytes:
    asked = PredictRequest(model_spec={"name": "m", "signature_name": "s"})
    asked.inputs["x"].CopyFrom(encode(np.array([SECRET], object)))
    return bytes(asked.SerializeToString())


def ids(folder: Path) -> list[str]:
    return [record.request_id for record in read(folder)]


def add_all(log: RequestLog, count: int, content: bytes = b"") -> None:
    for number in range(count):
        log.add("Predict", content or request(), RESPONSE, str(number))


def record(name: str, when: datetime) -> tuple[bytes, int]:
    """A record for `Files.write`, and its time."""
    time_ns = int(when.timestamp()) * 10**9
    return encode_record("Predict", request(), RESPONSE, time_ns=time_ns, request_id=name), time_ns


def test_clients_log_what_they_are_answered(connect: Connect, tmp_path: Path, fast_retries: None) -> None:
    fake = Fake(refuse(grpc.StatusCode.UNAVAILABLE), by_content)
    with RequestLog(tmp_path / "log") as log, listening(fake) as address, connect(address, log=log) as client:
        client.predict(numbered(4), metadata=[("x-request-id", "four")])
        client.predict(numbered(*range(6)), chunk=2)
        client.metadata()
    assert log.counts == (4, 4, 0, 0)  # the attempt that failed has no answer
    four, *chunks = read(tmp_path / "log")
    assert (four.request_id, four.model, four.version) == ("four", "mnist", 5)
    assert four.outputs["class_ids"].tolist() == [4]
    assert sorted(chunk.inputs["images"][0, 0, 0] for chunk in chunks) == [0, 2, 4]


@pytest.mark.slow
def test_the_stand_in_logs(half_plus_two: Callable[..., Path], tmp_path: Path) -> None:
    half_plus_two(tmp_path / "models", 7)
    flags = ["--model_name=half_plus_two", f"--model_base_path={tmp_path / 'models'}"]
    with model_server([*flags, f"--request_log={tmp_path / 'log'}"], tmp_path / "output", real=False) as server:
        wait_until_available(server, "half_plus_two")
        with Rpc(server.address) as rpc:
            assert rpc.half(4) == (4, 7)
    (logged,) = read(tmp_path / "log")
    assert (logged.model, logged.version, logged.signature) == ("half_plus_two", 7, "serving_default")
    assert (logged.inputs["x"].tolist(), logged.outputs["y"].tolist()) == ([4], [4])
    assert "logged 1" in (tmp_path / "output").read_text()


def test_a_sample_is_chosen_by_the_ids_alone(tmp_path: Path) -> None:
    chosen = []
    for name, order in (("a", range(2000)), ("b", reversed(range(2000)))):
        with RequestLog(tmp_path / name, sample=0.1) as log:
            for number in order:
                log.add("Predict", request(), RESPONSE, f"order-{number}")
        assert log.counts.answered == log.counts.logged + log.counts.sampled_out == 2000
        chosen.append(set(ids(tmp_path / name)))
    assert chosen[0] == chosen[1] and 140 < len(chosen[0]) < 260  # 200 ± 4.5 standard deviations
    assert {entry.sampling_rate for entry in read(tmp_path / "a")} == {0.1}
    with RequestLog(tmp_path / "none", sample=0) as log:
        add_all(log, 10)
    assert log.counts == (10, 0, 10, 0) and not ids(tmp_path / "none")


def test_a_redacted_log_holds_no_inputs(tmp_path: Path) -> None:
    unreadable = b"\xff" + SECRET
    for redact in (False, True):
        folder = tmp_path / str(redact)
        with RequestLog(folder, redact=redact) as log:
            log.add("Predict", secret_request(), RESPONSE, "a")
            log.add("Predict", unreadable, RESPONSE, "b")
        (file,) = folder.rglob("*.tfrecord")
        assert (SECRET in file.read_bytes()) != redact
    redacted = next(read(folder))
    assert (redacted.request_id, redacted.model, redacted.version, redacted.signature) == ("a", "m", 3, "s")
    assert not redacted.inputs


def test_a_stalled_disk_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.request_log.log._WAITING_BYTES", 2**20)
    with RequestLog(tmp_path / "log") as log:
        add_all(log, 1)
        until(lambda: log.counts.logged == 1)
        suspend(log._process)
        add_all(log, 30, b"x" * 2**17)  # 2 MiB go into the pipe and the memory
        counts = log.counts
        assert counts.logged == 1 and 10 < counts.dropped < 20
        log._process.send_signal(signal.SIGCONT)
    assert log.counts == (31, 31 - counts.dropped, 0, counts.dropped)


def test_a_full_disk_is_told_once_and_drops(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with RequestLog(tmp_path / "log") as log:
        add_all(log, 3)
        until(lambda: log.counts.logged == 3)
        (file,) = (tmp_path / "log").rglob("*.unfinished")
        full = file.stat().st_size + 10  # the next record does not fit
        resource.prlimit(log._process.pid, resource.RLIMIT_FSIZE, (full, resource.RLIM_INFINITY))
        add_all(log, 5)
        until(lambda: log.counts.dropped == 5)
        assert file.stat().st_size == full - 10
        resource.prlimit(log._process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        time.sleep(1.1)  # it tries again after a second
        add_all(log, 1)
    assert log.counts == (9, 4, 0, 5) and ids(tmp_path / "log") == ["0", "1", "2", "0"]
    printed = capfd.readouterr().err
    assert printed.count("cannot be written: File too large.") == printed.count("is written again.") == 1


def test_a_process_that_was_killed_is_started_again_and_its_file_completed(tmp_path: Path) -> None:
    with RequestLog(tmp_path / "log") as log:
        add_all(log, 3)
        until(lambda: log.counts.logged == 3)
        log._process.kill()
        log._process.wait()
        (file,) = (tmp_path / "log").rglob("*.unfinished")
        with file.open("ab") as half:
            half.write(frame(b"x" * 100)[:50])
        add_all(log, 2)
    assert log.counts == (5, 5, 0, 0) and ids(tmp_path / "log") == ["0", "1", "2", "0", "1"]


def test_the_files_of_an_hour_lie_in_its_folder_and_appear_when_complete(tmp_path: Path) -> None:
    files, begin = Files(tmp_path, 1000, 30), datetime.now(UTC).replace(minute=59, second=59, microsecond=0)
    other = Files(tmp_path, 1000, 30)
    for name, writer, seconds in (("a", files, 0), ("c", files, 2), ("b", other, 1), ("d", other, 3)):
        writer.write(*record(name, begin + timedelta(seconds=seconds)))
    assert ids(tmp_path) == ["a"]  # the next hour is not complete
    files.close()
    other.close()
    assert ids(tmp_path) == list("abcd")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        (begin + timedelta(hours=hour)).strftime("%Y-%m-%dT%H") for hour in (0, 1)
    ]
    since, until_ = begin + timedelta(seconds=1), begin + timedelta(seconds=3)
    assert [entry.request_id for entry in read(tmp_path, since, until_)] == ["b", "c"]


def test_the_oldest_files_are_removed_and_no_others(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    writer = Files(tmp_path, 1000, 30)
    for days in (40, 31, 29, 1, 0):
        writer.write(*record(str(days), now - timedelta(days=days)))
    writer.close()
    (tmp_path / "notes.txt").touch()
    kept = next(tmp_path.glob("*T*")) / "notes.txt"
    kept.touch()
    Files(tmp_path, 1000, 30)
    assert ids(tmp_path) == ["29", "1", "0"] and kept.exists() and (tmp_path / "notes.txt").exists()
    size = sum(path.stat().st_size for path in tmp_path.rglob("*.tfrecord"))
    Files(tmp_path, (size - 1) / 1e6, 30)
    assert ids(tmp_path) == ["1", "0"]
    many = Files(tmp_path, 0.01, 30)
    for number in range(200):
        many.write(*record(str(number), now))
    many.close()
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.tfrecord")) <= 0.011e6
    assert ids(tmp_path)[-1] == "199"


def test_files_of_others_have_the_time_of_the_file(tmp_path: Path) -> None:
    theirs = PredictionLog()
    theirs.predict_log.request.model_spec.name = "m"
    theirs.predict_log.request.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0, 2.0]))
    file = tmp_path / "tf_serving_warmup_requests"
    with tf.io.TFRecordWriter(str(file)) as writer:
        writer.write(theirs.SerializeToString())
        theirs.predict_log.response.outputs["y"].CopyFrom(tf.make_tensor_proto([3]))
        theirs.log_metadata.timestamp_secs = 1_800_000_000
        writer.write(theirs.SerializeToString())
    os.utime(file, (1_700_000_000, 1_700_000_000))
    warm_up, answered = read(file)
    assert [entry.time.timestamp() for entry in (warm_up, answered)] == [1_700_000_000, 1_800_000_000]
    assert warm_up.inputs["x"].tolist() == [1, 2] and not warm_up.outputs and warm_up.version is None
    assert answered.outputs["y"].tolist() == [3] and answered.request_id == ""
    file.rename(tmp_path / "logs.tfrecord-00000-of-00001")
    assert len(list(read(tmp_path))) == 2


def test_what_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(LogError, match=r"none is not there\. Give the folder of a request log, or a file"):
        list(read(tmp_path / "none"))
    assert list(read(tmp_path)) == []
    (tmp_path / "other").touch()
    with pytest.raises(LogError, match="holds no hour of a request log, and no file with tfrecord in its name"):
        list(read(tmp_path))
    whole = frame(record("a", datetime.now(UTC))[0])
    for content, place, words in (
        (whole + whole[:-1], 1, rf"damaged or cut off at byte {len(whole)}\. .*truncate --size={len(whole)} FILE"),
        (whole + whole[:5], 1, f"at byte {len(whole)}"),
        (whole[:20] + b"!" + whole[21:], 0, "at byte 0"),
        (b"some text, as long as a head", 0, "is no TFRecord file, or damaged"),
        (whole + frame(b""), 1, "record 1: it is no PredictionLog of Predict or Classify. Leave the file out"),
        (frame(b"\xff"), 0, "record 0: it is no PredictionLog"),
    ):
        (tmp_path / "a.tfrecord").write_bytes(content)
        found = []
        with pytest.raises(LogError, match=words):
            found.extend(entry.request_id for entry in read(tmp_path / "a.tfrecord"))
        assert len(found) in (0, place)
