"""TensorFlow Serving's messages without TensorFlow. They have the same wire format.

The .proto files in this folder are the source. `make protos` generates `messages.binpb` from them. The messages have
a descriptor pool of their own, because TensorFlow's messages have the same full names in the default pool.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_POOL = descriptor_pool.DescriptorPool()
for _file in descriptor_pb2.FileDescriptorSet.FromString((Path(__file__).parent / "messages.binpb").read_bytes()).file:
    _POOL.AddSerializedFile(_file.SerializeToString())


def _message(name: str) -> Any:
    descriptor = _POOL.FindMessageTypeByName(name)
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    factory: Any = message_factory.MessageFactory(_POOL)  # protobuf before 4.22
    return factory.GetPrototype(descriptor)


DataType = _POOL.FindEnumTypeByName("tensorflow.DataType")
TensorProto = _message("tensorflow.TensorProto")

BatchingParameters = _message("tensorflow.serving.BatchingParameters")
ClassificationRequest = _message("tensorflow.serving.ClassificationRequest")
ClassificationResponse = _message("tensorflow.serving.ClassificationResponse")
GetModelMetadataRequest = _message("tensorflow.serving.GetModelMetadataRequest")
GetModelMetadataResponse = _message("tensorflow.serving.GetModelMetadataResponse")
GetModelStatusRequest = _message("tensorflow.serving.GetModelStatusRequest")
GetModelStatusResponse = _message("tensorflow.serving.GetModelStatusResponse")
ModelConfig = _message("tensorflow.serving.ModelConfig")
ModelServerConfig = _message("tensorflow.serving.ModelServerConfig")
ModelSpec = _message("tensorflow.serving.ModelSpec")
ModelVersionStatus = _message("tensorflow.serving.ModelVersionStatus")
MonitoringConfig = _message("tensorflow.serving.MonitoringConfig")
PredictRequest = _message("tensorflow.serving.PredictRequest")
PredictResponse = _message("tensorflow.serving.PredictResponse")
ReloadConfigRequest = _message("tensorflow.serving.ReloadConfigRequest")
ReloadConfigResponse = _message("tensorflow.serving.ReloadConfigResponse")
SSLConfig = _message("tensorflow.serving.SSLConfig")
SignatureDefMap = _message("tensorflow.serving.SignatureDefMap")
