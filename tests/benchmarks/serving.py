"""make bench-serving: the client and the stand-in server, each with a reference in the same run.

python -m tests.benchmarks.serving [MODEL]    a version folder; default: the newest in runs/serving_models/mnist
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from serving.client import Client
from serving.client.images import random_images
from serving.launch import model_server, wait_until_available

ROOT = Path(__file__).parents[2]


def main() -> None:
    pushed = sorted(ROOT.glob("runs/serving_models/mnist/[0-9]*"))
    if len(sys.argv) < 2 and not pushed:
        raise SystemExit("There is no pushed model. Run `make run` first, or give a version folder.")
    model = Path(sys.argv[1]) if len(sys.argv) > 1 else pushed[-1]
    images = random_images(256, (28, 28))
    importing()
    encoding(images, model)
    latency(images[:1], model)


def importing() -> None:
    """The import time of the client, minus the time of an empty interpreter. Each import is a new process."""

    def seconds(code: str) -> float:
        return min(timed(lambda: subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)) for _ in range(5))

    empty = seconds("pass")
    ours = seconds("import serving.client") - empty
    theirs = seconds("import tensorflow_serving.apis.predict_pb2") - empty
    print(f"import: serving.client {ours:.2f} s, tensorflow_serving.apis {theirs:.2f} s, ratio {ours / theirs:.2f}")


def encoding(images: np.ndarray, model: Path) -> None:
    """256 images to the bytes of a request, and the bytes of the answer to arrays; the reference uses *_val fields."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    from serving import protos
    from serving.client.calls import Calls
    from serving.client.results import parse_prediction

    outputs = tf.saved_model.load(str(model)).signatures["predict_images"](images=tf.constant(images))
    response = predict_pb2.PredictResponse()
    for name, tensor in outputs.items():
        response.outputs[name].CopyFrom(tf.make_tensor_proto(tensor.numpy()))
    content = response.SerializeToString()
    calls = Calls("mnist", None, None)

    def ours() -> None:
        calls.predict_images(images).request.SerializeToString()
        parse_prediction(protos.PredictResponse.FromString(content))

    def theirs() -> None:
        request = predict_pb2.PredictRequest()
        proto = tf.make_tensor_proto(0, dtype=tf.uint8, shape=images.shape)  # one element, in int_val
        del proto.int_val[:]
        proto.int_val.extend(images.ravel().tolist())
        request.inputs["images"].CopyFrom(proto)
        request.SerializeToString()
        parsed = predict_pb2.PredictResponse.FromString(content)
        for tensor in parsed.outputs.values():
            tf.make_ndarray(tensor)

    compare("encode and decode 256 images", "serving.client", ours, "int_val", theirs, rounds=50)


def latency(image: np.ndarray, model: Path) -> None:
    """One image through client and stand-in; the reference calls the same signature in this process."""
    import tensorflow as tf

    function = tf.saved_model.load(str(model)).signatures["predict_images"]

    def in_process() -> None:
        function(images=tf.constant(image))["probabilities"].numpy()

    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder, "mnist")
        base.mkdir()
        (base / "1").symlink_to(model.resolve())
        flags = ["--model_name=mnist", f"--model_base_path={base}"]
        with model_server(flags, Path(folder, "log"), real=False) as server, Client(server.address) as client:
            wait_until_available(server, "mnist")
            compare("one image, p50", "served", lambda: client.predict(image), "in process", in_process, rounds=1000)


def compare(
    what: str, left: str, first: Callable[[], object], right: str, second: Callable[[], object], rounds: int
) -> None:
    """Prints both medians and their ratio. The calls alternate."""
    for _ in range(20):
        first()
        second()
    times = np.array([(timed(first), timed(second)) for _ in range(rounds)])
    ours, theirs = np.median(times, axis=0) * 1e3
    print(f"{what}: {left} {ours:.2f} ms, {right} {theirs:.2f} ms, ratio {ours / theirs:.3g}")


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
