"""A model that one TFX trained is served under the other, and the client reads it.

`trained` holds an LSTM(16) pushed by each, with reference predictions of its Trainer:

    python -m pipeline.run_local --set model.units=16 training.epochs=4 gates.accuracy=0.9 gates.class_accuracy=0.8
"""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest

from serving.client import Client
from serving.launch import ModelServer
from tests.serving.rpc import Rpc, config_of, model_of

ARCHIVES = sorted((Path(__file__).parent / "trained").glob("*.tar.gz"))


def test_there_is_one_of_each_tfx() -> None:
    assert [path.name for path in ARCHIVES] == ["tfx-1.16.tar.gz", "tfx-1.21.tar.gz"]


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda path: path.name.removesuffix(".tar.gz"))
def test_it_answers_as_it_was_trained(
    archive: Path, rpc: Rpc, changing_server: ModelServer, digit: np.ndarray, tmp_path: Path
) -> None:
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")
    rpc.reload(config_of(model_of("mnist", tmp_path)))
    reference = np.load(tmp_path / "reference_predictions.npz")
    with Client(changing_server.address) as client:
        found = client.predict(reference["inputs"])
        np.testing.assert_allclose(found.probabilities, reference["probabilities"], atol=1e-5)
        assert (found.class_ids == reference["probabilities"].argmax(axis=1)).all()
        after_each_row = client.predict_rows(reference["inputs"])
        np.testing.assert_allclose(after_each_row[:, -1], reference["probabilities"], atol=1e-5)
        assert client.predict(digit[None]).class_ids.tolist() == [7]
    # Its warm-up requests ran, so the first request was not slow.
    assert changing_server.log is not None
    assert f"Warmed up {tmp_path}/1 with" in changing_server.log.read_text()
