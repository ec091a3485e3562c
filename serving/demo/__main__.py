"""`python -m serving.demo`: finds or starts the model server, and shows the page until it is told to end."""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from serving.arguments import parse_port
from serving.client import AsyncClient
from serving.client.client import Client
from serving.errors import ConfigError, ServingError
from serving.launch import model_server, wait_until_available

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
TIMEOUT = 5.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the demo. The exit code is 0 after SIGTERM, 1 for a failure, 2 for a wrong command line, 130 for Ctrl-C."""
    options = _parser().parse_args(arguments)
    if options.target is None and (options.version is not None or options.label is not None):
        _parser().error("--version and --label choose among the versions of a --target")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # the page says what gRPC would log
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what is in the background without it
    try:
        with _listen(options.host, options.port) as listener, _server(options) as target:
            _serve(options, target, listener)
    except ModuleNotFoundError as error:
        print(f"error: {error}. The demo needs the extra [demo]: pip install '.[demo]'.", file=sys.stderr)
        return 1
    except ServingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serving.demo",
        description="A page on this machine: draw a digit and watch the served model read it row by row.",
    )
    parser.add_argument(
        "--target", help="host:port of a model server (default: start the stand-in on the last pushed model)"
    )
    parser.add_argument("--model", default="mnist", help="name of the model (default %(default)s)")
    version = parser.add_mutually_exclusive_group()
    version.add_argument("--version", type=int, help="version number at the target (default: the newest)")
    version.add_argument("--label", help="version label at the target, such as stable")
    parser.add_argument(
        "--run-root", type=Path, default=Path("runs"), help="where the pushed models are (default %(default)s)"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on (default %(default)s); with another one, such as 0.0.0.0, every machine that reaches"
        " this one can use the page",
    )
    parser.add_argument(
        "--port", type=parse_port, default=8600, help="port to listen on; 0 is any (default %(default)s)"
    )
    return parser


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise ConfigError(
            f"The demo cannot listen on {host}:{port}: {error.strerror}. Choose another --port or --host."
        ) from None


@contextmanager
def _server(options: argparse.Namespace) -> Iterator[str]:
    """The address of the model server: the target, or a stand-in that runs while the block runs."""
    if options.target is not None:
        Client(options.target, model=options.model, version=options.version, label=options.label).close()
        yield options.target
        return
    base = options.run_root / "serving_models" / options.model
    if not any(folder.name.isdecimal() for folder in base.glob("*")):
        raise ConfigError(f"{base} holds no model yet; push one with make run, or name a server with --target.")
    print("Starting the stand-in for TensorFlow Serving …", flush=True)
    flags = [f"--model_name={options.model}", f"--model_base_path={base.resolve()}"]
    with tempfile.TemporaryDirectory() as folder, model_server(flags, Path(folder) / "log", real=False) as server:
        wait_until_available(server, options.model)
        yield server.address


def _serve(options: argparse.Namespace, target: str, listener: socket.socket) -> None:
    import uvicorn

    from serving.demo.app import create_app

    def connect() -> AsyncClient:
        choice = {"version": options.version, "label": options.label}
        return AsyncClient(target, model=options.model, timeout=TIMEOUT, **choice)

    address, port = listener.getsockname()[:2]
    local = ipaddress.ip_address(address).is_loopback
    name = f"[{options.host}]" if ":" in options.host else "localhost" if local else options.host

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)  # from here on a signal ends it in order
            print(f"The demo is at http://{name}:{port}. Ctrl-C ends it.", flush=True)
            if not local:
                print("Every machine that reaches this one can use it, without a password.", flush=True)

    app = create_app(connect, {*LOOPBACK, name, options.host} if local else ["*"])
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, ws="none", limit_concurrency=100
    )
    asyncio.run(Server(config).serve(sockets=[listener]))


if __name__ == "__main__":
    sys.exit(main())
