"""The client's messages: without TensorFlow, together with TensorFlow, and the same on the wire."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from tensorflow_serving.apis import predict_pb2

from serving import protos
from serving.tensors import encode
from tests.conftest import ROOT

PROTOS = ROOT / "serving" / "protos"
FILES = descriptor_pb2.FileDescriptorSet.FromString((PROTOS / "messages.binpb").read_bytes())
OURS = descriptor_pool.DescriptorPool()
for _file in FILES.file:
    OURS.Add(_file)

# tensorflow-serving-api does not have these configurations.
NOT_IN_THE_API = {
    f"tensorflow.serving.{name}" for name in ("BatchingParameters", "PrometheusConfig", "MonitoringConfig", "SSLConfig")
}
# The same bytes on the wire: an embedded message is its serialized bytes, an enum an integer.
SAME_ON_THE_WIRE = {
    "tensorflow.serving.ExampleList.examples": (FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_MESSAGE),
    "tensorflow.serving.StatusProto.error_code": (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_ENUM),
    **{
        f"tensorflow.serving.{method}Log.{field}": (FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_MESSAGE)
        for method in ("Predict", "Classify")
        for field in ("request", "response")
    },
}
# TensorFlow Serving has no such fields, and not their numbers.
OURS_ALONE = {f"tensorflow.serving.LogMetadata.{field}" for field in ("request_id", "timestamp_nanos")}


def python(program: str) -> str:
    """The output of a new process."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_client_imports_none_of_the_heavy_packages() -> None:
    loaded = python("import serving.client, sys; print(*sys.modules)").split()
    assert "serving.client" in loaded and "grpc" in loaded
    heavy = {"tensorflow", "tensorflow_serving", "tfx", "PIL", "rich", "pipeline", "components"}
    assert not {name for name in loaded if name.split(".")[0] in heavy}
    assert {name for name in loaded if name.startswith("data.")} == {"data.errors", "data.pictures"}


def test_it_lives_beside_tensorflow() -> None:
    """This process imported TensorFlow first, and the stand-in imports the client first."""
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    ours = protos.PredictRequest(model_spec=protos.ModelSpec(name="m", version_label="stable", signature_name="s"))
    ours.inputs["x"].CopyFrom(encode(array))
    theirs = predict_pb2.PredictRequest.FromString(ours.SerializeToString())
    spec = theirs.model_spec
    assert (spec.name, spec.version_label, spec.signature_name) == ("m", "stable", "s")
    assert (tf.make_ndarray(theirs.inputs["x"]) == array).all()
    spec.version.value = 7
    back = protos.PredictRequest.FromString(theirs.SerializeToString())
    assert back.model_spec.version.value == 7 and back.inputs == ours.inputs


def test_the_descriptors_are_what_protoc_makes_of_the_files(tmp_path: Path) -> None:
    made = tmp_path / "made.binpb"
    files = [str(path) for path in sorted(PROTOS.glob("*.proto"))]
    options = [f"-I{PROTOS}", "--include_imports", f"--descriptor_set_out={made}"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *options, *files], check=True)
    # Compared as messages first, because that shows the difference.
    assert descriptor_pb2.FileDescriptorSet.FromString(made.read_bytes()) == FILES
    assert made.read_bytes() == (PROTOS / "messages.binpb").read_bytes()


def described() -> Iterator[Descriptor | EnumDescriptor]:
    """Every message and enum of the two files, nested ones included."""

    def inside(message: Descriptor) -> Iterator[Descriptor | EnumDescriptor]:
        if not message.GetOptions().map_entry:
            yield message
        yield from message.enum_types
        for nested in message.nested_types:
            yield from inside(nested)

    for name in ("tensorflow.proto", "tensorflow_serving.proto"):
        file = OURS.FindFileByName(name)
        yield from file.enum_types_by_name.values()
        for message in file.message_types_by_name.values():
            yield from inside(message)


DESCRIBED = list(described())


@pytest.fixture(scope="module")
def theirs() -> descriptor_pool.DescriptorPool:
    """TensorFlow's and TensorFlow Serving's own messages."""
    services = ("predict", "classification", "get_model_metadata", "get_model_status", "model_management")
    for name in (*services, "prediction_log"):
        importlib.import_module(f"tensorflow_serving.apis.{name}_pb2")
    return descriptor_pool.Default()


@pytest.mark.parametrize("ours", [item for item in DESCRIBED if isinstance(item, Descriptor)], ids=attrgetter("name"))
def test_each_message_has_the_fields_of_the_original(ours: Descriptor, theirs: descriptor_pool.DescriptorPool) -> None:
    if ours.full_name in NOT_IN_THE_API:
        with pytest.raises(KeyError):
            theirs.FindMessageTypeByName(ours.full_name)
        return
    original = theirs.FindMessageTypeByName(ours.full_name)
    for field in ours.fields:
        if field.full_name in OURS_ALONE:
            assert field.name not in original.fields_by_name and field.number not in original.fields_by_number
            continue
        same = original.fields_by_name[field.name]
        assert (field.number, field.label) == (same.number, same.label), field.full_name
        types = (field.type, same.type)
        assert types == SAME_ON_THE_WIRE.get(field.full_name, (field.type, field.type)), field.full_name
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            assert field.message_type.full_name == same.message_type.full_name
            for entry in field.message_type.fields if field.message_type.GetOptions().map_entry else ():
                of_theirs = same.message_type.fields_by_name[entry.name]
                assert (entry.number, entry.type) == (of_theirs.number, of_theirs.type), entry.full_name
        if field.type == FieldDescriptor.TYPE_ENUM:
            assert field.enum_type.full_name == same.enum_type.full_name
        oneofs = [side.containing_oneof and side.containing_oneof.name for side in (field, same)]
        assert oneofs[0] in (None, oneofs[1]), field.full_name


@pytest.mark.parametrize(
    "ours", [item for item in described() if isinstance(item, EnumDescriptor)], ids=lambda e: e.name
)
def test_each_enum_has_the_numbers_of_the_original(
    ours: EnumDescriptor, theirs: descriptor_pool.DescriptorPool
) -> None:
    original = theirs.FindEnumTypeByName(ours.full_name)
    assert {value.name: value.number for value in ours.values}.items() <= {
        value.name: value.number for value in original.values
    }.items()
