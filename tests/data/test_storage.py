"""What an error says about the disk, and what is removed from it."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

from data.errors import storage_problem
from data.process import remove_older
from tests.conftest import ROOT


def test_only_old_folders_that_match_are_removed(tmp_path: Path) -> None:
    for name in (".pushing-old", ".pushing-young", "1795540424"):
        (tmp_path / name / "variables").mkdir(parents=True)
    for name in (".pushing-old", "1795540424"):
        os.utime(tmp_path / name, (0, time.time() - 3600))
    remove_older(tmp_path, ".pushing-*", seconds=1800)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".pushing-young", "1795540424"]
    remove_older(tmp_path / "nowhere", "*", seconds=0)


def test_a_full_disk_is_found_among_the_causes() -> None:
    error = RuntimeError("Beam failed")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert "no space is left" in (storage_problem(error) or "")
    assert storage_problem(ValueError("something else")) is None


def test_tensorflow_without_s3_is_a_sentence() -> None:
    """In a process of its own: tensorflow-io, once imported, gives TensorFlow the file system."""
    code = """
import tensorflow as tf
from data.errors import storage_problem
try:
    tf.io.gfile.GFile("s3://bucket/mnist/SHA256SUMS").read()
except tf.errors.UnimplementedError as error:
    print(storage_problem(error))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "tensorflow-io, which has no release for TensorFlow 2.21" in done.stdout, done.stderr
