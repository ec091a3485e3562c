"""`python -m serving.request_log`: a gRPC proxy before a model server that logs requests and answers; see `--help`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from serving.arguments import parse_port, parse_positive, parse_share
from serving.errors import ServingError
from serving.request_log.log import MAX_DAYS, MAX_MB
from serving.request_log.proxy import serve
from serving.tls import Tls


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the proxy.

    The exit code is 0 after SIGTERM or SIGINT, 1 if it cannot start, 2 for a wrong command line.
    """
    options = parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname).1s %(message)s")
    try:
        asyncio.run(serve(options, _tls(options)))
    except ServingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _tls(options: argparse.Namespace) -> Tls | None:
    pems = options.tls_ca, options.tls_cert, options.tls_key
    if options.tls or options.tls_name or any(pems):
        return Tls.from_files(*pems, server_name=options.tls_name)
    return None


def parser() -> argparse.ArgumentParser:
    """The command line."""
    flags = argparse.ArgumentParser(
        prog="python -m serving.request_log",
        description="A gRPC proxy before TensorFlow Serving. It passes every call on, and writes the requests of"
        " Predict and Classify with their answers to files: TFRecords of TensorFlow Serving's PredictionLog, one folder"
        " an hour. It does not need TensorFlow. The log holds what users send: see --redact, --max-mb and --max-days.",
        allow_abbrev=False,
    )
    flags.add_argument("--target", default="localhost:8500", help="host:port of the server (default %(default)s)")
    flags.add_argument("--listen", type=parse_port, required=True, metavar="PORT", help="gRPC port; 0 is any")
    flags.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    flags.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the log")
    flags.add_argument(
        "--sample",
        type=parse_share,
        default=1.0,
        metavar="SHARE",
        help="log this share of the requests, chosen by their x-request-id (default %(default)s)",
    )
    flags.add_argument("--redact", action="store_true", help="log the answers without the inputs")
    flags.add_argument(
        "--max-mb",
        type=parse_positive,
        default=MAX_MB,
        metavar="MB",
        help="remove the oldest files above this size in all (default %(default)s)",
    )
    flags.add_argument(
        "--max-days",
        type=parse_positive,
        default=MAX_DAYS,
        metavar="DAYS",
        help="remove files that are older (default %(default)s)",
    )
    flags.add_argument("--ssl_config_file", type=Path, metavar="FILE", help="listen with TLS: SSLConfig in text format")
    flags.add_argument("--tls", action="store_true", help="call with TLS and trust the authorities of the system")
    flags.add_argument("--tls-ca", metavar="PEM", help="call with TLS and trust this authority")
    flags.add_argument("--tls-cert", metavar="PEM", help="certificate for the server, for mutual TLS")
    flags.add_argument("--tls-key", metavar="PEM", help="private key of that certificate")
    flags.add_argument("--tls-name", metavar="NAME", help="name in the server's certificate, if it is not the host")
    return flags


if __name__ == "__main__":
    sys.exit(main())
