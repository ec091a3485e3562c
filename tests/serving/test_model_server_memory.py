"""Large requests that are refused leave nothing in the server's memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import classification_pb2

from serving.launch import ModelServer, model_server
from tests.serving.models import CLASSIFY
from tests.serving.rpc import PREDICTION, Rpc, model_spec, predict_request, refusal, rss

pytestmark = pytest.mark.slow

MEGABYTES = 20
LARGE = np.ones((MEGABYTES * 2**18,), np.float32)


def classify() -> bytes:
    request = classification_pb2.ClassificationRequest(model_spec=model_spec(signature_name=CLASSIFY))
    feature = request.input.example_list.examples.add().features.feature["y"]
    feature.bytes_list.value.append(LARGE.tobytes())
    return request.SerializeToString()


BAD: dict[str, tuple[str, Callable[[], bytes]]] = {
    "no such model": (f"/{PREDICTION}/Predict", predict_request({"x": LARGE}, name="no").SerializeToString),
    "no such input": (f"/{PREDICTION}/Predict", predict_request({"z": LARGE}).SerializeToString),
    "a wrong dtype": (f"/{PREDICTION}/Predict", predict_request({"x": LARGE.view("i4")}).SerializeToString),
    "an example without x": (f"/{PREDICTION}/Classify", classify),
    "garbage": (f"/{PREDICTION}/Predict", lambda: b"\xff" * LARGE.nbytes),
    "an unknown method": (f"/{PREDICTION}/Regress", LARGE.tobytes),
    "garbage to health": ("/grpc.health.v1.Health/Check", lambda: b"\xff" * LARGE.nbytes),
    "an unknown service": ("/grpc.health.v1.Health/Check", lambda: b"\n\x80\x80\x80\x0a" + b"x" * (MEGABYTES * 2**20)),
}


@pytest.fixture(scope="module")
def server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    flags = ["--model_name=half_plus_two", f"--model_base_path={models / 'half_plus_two'}"]
    log = tmp_path_factory.mktemp("server") / "log"
    with model_server(flags, log, real=False) as server:
        yield server
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize("kind", BAD)
def test_refused_large_requests_are_freed(kind: str, server: ModelServer) -> None:
    method, make = BAD[kind]
    content = make()
    with Rpc(server.address) as rpc:
        held = []
        for _ in range(3):
            for _ in range(10):
                code, _ = refusal(lambda: rpc.raw(content, method))
                assert code in (
                    grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED
                ), code  # fmt: skip
            held.append(rss(server))
        # Twenty requests of 20 MB: what is kept would be 400 MB.
        assert held[2] - held[0] < 100, held
