"""Thousands of malformed and valid requests: each gets a proper status, and the server does not change."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    predict_pb2,
)

from serving.launch import ModelServer
from tests.serving.models import CLASSIFY
from tests.serving.rpc import MODEL, PREDICTION, Rpc, config_of, model_of, model_spec, predict_request, rss

OK, INVALID, NOT_FOUND = (grpc.StatusCode[name] for name in ("OK", "INVALID_ARGUMENT", "NOT_FOUND"))
ANY = frozenset({OK, INVALID, NOT_FOUND})
REQUESTS, AT_ONCE = 5_000, 50
# The sizes in the shapes of tensors.
SIZES = (-(2**63), -5, -1, 0, 1, 2, 3, 7, 2**16, 2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1)
ONE_INPUT = (
    ("half_plus_two", "", "x"),
    ("half_plus_two", CLASSIFY, "inputs"),
    ("odd", "", "x"),
    ("odd", "types", "x"),
    ("odd", "join", "words"),
)
FIELDS = ("float_val", "double_val", "int_val", "int64_val", "bool_val", "half_val", "uint32_val", "uint64_val")


class Case(NamedTuple):
    """A request as bytes, and the proper status codes for it."""

    method: str
    content: bytes
    codes: frozenset[grpc.StatusCode] = ANY


class Fuzz:
    """Makes random requests of several kinds. The same seed gives the same requests."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.kinds: list[Callable[[], Case]] = [
            getattr(self, name) for name in dir(self) if name.startswith("make_") for _ in range(1 + ("valid" in name))
        ]

    def case(self) -> tuple[str, Case]:
        make = self.random.choice(self.kinds)
        return make.__name__.removeprefix("make_"), make()

    def text(self) -> str:
        pick = self.random
        if pick.random() < 0.03:
            return pick.choice("xé🔥\n\0") * pick.randrange(10**3, 10**4)
        return "".join(pick.choice("abxy{}%\n\0é🔥\t ") for _ in range(pick.randrange(12)))

    def make_valid(self) -> Case:
        pick = self.random
        x = [pick.uniform(-9, 9) for _ in range(pick.randrange(1, 6))]
        words = tf.make_tensor_proto([pick.randbytes(5) for _ in x])
        spec = model_spec(signature_name=CLASSIFY)
        classify = classification_pb2.ClassificationRequest(model_spec=spec)
        classify.input.example_list.examples.add().features.feature["x"].float_list.value.append(x[0])
        status = get_model_status_pb2.GetModelStatusRequest(model_spec=model_spec())
        fields = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=model_spec(), metadata_field=["signature_def"]
        )
        join = predict_pb2.PredictRequest(model_spec=model_spec(name="odd", signature_name="join"))
        join.inputs["words"].CopyFrom(words)
        method, message = pick.choice(
            [
                (f"/{PREDICTION}/Predict", predict_request({"x": x})),
                (f"/{PREDICTION}/Predict", predict_request({"x": [x]}, name="odd")),
                (
                    f"/{PREDICTION}/Predict",
                    predict_request({"x": [[v, v] for v in x]}, name="odd", signature_name="types"),
                ),
                (
                    f"/{PREDICTION}/Predict",
                    predict_request({"a": x, "b": x}, ["sum"], name="odd", signature_name="add"),
                ),
                (f"/{PREDICTION}/Predict", join),
                (f"/{PREDICTION}/Classify", classify),
                (f"/{PREDICTION}/GetModelMetadata", fields),
                (f"/{MODEL}/GetModelStatus", status),
            ]
        )
        return Case(method, message.SerializeToString(), frozenset({OK}))

    def make_noise(self) -> Case:
        name = self.random.choice(
            [
                *(f"{PREDICTION}/{name}" for name in ("Predict", "Classify", "GetModelMetadata")),
                *(f"{MODEL}/{name}" for name in ("GetModelStatus", "HandleReloadConfigRequest")),
            ]
        )
        return Case(f"/{name}", self.random.randbytes(self.random.randrange(200)), frozenset({INVALID, NOT_FOUND}))

    def make_truncated(self) -> Case:
        case = self.make_valid()
        return Case(case.method, case.content[: self.random.randrange(len(case.content))])

    def make_flipped(self) -> Case:
        case = self.make_valid()
        content = bytearray(case.content)
        for _ in range(self.random.randrange(1, 9)):
            content[self.random.randrange(len(content))] ^= 1 << self.random.randrange(8)
        return Case(case.method, bytes(content))

    def make_spliced(self) -> Case:
        one, other = self.make_valid(), self.make_valid()
        start, end = self.random.randrange(len(one.content)), self.random.randrange(len(other.content))
        return Case(one.method, one.content[:start] + other.content[end:])

    def predict(self, tensor: Callable[[Any], None]) -> Case:
        """A request to a random model and signature; `tensor` damages its tensor."""
        name, signature, alias = self.random.choice(ONE_INPUT)
        request = predict_pb2.PredictRequest(model_spec=model_spec(name=name, signature_name=signature))
        proto = request.inputs[alias]
        proto.dtype = (tf.string if alias != "x" else tf.float32).as_datatype_enum
        tensor(proto)
        return Case(f"/{PREDICTION}/Predict", request.SerializeToString(), frozenset({OK, INVALID}))

    def make_types(self) -> Case:
        def tensor(proto: Any) -> None:
            proto.dtype = self.random.choice([*range(-1, 31), 101, 120, 2**31 - 1])
            proto.tensor_shape.dim.add(size=self.random.randrange(3))
            field = getattr(proto, self.random.choice(FIELDS))
            field.extend([1] * self.random.randrange(4))
            proto.string_val.extend([self.random.randbytes(3)] * self.random.randrange(3))

        return self.predict(tensor)

    def make_shapes(self) -> Case:
        def tensor(proto: Any) -> None:
            rank = self.random.choice([0, 1, 1, 2, 2, 2, 3, 4, 31, 32, 33, 64, 255, 300])
            sizes = self.random.choice([SIZES, (1,), (0, 1, 2**62), (0, 1, 2)]) if rank < 5 else (0, 1, 1, 1, 2)
            for _ in range(rank):
                proto.tensor_shape.dim.add(size=self.random.choice(sizes))
            proto.tensor_shape.unknown_rank = self.random.random() < 0.05
            proto.float_val.extend([1.5] * self.random.randrange(3))
            if self.random.random() < 0.3:
                proto.tensor_content = self.random.randbytes(self.random.randrange(20))

        return self.predict(tensor)

    def make_huge_strings(self) -> Case:
        def tensor(proto: Any) -> None:
            proto.tensor_shape.dim.add(size=self.random.choice([1, 1, 200]))
            proto.string_val.append(self.random.randbytes(1) * self.random.choice([0, 10, 30_000]))

        return self.predict(tensor)

    def make_aliases(self) -> Case:
        names = ["_" + self.text() for _ in range(self.random.randrange(4))]
        request = predict_request(
            {name: [1.0] for name in names}, ["_" + self.text() for _ in range(self.random.randrange(3))]
        )
        return Case(f"/{PREDICTION}/Predict", request.SerializeToString(), frozenset({INVALID}))

    def make_filters(self) -> Case:
        filters = self.random.choice([["y", "y"], ["y", "_" + self.text()], ["_" + self.text()], ["z"] * 2000])
        request = predict_request({"x": [1.0]}, filters)
        return Case(f"/{PREDICTION}/Predict", request.SerializeToString(), frozenset({INVALID}))

    def make_specs(self) -> Case:
        spec: dict[str, Any] = {"name": self.random.choice(["half_plus_two", "odd", self.text()])}
        spec |= self.random.choice([{"version": self.random.choice(SIZES)}, {"version_label": self.text()}])
        if self.random.random() < 0.5:
            spec["signature_name"] = self.text()
        request = self.random.choice(
            [
                predict_request({"x": [1.0]}, **spec),
                get_model_status_pb2.GetModelStatusRequest(model_spec=model_spec(**spec)),
            ]
        )
        service = (
            f"{PREDICTION}/Predict" if isinstance(request, predict_pb2.PredictRequest) else f"{MODEL}/GetModelStatus"
        )
        return Case(f"/{service}", request.SerializeToString())

    def make_empty(self) -> Case:
        content = predict_pb2.PredictRequest(model_spec=model_spec()).SerializeToString()
        name = self.random.choice(["Predict", "Classify", "GetModelMetadata"])
        return Case(f"/{PREDICTION}/{name}", self.random.choice([b"", content]), frozenset({INVALID}))

    def make_unknown_methods(self) -> Case:
        name = self.random.choice(["Regress", "MultiInference", "Predict/", "predict", "%00"])
        return Case(f"/{PREDICTION}/{name}", b"", frozenset({grpc.StatusCode.UNIMPLEMENTED}))

    def make_examples(self) -> Case:
        request = classification_pb2.ClassificationRequest(model_spec=model_spec(signature_name=CLASSIFY))
        for _ in range(self.random.randrange(3)):
            feature = request.input.example_list.examples.add().features.feature[self.random.choice(["x", self.text()])]
            feature.float_list.value.extend([1.0] * self.random.randrange(3))
            if self.random.random() < 0.4:
                feature.bytes_list.value.append(self.random.randbytes(3))
        if self.random.random() < 0.1:
            request.input.example_list_with_context.context.features.feature["x"].float_list.value.append(1)
        return Case(f"/{PREDICTION}/Classify", request.SerializeToString(), frozenset({OK, INVALID}))

    def make_reloads(self) -> Case:
        half = model_of("half_plus_two", Path("/tmp"))
        config, code = self.random.choice(
            [
                (config_of(half, half), INVALID),
                (config_of(half, model_of("a", Path("b"))), INVALID),
                (config_of(model_of("", Path("/tmp"))), INVALID),
                (config_of(half, 'name: "a" base_path: "/tmp" model_platform: "b"'), INVALID),
                (config_of(model_of("a", Path("/tmp/\\000"))), INVALID),
                ("custom_model_config {}", INVALID),
                (config_of(model_of("a", Path("/missing"))), grpc.StatusCode.UNKNOWN),  # the code of TensorFlow Serving
                (
                    config_of(model_of("mnist", Path("/"), 'version_labels { key: "stable" value: 9 }')),
                    grpc.StatusCode.FAILED_PRECONDITION,
                ),
            ]
        )
        request = model_management_pb2.ReloadConfigRequest()
        text_format.Parse(config, request.config)
        return Case(f"/{MODEL}/HandleReloadConfigRequest", request.SerializeToString(), frozenset({code}))


@pytest.mark.slow
def test_whatever_is_sent_gets_a_proper_status(server: ModelServer) -> None:
    with Rpc(server.address) as rpc:
        fuzz_server(server, rpc)


def fuzz_server(server: ModelServer, rpc: Rpc) -> None:
    assert server.process is not None and server.log is not None
    fuzz, held = Fuzz(seed=20161), []
    answered: Counter[tuple[str, str]] = Counter()
    for sent in range(0, REQUESTS, AT_ONCE):
        batch = [fuzz.case() for _ in range(AT_ONCE)]
        futures = [rpc.channel.unary_unary(case.method).future(case.content, timeout=60) for _, case in batch]
        for (kind, case), future in zip(batch, futures, strict=True):
            code = future.code()
            answered[kind, code.name] += 1
            assert code in case.codes, (kind, code, future.details(), case.method, case.content[:500])
            assert code == OK or future.details() or code == grpc.StatusCode.UNIMPLEMENTED, (kind, code)
        if sent + AT_ONCE in (REQUESTS // 2, REQUESTS):
            held.append(rss(server))
    assert rpc.half(1.0) == (2.5, 7)
    assert (rpc.states(), rpc.states(name="odd")) == ({7: "AVAILABLE"}, {1: "AVAILABLE"})
    assert server.process.poll() is None and rpc.health() == "SERVING"
    assert held[1] < held[0] + 30, held
    assert not re.search("Traceback|failed\\.$", server.log.read_text(), re.MULTILINE)
    # The requests were as mixed as intended.
    assert answered["valid", "OK"] > 400 and answered["shapes", "OK"] and answered["shapes", "INVALID_ARGUMENT"]
    assert answered["flipped", "OK"] and answered["flipped", "INVALID_ARGUMENT"] and answered["flipped", "NOT_FOUND"]
