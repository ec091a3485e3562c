"""Prometheus metrics, by TensorFlow Serving's names."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import grpc
from prometheus_client import CollectorRegistry, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import ThreadingWSGIServer, make_wsgi_app

# TensorFlow Serving's latencies are in microseconds.
_BUCKETS = [10 * 1.8**exponent for exponent in range(33)]


class Metrics:
    """Counts and times requests. Thread-safe."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        disable_created_metrics()
        # A counter by nature; the library would append _total to a Counter's name, which TensorFlow Serving does not.
        self._count = Gauge(
            ":tensorflow:serving:request_count",
            "Requests by model and status.",
            ["model_name", "status"],
            registry=self.registry,
        )
        self._latency = Histogram(
            ":tensorflow:serving:request_latency",
            "Latency of requests, in microseconds.",
            ["model_name", "API", "entrypoint"],
            buckets=_BUCKETS,
            registry=self.registry,
        )

    def observe(self, model: str, api: str, code: grpc.StatusCode, seconds: float) -> None:
        """Notes one answered request."""
        self._count.labels(model, code.name).inc()
        self._latency.labels(model, api, "GRPC").observe(seconds * 1e6)


def serve(metrics: Metrics, host: str, port: int, path: str) -> Callable[[], None]:
    """Serves the metrics' text at `path`; returns what stops it.

    Raises:
        OSError: the port is taken.
    """
    text = make_wsgi_app(metrics.registry)

    def answer(environ: dict[str, Any], start: Any) -> Any:
        if environ["PATH_INFO"] == path:
            return text(environ, start)
        start("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
        return [f"This stand-in serves its metrics at {path}; it has no REST API. Use gRPC.\n".encode()]

    server = make_server(host, port, answer, ThreadingWSGIServer, _Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.shutdown


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass
