"""gRPC's health service. It says whether every model has an available version."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2

from serving.model_server.status import refuse

_NAME = "grpc.health.v1.Health"
_SERVING, _NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


class Health(health.aio.HealthServicer):
    """The health of `services`, and of the whole server under the empty name. At first nothing is served."""

    def __init__(self, *services: str) -> None:
        super().__init__()
        self._names = ("", *services)

    async def report(self, ready: bool) -> None:
        """Sets the health of all services."""
        for name in self._names:
            await self.set(name, _SERVING if ready else _NOT_SERVING)

    def register(self, server: grpc.aio.Server) -> None:
        """Adds the service to `server`."""
        formats = {"request_deserializer": _parse, "response_serializer": lambda message: message.SerializeToString()}
        handlers = {
            "Check": grpc.unary_unary_rpc_method_handler(self.Check, **formats),
            "Watch": grpc.unary_stream_rpc_method_handler(self.Watch, **formats),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_NAME, handlers),))

    async def Check(self, request: Any, context: Any) -> Any:
        """NOT_FOUND for an unknown service."""
        if request is None:
            return refuse(context, grpc.StatusCode.INVALID_ARGUMENT, "The request is not a HealthCheckRequest")
        if request.service not in self._names:
            return refuse(context, grpc.StatusCode.NOT_FOUND, f"Unknown service {request.service}")
        return await super().Check(request, context)

    async def Watch(self, request: Any, context: Any) -> None:
        """SERVICE_UNKNOWN for an unknown service."""
        if request is None:
            refuse(context, grpc.StatusCode.INVALID_ARGUMENT, "The request is not a HealthCheckRequest")
        else:
            await super().Watch(request, context)


def _parse(content: bytes) -> Any:
    """The request; None for bytes that are no request, for which gRPC would log a traceback."""
    try:
        return health_pb2.HealthCheckRequest.FromString(content)
    except DecodeError:
        return None
