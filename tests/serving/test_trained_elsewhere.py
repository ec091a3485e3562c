"""A model that one TFX trained is served under the other, and the client reads it.

`trained` holds an LSTM(16) pushed by each, with reference predictions of its Trainer:

    python -m pipeline.run_local --set model.units=16 training.epochs=4 gates.accuracy=0.9 gates.class_accuracy=0.8
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from serving.client import Client
from serving.launch import ModelServer, model_server

ARCHIVES = sorted((Path(__file__).parent / "trained").glob("*.tar.gz"))


@pytest.fixture(scope="module", params=ARCHIVES, ids=lambda path: path.name.removesuffix(".tar.gz"))
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    with tarfile.open(request.param) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def server(trained: Path) -> Iterator[ModelServer]:
    flags = ["--model_name=mnist", f"--model_base_path={trained}"]
    with model_server(flags, trained / "log", real=False) as server:
        yield server


def test_there_is_one_of_each_tfx() -> None:
    assert [path.name for path in ARCHIVES] == ["tfx-1.16.tar.gz", "tfx-1.21.tar.gz"]


def test_it_answers_as_it_was_trained(trained: Path, server: ModelServer, digit: np.ndarray) -> None:
    reference = np.load(trained / "reference_predictions.npz")
    with Client(server.address) as client:
        found = client.predict(reference["inputs"])
        np.testing.assert_allclose(found.probabilities, reference["probabilities"], atol=1e-5)
        assert (found.class_ids == reference["probabilities"].argmax(axis=1)).all()
        after_each_row = client.predict_rows(reference["inputs"])
        np.testing.assert_allclose(after_each_row[:, -1], reference["probabilities"], atol=1e-5)
        assert client.predict(digit[None]).class_ids.tolist() == [7]
    # Its warm-up requests ran, so the first request was not slow.
    assert server.log is not None and "Warmed up mnist version 1 with" in server.log.read_text()
