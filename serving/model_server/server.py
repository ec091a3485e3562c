"""Puts the parts together: one event loop that answers, threads that compute and load."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import grpc
import tensorflow as tf
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from serving.errors import ConfigError
from serving.model_server import metrics as prometheus
from serving.model_server.manager import Manager
from serving.model_server.service import MODEL_SERVICE, PREDICTION_SERVICE, Runner, Services
from serving.model_server.settings import Settings
from serving.model_server.status import StatusError

# TensorFlow Serving's own limit.
_MAX_MESSAGE_BYTES = 2**31 - 1
_DRAIN_SECONDS = 15.0

log = logging.getLogger(__name__)


async def serve(settings: Settings, running: Callable[[str], None]) -> None:
    """Serves until SIGTERM or SIGINT, then lets the requests under way finish.

    Args:
        settings: the flags.
        running: called with the address once the first models are loaded.

    Raises:
        ConfigError: the port is taken, or the models' config cannot be served.
    """
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    if settings.session_parallelism:
        tf.config.threading.set_intra_op_parallelism_threads(settings.session_parallelism)
        tf.config.threading.set_inter_op_parallelism_threads(settings.session_parallelism)
    config = settings.model_config()
    metrics = prometheus.Metrics()
    threads = settings.batching.num_batch_threads if settings.batching else os.cpu_count() or 1
    with ThreadPoolExecutor(threads, "run") as computing, ThreadPoolExecutor(1, "load") as loading:
        runner = Runner(computing, settings.batching)
        manager = Manager(
            loading,
            labels_ahead=settings.allow_version_labels_for_unavailable_models,
            unloaded=runner.forget,
        )
        options = [
            ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
            ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
            ("grpc.so_reuseport", 0),
            *settings.channel_arguments,
        ]
        server = grpc.aio.server(options=options)
        Services(manager, runner, metrics).register(server)
        checks = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(checks, server)
        address = _listen(server, settings)
        stop_metrics = _serve_metrics(metrics, settings)
        try:
            await manager.apply(config, start=True)
        except StatusError as status:
            remedy = (
                " At the start none is; --allow_version_labels_for_unavailable_models lets labels wait."
                if status.code is grpc.StatusCode.FAILED_PRECONDITION
                else ""
            )
            raise ConfigError(f"Failed to start server. Error: {status.code.name}: {status}.{remedy}") from None
        await server.start()
        running(address)
        tasks = [asyncio.create_task(_report_health(manager, checks))]
        if settings.file_system_poll_wait_seconds > 0:
            tasks.append(asyncio.create_task(_every(settings.file_system_poll_wait_seconds, manager.poll)))
        if settings.model_config_file and settings.model_config_file_poll_wait_seconds > 0:
            reread = partial(_reread, settings, manager)
            tasks.append(asyncio.create_task(_every(settings.model_config_file_poll_wait_seconds, reread)))
        await stopping.wait()
        log.info("Stopping: no new requests; those under way have %.0f seconds.", _DRAIN_SECONDS)
        for task in tasks:
            task.cancel()
        await checks.enter_graceful_shutdown()
        await server.stop(_DRAIN_SECONDS)
        stop_metrics()


def _listen(server: grpc.aio.Server, settings: Settings) -> str:
    address = f"{settings.host}:{settings.port}"
    try:
        if settings.credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, settings.credentials)
    except RuntimeError:
        raise ConfigError(
            f"{address} cannot be listened on: the port is taken, or the address is not this machine's."
            " Choose another --port or --host."
            if settings.credentials is None
            else f"{address} cannot be listened on: the port is taken, the address is not this machine's, or key and"
            " certificate of --ssl_config_file are not what they should be."
        ) from None
    return f"{settings.host}:{port}"


def _serve_metrics(metrics: prometheus.Metrics, settings: Settings) -> Callable[[], None]:
    if settings.metrics_path is None:
        return lambda: None
    try:
        return prometheus.serve(metrics, settings.host, settings.rest_api_port, settings.metrics_path)
    except OSError as error:
        raise ConfigError(
            f"--rest_api_port={settings.rest_api_port} cannot be listened on: {error.strerror}."
        ) from None


async def _every(seconds: float, act: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await act()
        except Exception:
            log.exception("A look at the files failed; the next is in %g seconds.", seconds)


async def _report_health(manager: Manager, checks: health.aio.HealthServicer) -> None:
    while True:
        state = health_pb2.HealthCheckResponse.SERVING if manager.ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in ("", PREDICTION_SERVICE, MODEL_SERVICE):
            await checks.set(service, state)
        await asyncio.sleep(0.2)


async def _reread(settings: Settings, manager: Manager) -> None:
    """Applies the models' config file if it says other than what is served; where it cannot be, nothing changes."""
    try:
        config = settings.model_config()
        if config != manager.config:
            await manager.apply(config)
            log.info("Now serving what %s says.", settings.model_config_file)
    except (ConfigError, StatusError) as error:
        log.error("%s is not served: %s", settings.model_config_file, error)
