"""The server: threads that answer, and one that looks for new versions."""

from __future__ import annotations

import argparse
import errno
import logging
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc
from tensorflow_serving.config import model_server_config_pb2

from data.signature import public_key
from serving import textformat
from serving.errors import ConfigError
from serving.model_server.manager import Manager
from serving.model_server.servable import StatusError
from serving.model_server.service import Services
from serving.request_log import RequestLog
from serving.tls import read_ssl_config

_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.so_reuseport", 0),
]
_DRAIN_SECONDS = 15.0
# A request that was sent before SIGTERM arrives within this time.
_LINGER_SECONDS = 0.5

log = logging.getLogger(__name__)


def serve(options: argparse.Namespace) -> None:
    """Serves until SIGTERM or SIGINT, then waits until the requests under way are answered.

    First the health changes, then new requests are refused, then the running requests finish.

    Args:
        options: the values of the flags.

    Raises:
        ConfigError: the port is in use, or a file or the models' config is not valid.
        LogError: the folder of the request log cannot be written.
        SettingsError: `verify_key` is no P-256 key.
    """
    end = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        # A KeyboardInterrupt would be lost if it arrived in a callback of TensorFlow, which loads the models.
        signal.signal(number, lambda *_: end.set())
    key = public_key(options.verify_key) if options.verify_key else None
    manager, state = Manager(key), health.HealthServicer()
    server = grpc.server(ThreadPoolExecutor(), options=_OPTIONS)
    request_log = RequestLog(options.request_log) if options.request_log else None
    services = Services(manager, request_log)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(services, server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(services, server)
    health_pb2_grpc.add_HealthServicer_to_server(state, server)
    config = _model_config(options)
    log.info("This is a stand-in for one machine. In production use TensorFlow Serving.")
    port = _listen(server, options)
    try:
        manager.apply(config, start=True)
    except StatusError as error:
        raise ConfigError(f"The models cannot be served: {error}.") from None
    _report(state, manager)
    server.start()
    log.info("Running at %s:%d ...", options.host, port)
    while not end.wait(options.file_system_poll_wait_seconds):
        manager.poll()
        _report(state, manager)
    log.info("Stopping. Running requests have %.0f seconds.", _DRAIN_SECONDS)
    state.enter_graceful_shutdown()
    time.sleep(_LINGER_SECONDS)
    stopped = server.stop(_DRAIN_SECONDS)
    while services.running and not stopped.wait(0.05):
        pass
    stopped.wait(_LINGER_SECONDS)  # the last answers are on their way; an idle client would keep its connection longer
    if request_log is not None:
        request_log.close()
        log.info("%s", request_log.counts)


def _report(state: health.HealthServicer, manager: Manager) -> None:
    """Sets the health of the whole server, and of the names that TensorFlow Serving has."""
    status = health_pb2.HealthCheckResponse
    for name in ("", "PredictionService", "ModelService"):
        state.set(name, status.SERVING if manager.ready else status.NOT_SERVING)


def _model_config(options: argparse.Namespace) -> model_server_config_pb2.ModelServerConfig:
    config = model_server_config_pb2.ModelServerConfig()
    if options.model_config_file:
        return textformat.parse(options.model_config_file, config)
    config.model_config_list.config.add(name=options.model_name, base_path=str(options.model_base_path.absolute()))
    return config


def _listen(server: grpc.Server, options: argparse.Namespace) -> int:
    """The port, on which the server then listens."""
    address = f"{options.host}:{options.port}"
    credentials = _credentials(options.ssl_config_file) if options.ssl_config_file else None
    try:
        _check_free(options.host, options.port)
        if credentials is None:
            return int(server.add_insecure_port(address))
        return int(server.add_secure_port(address, credentials))
    except (RuntimeError, OSError):
        certificate = "" if credentials is None else ", or a valid key and certificate in --ssl_config_file"
        raise ConfigError(
            f"The server cannot listen on {address}: the port is in use, or the address is not of this machine."
            f" Choose another --port or --host{certificate}."
        ) from None


def _check_free(host: str, port: int) -> None:
    """gRPC is content if one address of a host is free, so localhost could lead to another server."""
    for family, *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        try:
            socket.create_server(address[:2], family=family).close()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise


def _credentials(file: Path) -> grpc.ServerCredentials:
    config = read_ssl_config(file)
    return grpc.ssl_server_credentials(
        [(config.server_key.encode(), config.server_cert.encode())],
        root_certificates=config.custom_ca.encode() or None,
        require_client_auth=config.client_verify,
    )
