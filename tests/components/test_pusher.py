"""The push: a server that watches the folder sees a whole version or none."""

import os
import shutil
import threading
import time
from pathlib import Path

import pytest
import tensorflow as tf
from tfx.components.pusher.executor import Executor
from tfx.proto import pusher_pb2
from tfx.types import standard_artifacts
from tfx.utils import proto_utils

from components.pusher.component import AtomicExecutor
from components.version_folder import read_provenance
from data.errors import UserError
from data.reference import IN_VERSION, REFERENCE

FILES = {f"variables/part-{number}": bytes([number]) * 200_000 for number in range(20)} | {"saved_model.pb": b"graph"}


class Atomic(AtomicExecutor):
    """The executor with a short provenance. test_end_to_end.py has the whole one, from a real evaluation."""

    def _provenance(self, *_: object) -> dict[str, str]:
        return {"run": "a run"}


def push(executor: Executor, folder: Path, base: Path | str, blessed: int = 1) -> standard_artifacts.PushedModel:
    blessing, pushed = standard_artifacts.InfraBlessing(), standard_artifacts.PushedModel()
    blessing.uri, pushed.uri = str(folder / "blessing"), str(folder / "pushed")
    evaluation = standard_artifacts.ModelEvaluation()
    evaluation.uri = str(folder / "evaluation")
    (folder / "evaluation").mkdir(exist_ok=True)
    (folder / "evaluation" / REFERENCE).write_bytes(b"held out")
    blessing.set_int_custom_property("blessed", blessed)
    blessing.set_int_custom_property("has_model", 1)
    destination = pusher_pb2.PushDestination(filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=str(base)))
    executor.Do(
        {"infra_blessing": [blessing], "evaluation": [evaluation]},
        {"pushed_model": [pushed]},
        {"push_destination": proto_utils.proto_to_json(destination)},
    )
    return pushed


@pytest.fixture
def stamped(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        file = tmp_path / "blessing" / "stamped_model" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return tmp_path


class Watcher(threading.Thread):
    """Lists a folder without pause and notes how many files each version has when it is first seen."""

    def __init__(self, base: Path) -> None:
        super().__init__()
        self.base, self.seen, self.looks, self.done = base, dict[str, int](), 0, threading.Event()

    def run(self) -> None:
        while not self.done.is_set():
            for version in self.base.glob("[0-9]*"):
                if version.name not in self.seen:
                    self.seen[version.name] = sum(file.is_file() for file in version.rglob("*"))
            self.looks += 1

    def __enter__(self) -> "Watcher":
        self.base.mkdir()
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.done.set()
        self.join()


def test_a_watcher_at_full_speed_sees_whole_versions_only(stamped: Path) -> None:
    with Watcher(stamped / "base") as watcher:
        pushes = [push(Atomic(), stamped, stamped / "base") for _ in range(30)]
    assert watcher.looks > 100
    assert len(watcher.seen) >= 29  # the last may come after its last look
    assert set(watcher.seen.values()) == {len(FILES) + 2}
    for version in (stamped / "base").iterdir():
        assert read_provenance(str(version)) == {"run": "a run"}
        assert (version / IN_VERSION).read_bytes() == b"held out"
    # Thirty pushes within a second or two are thirty versions.
    versions = [push.get_string_custom_property("pushed_version") for push in pushes]
    assert sorted(versions) == sorted(path.name for path in (stamped / "base").iterdir())
    assert [Path(p.get_string_custom_property("pushed_destination")).name for p in pushes] == versions
    assert len(set(versions)) == 30


def test_the_watcher_would_see_tfxs_own_push_half_done(stamped: Path) -> None:
    """So that the test above can fail."""
    seen: set[int] = set()
    for attempt in range(50):  # a busy machine may not let the watcher look in between
        with Watcher(stamped / f"base-{attempt}") as watcher:
            push(Executor(), stamped, watcher.base)
        seen |= set(watcher.seen.values())
        if seen - {len(FILES)}:
            return
    pytest.fail(f"Fifty pushes, and each was seen whole: {seen}")


def test_what_is_not_blessed_is_not_pushed(stamped: Path) -> None:
    pushed = push(Atomic(), stamped, stamped / "base", blessed=0)
    assert pushed.get_int_custom_property("pushed") == 0
    assert not (stamped / "base").exists() or not list((stamped / "base").iterdir())


def test_a_push_that_fails_leaves_nothing(stamped: Path, small_disk: Path) -> None:
    (stamped / "blessing" / "stamped_model" / "variables" / "large").write_bytes(bytes(6 * 2**20))
    with pytest.raises(Exception, match=r"space|No space|RESOURCE|exhausted"):
        push(Atomic(), stamped, small_disk / "base")
    assert list((small_disk / "base").iterdir()) == []


def test_a_clock_behind_the_newest_version_still_gives_the_highest_number(stamped: Path) -> None:
    future = stamped / "base" / "9000000000"
    future.mkdir(parents=True)
    (future / "saved_model.pb").write_bytes(b"")
    pushed = push(Atomic(), stamped, stamped / "base")
    assert pushed.get_string_custom_property("pushed_version") == "9000000001"
    assert (stamped / "base" / "9000000001" / "saved_model.pb").exists()


def test_the_largest_version_number_is_a_sentence(stamped: Path) -> None:
    largest = stamped / "base" / str(2**63 - 1)
    largest.mkdir(parents=True)
    (largest / "saved_model.pb").write_bytes(b"")
    with pytest.raises(UserError, match=f"No version can follow {2**63 - 1} in "):
        push(Atomic(), stamped, stamped / "base")
    assert list((stamped / "base").iterdir()) == [largest]


def test_what_an_old_killed_push_left_is_removed(stamped: Path) -> None:
    old, young = stamped / "base" / ".pushing-old", stamped / "base" / ".pushing-young"
    for folder in (old, young):
        folder.mkdir(parents=True)
    os.utime(old, (0, time.time() - 2 * 24 * 60 * 60))
    push(Atomic(), stamped, stamped / "base")
    assert not old.exists() and young.exists()


def test_a_model_that_is_served_already_is_not_pushed_twice(tmp_path: Path) -> None:
    stamped = tmp_path / "blessing" / "stamped_model"
    tf.saved_model.save(tf.Module(), str(stamped))
    first = push(Atomic(), tmp_path, tmp_path / "base")
    again = push(Atomic(), tmp_path, tmp_path / "base")
    (version,) = (tmp_path / "base").iterdir()
    for pushed in (first, again):
        assert pushed.get_int_custom_property("pushed") == 1
        assert pushed.get_string_custom_property("pushed_destination") == str(version)
    # Another model is a second version, and the first one, pushed again after it, a third: that is a roll-back.
    shutil.copytree(stamped, tmp_path / "first")
    tf.saved_model.save(tf.Module(), str(stamped))
    push(Atomic(), tmp_path, tmp_path / "base")
    shutil.rmtree(stamped)
    shutil.copytree(tmp_path / "first", stamped)
    push(Atomic(), tmp_path, tmp_path / "base")
    assert len(list((tmp_path / "base").iterdir())) == 3
    assert push(Atomic(), tmp_path, tmp_path / "base", blessed=0).get_int_custom_property("pushed") == 0
