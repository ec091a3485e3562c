"""A fork for other sequences: two files and a profile are replaced, and the whole chain runs to a gRPC answer."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests import processes
from tests.conftest import PACKAGES, ROOT

pytestmark = pytest.mark.slow

FORK = ROOT / "tests" / "own_sequences"
# Asks the pushed model for the test split, by arrays and by examples, and prints the accuracy of both.
ASK = """
import sys
from pathlib import Path
from data.example import ExampleSpec
from data.records import list_shards, read_serialized, read_split
from serving.client import Client
from serving.launch import model_server, wait_until_available
base_path, folder = sys.argv[1], Path(sys.argv[2])
sequences, labels = read_split(folder, "test", ExampleSpec())
assert sequences.shape == (150, 3, 10) and sequences.dtype == "float32"
with model_server(["--model_name=cells", f"--model_base_path={base_path}"], Path("server.log")) as server:
    wait_until_available(server, "cells")
    with Client(server.address, model="cells") as client:
        by_array = client.predict(sequences).class_ids
        records = [record for shard in list_shards(folder, "test") for record in read_serialized(shard)]
        by_example = client.predict_examples(records).class_ids
        rows = client.predict_rows(sequences[:5])
assert rows.shape == (5, 3, 2)
print((by_array == labels).mean(), (by_example == labels).mean())
"""


@pytest.fixture
def fork(tmp_path: Path) -> Path:
    """The project with the files replaced that the README names."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("*.gz", "__pycache__"))
    shutil.copy(FORK / "example.py", tmp_path / "data" / "example.py")
    shutil.copy(FORK / "images.py", tmp_path / "serving" / "client" / "images.py")
    return tmp_path


def python(fork: Path, *arguments: str, code: int = 0) -> str:
    """What `python …` prints in the fork, where it ends with that exit code."""
    environment = {**os.environ, "PYTHONPATH": str(fork)}
    ended, text = processes.run(processes.python, arguments, str(fork), environment=environment)
    assert ended == code, text
    return text


def test_float_sequences_go_from_records_to_a_grpc_answer(fork: Path) -> None:
    python(fork, str(FORK / "write_shards.py"), "cells")
    shown = python(fork, "-m", "pipeline.run_local", "--profile", str(FORK / "profile.toml"))
    assert "✓ accuracy of class benign" in shown and "Pushed             version" in shown
    assert "by serving.model_server, the stand-in" in shown
    by_array, by_example = map(float, python(fork, "-c", ASK, "runs/serving_models/cells", "cells").split()[-2:])
    assert by_array == by_example > 0.9
    assert f"Test accuracy      {by_array:.4f} of 150 examples" in shown


def test_the_data_gate_knows_the_other_example(fork: Path) -> None:
    """A record with 29 numbers instead of 30 stops the run."""
    python(fork, str(FORK / "write_shards.py"), "cells")
    shorten = (
        "import numpy as np; from pathlib import Path; from data.records import write_split\n"
        "write_split(Path('cells'), 'eval', [np.ones(30), np.ones(29)], [0, 1], shards=1)"
    )
    python(fork, "-c", shorten)
    shown = python(fork, "-m", "pipeline.run_local", "--profile", str(FORK / "profile.toml"), code=4)
    assert "eval: values: expected" in shown
    assert "example with 29 values, expected 3 × 10 = 30: 1 in split eval" in shown
