"""make bench-serving: the client and the stand-in server, each against a peer in the same run.

python -m tests.benchmarks.serving [MODEL]    a version folder; default: the newest under runs/serving_models/mnist
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from data.records import read_split
from serving.client import AsyncClient, Client
from serving.launch import model_server, wait_until_available
from serving.load import closed_loop
from tests.benchmarks.__main__ import MNIST, ROOT

BATCHING = "max_batch_size { value: 64 } batch_timeout_micros { value: 0 } num_batch_threads { value: 1 }"
CALLERS, SECONDS, ROUNDS = 32, 4.0, 3


def main() -> None:
    pushed = sorted(ROOT.glob("runs/serving_models/mnist/[0-9]*"))
    if len(sys.argv) < 2 and not pushed:
        raise SystemExit("There is no pushed model to measure: run `make run` first, or name a version folder.")
    model = Path(sys.argv[1]) if len(sys.argv) > 1 else pushed[-1]
    images = read_split(MNIST, "test", 28, 28).pixels[:256]
    importing()
    encoding(images, model)
    with tempfile.TemporaryDirectory() as folder:
        base, parameters = Path(folder, "mnist"), Path(folder, "batching.config")
        base.mkdir()
        (base / "1").symlink_to(model.resolve())
        parameters.write_text(BATCHING)
        flags = ["--model_name=mnist", f"--model_base_path={base}"]
        batching = ["--enable_batching", f"--batching_parameters_file={parameters}"]
        with (
            model_server(flags, Path(folder, "log"), real=False) as plain,
            model_server([*flags, *batching], Path(folder, "log-batching"), real=False) as batched,
        ):
            for server in (plain, batched):
                wait_until_available(server, "mnist")
            latency(plain.address, images[:1], model)
            throughput(plain.address, batched.address, images[:1])
            batching_in_process(images[:CALLERS], model)


def importing() -> None:
    """A fresh process each: what importing the client costs beyond an empty interpreter."""

    def seconds(code: str) -> float:
        return min(timed(lambda: subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)) for _ in range(5))

    empty = seconds("pass")
    ours, theirs = (
        seconds("import serving.client") - empty,
        seconds("import tensorflow_serving.apis.predict_pb2") - empty,
    )
    print(f"import: serving.client {ours:.2f} s, tensorflow_serving.apis {theirs:.2f} s, ratio {ours / theirs:.2f}")


def encoding(images: np.ndarray, model: Path) -> None:
    """256 images to a request's bytes, and the answer's bytes to arrays, against TensorProtos with *_val fields."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    from serving import answers, protos
    from serving.calls import Calls

    outputs = tf.saved_model.load(str(model)).signatures["predict_images"](images=tf.constant(images))
    response = predict_pb2.PredictResponse()
    for name, tensor in outputs.items():
        response.outputs[name].CopyFrom(tf.make_tensor_proto(tensor.numpy()))
    content = response.SerializeToString()
    calls = Calls("mnist", None, None)

    def ours() -> None:
        calls.predict_images(images).request.SerializeToString()
        answers.prediction(protos.PredictResponse.FromString(content))

    def theirs() -> None:
        request = predict_pb2.PredictRequest()
        proto = tf.make_tensor_proto(0, dtype=tf.uint8, shape=images.shape)  # it leaves the elements in int_val
        del proto.int_val[:]
        proto.int_val.extend(images.ravel().tolist())
        request.inputs["images"].CopyFrom(proto)
        request.SerializeToString()
        parsed = predict_pb2.PredictResponse.FromString(content)
        for tensor in parsed.outputs.values():
            tf.make_ndarray(tensor)

    compare("encode and decode 256 images", "serving.client", ours, "int_val", theirs, rounds=50)


def latency(address: str, image: np.ndarray, model: Path) -> None:
    """A single image through client and server, in turns with the same signature called in this process."""
    import tensorflow as tf

    function = tf.saved_model.load(str(model)).signatures["predict_images"]

    def in_process() -> None:
        function(images=tf.constant(image))["probabilities"].numpy()

    with Client(address) as client:
        compare("one image, p50", "served", lambda: client.predict(image), "in process", in_process, rounds=1000)


def compare(
    what: str, left: str, first: Callable[[], object], right: str, second: Callable[[], object], rounds: int
) -> None:
    """Prints both medians, taken in turns, and their ratio."""
    for _ in range(20):
        first()
        second()
    times = np.array([(timed(first), timed(second)) for _ in range(rounds)])
    ours, theirs = np.median(times, axis=0) * 1e3
    print(f"{what}: {left} {ours:.2f} ms, {right} {theirs:.2f} ms, ratio {ours / theirs:.3g}")


def throughput(plain: str, batched: str, image: np.ndarray) -> None:
    """32 callers with one image each, with and without dynamic batching, in turns."""
    rates: dict[str, list[float]] = {plain: [], batched: []}
    for _ in range(ROUNDS):
        for address, seen in rates.items():
            seen.append(asyncio.run(load(address, image)))
    without, with_it = (float(np.median(rates[address])) for address in (plain, batched))
    print(
        f"{CALLERS} callers: with batching {with_it:,.0f} images/s, without {without:,.0f},"
        f" ratio {with_it / without:.2f}"
    )


def batching_in_process(images: np.ndarray, model: Path) -> None:
    """What batching is worth to the model itself, without gRPC: 32 images in one call, against 32 calls."""
    import tensorflow as tf

    function = tf.saved_model.load(str(model)).signatures["predict_images"]

    def together() -> None:
        function(images=tf.constant(images))["probabilities"].numpy()

    def one_by_one() -> None:
        for image in images:
            function(images=tf.constant(image[None]))["probabilities"].numpy()

    compare(f"{CALLERS} images in process", "one by one", one_by_one, "together", together, rounds=50)


async def load(address: str, image: np.ndarray) -> float:
    async with AsyncClient(address) as client:
        await closed_loop(client, image, CALLERS, 0.5)
        measured = await closed_loop(client, image, CALLERS, SECONDS)
    if measured.errors:
        raise SystemExit(f"The server answered with errors: {measured.errors}")
    return measured.images_per_second


def timed(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
