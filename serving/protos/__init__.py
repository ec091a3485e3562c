"""TensorFlow Serving's messages without TensorFlow. They have the same wire format.

The .proto files in this folder are the source. `make protos` generates `messages.binpb` from them. The messages have
a descriptor pool of their own, because TensorFlow's messages have the same full names in the default pool.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, message_factory

_FILES = descriptor_pb2.FileDescriptorSet.FromString(Path(__file__).with_name("messages.binpb").read_bytes())
_MESSAGES = {name.rpartition(".")[2]: kind for name, kind in message_factory.GetMessages(_FILES.file).items()}


def __getattr__(name: str) -> Any:
    """The class of a message of the .proto files, such as `PredictRequest`."""
    if name not in _MESSAGES:
        raise AttributeError(f"module {__name__} has no message {name}")
    return _MESSAGES[name]


DataType: Any = _MESSAGES["TensorProto"].DESCRIPTOR.fields_by_name["dtype"].enum_type
