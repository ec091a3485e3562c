"""The server: one event loop for gRPC, threads that run and load models."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import grpc

from serving.errors import ConfigError
from serving.model_server.health import Health
from serving.model_server.manager import Manager
from serving.model_server.service import MODEL_SERVICE, PREDICTION_SERVICE, Services
from serving.model_server.settings import Settings
from serving.model_server.status import StatusError

# TensorFlow Serving has the same limit.
_MAX_MESSAGE_BYTES = 2**31 - 1
_DRAIN_SECONDS = 15.0
# A request that was sent before SIGTERM arrives within this time.
_LINGER_SECONDS = 0.5
_STOP_SECONDS = 0.5
_HEALTH_POLL_SECONDS = 0.2

log = logging.getLogger(__name__)


async def serve(settings: Settings, started: Callable[[str], None]) -> None:
    """Serves until SIGTERM or SIGINT, then waits until the requests under way are answered.

    First the health changes, then new requests are refused, then the running requests finish.

    Args:
        settings: the values of the flags.
        started: called with the address when the first models are loaded.

    Raises:
        ConfigError: the port is in use, or the models' config is not valid.
    """
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    config = settings.model_config()
    with ThreadPoolExecutor(os.cpu_count(), "run") as running, ThreadPoolExecutor(1, "load") as loading:
        manager = Manager(loading, allow_unavailable=settings.allow_version_labels_for_unavailable_models)
        options = [
            ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
            ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
            ("grpc.so_reuseport", 0),
        ]
        server = grpc.aio.server(options=options)
        services = Services(manager, running)
        services.register(server)
        health = Health(PREDICTION_SERVICE, MODEL_SERVICE)
        health.register(server)
        address = _listen(server, settings)
        try:
            await manager.apply(config, start=True)
        except StatusError as status:
            remedy = (
                " At the start no version is available; use --allow_version_labels_for_unavailable_models."
                if status.code is grpc.StatusCode.FAILED_PRECONDITION
                else ""
            )
            raise ConfigError(f"Failed to start server. Error: {status.code.name}: {status}.{remedy}") from None
        await server.start()
        started(address)
        tasks = [asyncio.create_task(_report_health(manager, health))]
        if settings.file_system_poll_wait_seconds > 0:
            tasks.append(asyncio.create_task(_every(settings.file_system_poll_wait_seconds, manager.poll)))
        if settings.model_config_file and settings.model_config_file_poll_wait_seconds > 0:
            reload = partial(_reload_config, settings, manager)
            tasks.append(asyncio.create_task(_every(settings.model_config_file_poll_wait_seconds, reload)))
        await stopping.wait()
        log.info("Stopping: the health is NOT_SERVING.")
        for task in tasks:
            task.cancel()
        await health.enter_graceful_shutdown()
        await asyncio.sleep(_LINGER_SECONDS)
        log.info("Stopping: no new requests. Running requests have %.0f seconds.", _DRAIN_SECONDS)
        await services.drain(_DRAIN_SECONDS)
        await server.stop(_STOP_SECONDS)


def _listen(server: grpc.aio.Server, settings: Settings) -> str:
    address = f"{settings.host}:{settings.port}"
    try:
        _check_free(settings.host, settings.port)
        if settings.credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, settings.credentials)
    except (RuntimeError, OSError):
        certificate = "" if settings.credentials is None else ", or a valid key and certificate in --ssl_config_file"
        raise ConfigError(
            f"The server cannot listen on {address}: the port is in use, or the address is not of this machine."
            f" Choose another --port or --host{certificate}."
        ) from None
    return f"{settings.host}:{port}"


def _check_free(host: str, port: int) -> None:
    """gRPC is content if one address of a host is free, so localhost could lead to another server.

    Raises:
        OSError: the port is in use on one of the host's addresses, or the host is unknown.
    """
    for family, *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        try:
            socket.create_server(address[:2], family=family).close()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise


async def _every(seconds: float, poll: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await poll()
        except Exception:
            log.exception("The poll failed. The next one is in %g seconds.", seconds)


async def _report_health(manager: Manager, health: Health) -> None:
    while True:
        await health.report(manager.ready)
        await asyncio.sleep(_HEALTH_POLL_SECONDS)


async def _reload_config(settings: Settings, manager: Manager) -> None:
    """Applies the models' config file if it has changed. A config that cannot be served changes nothing."""
    try:
        config = settings.model_config()
        if config != manager.config:
            await manager.apply(config)
            log.info("The server now serves the config of %s.", settings.model_config_file)
    except (ConfigError, StatusError) as error:
        log.error("The server cannot serve the config of %s: %s", settings.model_config_file, error)
