"""`python -m serving.client`: the commands predict, status, metadata, reload and bench. They print a table or JSON."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from data.pictures import FITS
from serving.arguments import parse_count, parse_positive
from serving.client.async_client import AsyncClient
from serving.client.client import CHUNK, TIMEOUT, Client
from serving.client.images import image_size, random_images, read_images, reading_of, unknown_reading
from serving.client.load import Load, closed_loop, open_loop
from serving.errors import ServingError, printable
from serving.tls import Tls


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command. The exit code is 0 for success, 1 for a failure, 2 for a wrong command line, 130 for Ctrl-C."""
    options = _parser().parse_args(arguments)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC would also log each attempt
    try:
        result = options.run(options)
    except ServingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if options.json:
        print(json.dumps(result).replace("\x7f", "\\u007f"))  # JSON has escapes for all other control characters
    elif result:
        _print(result if isinstance(result, list) else [result])
    return 0


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--target", default="localhost:8500", help="host:port of the server (default %(default)s)")
    common.add_argument("--model", default="mnist", help="name of the model (default %(default)s)")
    version = common.add_mutually_exclusive_group()
    version.add_argument("--version", type=int, help="version number (default: the newest)")
    version.add_argument("--label", help="version label, such as stable")
    common.add_argument(
        "--timeout", type=parse_positive, default=TIMEOUT, help="seconds per request (default %(default)s)"
    )
    common.add_argument("--tls", action="store_true", help="use TLS and trust the authorities of the system")
    common.add_argument("--tls-ca", metavar="PEM", help="use TLS and trust this authority")
    common.add_argument("--tls-cert", metavar="PEM", help="certificate of the client, for mutual TLS")
    common.add_argument("--tls-key", metavar="PEM", help="private key of the client")
    common.add_argument("--json", action="store_true", help="print JSON")

    parser = argparse.ArgumentParser(
        prog="python -m serving.client", description="Calls a model server over gRPC. It does not need TensorFlow."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    predict = commands.add_parser("predict", parents=[common], help="classify images")
    predict.add_argument("images", nargs="+", metavar="IMAGE", help="PNG or other image files")
    predict.add_argument("--fit", choices=FITS, help="how pictures are read (default: as in the training)")
    predict.add_argument("--chunk", type=parse_count, default=CHUNK, help="images per request (default %(default)s)")
    predict.set_defaults(run=_predict)
    status = commands.add_parser("status", parents=[common], help="show the versions and their states")
    status.set_defaults(run=_status)
    metadata = commands.add_parser("metadata", parents=[common], help="show the signatures")
    metadata.set_defaults(run=_metadata)
    reload = commands.add_parser("reload", parents=[common], help="replace the server's ModelServerConfig")
    reload.add_argument("config", type=Path, help="ModelServerConfig in text format")
    reload.set_defaults(run=_reload)
    bench = commands.add_parser("bench", parents=[common], help="measure latency and throughput under load")
    bench.add_argument("images", nargs="*", metavar="IMAGE", help="images to send (default: random pixels)")
    bench.add_argument("--batch", type=parse_count, default=1, help="images per request (default %(default)s)")
    loop = bench.add_mutually_exclusive_group()
    loop.add_argument(
        "--callers", type=parse_count, default=1, help="closed loop: number of callers (default %(default)s)"
    )
    loop.add_argument("--rate", type=parse_positive, help="open loop: requests per second")
    bench.add_argument("--seconds", type=parse_positive, default=5.0, help="duration (default %(default)s)")
    bench.set_defaults(run=_bench)
    return parser


def _client_arguments(options: argparse.Namespace) -> dict[str, Any]:
    use_tls = options.tls or options.tls_ca or options.tls_cert or options.tls_key
    tls = Tls.from_files(options.tls_ca, options.tls_cert, options.tls_key) if use_tls else None
    return {name: getattr(options, name) for name in ("target", "model", "version", "label", "timeout")} | {"tls": tls}


def _predict(options: argparse.Namespace) -> Any:
    with Client(**_client_arguments(options)) as client:
        prediction = client.predict(options.images, fit=options.fit, chunk=options.chunk)
    labels = prediction.labels or tuple(map(str, range(prediction.probabilities.shape[1])))
    noted = any(prediction.notes)
    columns = options.images, prediction.class_ids.tolist(), prediction.probabilities, prediction.notes
    rows = zip(*columns, strict=True)
    if options.json:
        return [
            {
                "image": image,
                "class": class_id,
                "label": labels[class_id],
                "probabilities": probabilities.tolist(),
                "note": note,
            }
            for image, class_id, probabilities, note in rows
        ]
    return [
        {
            "image": image,
            "class": labels[class_id],
            "probability": f"{probabilities[class_id]:.4f}",
            "next best": "  ".join(f"{labels[i]}: {probabilities[i]:.4f}" for i in np.argsort(-probabilities)[1:3]),
            **({"note": note} if noted else {}),
        }
        for image, class_id, probabilities, note in rows
    ]


def _status(options: argparse.Namespace) -> Any:
    with Client(**_client_arguments(options)) as client:
        return [{"version": entry.version, "state": entry.state, "error": entry.error} for entry in client.status()]


def _metadata(options: argparse.Namespace) -> Any:
    with Client(**_client_arguments(options)) as client:
        metadata = client.metadata()
    return [
        {
            "version": metadata.version,
            "signature": name,
            "inputs": _tensors(signature.inputs, options.json),
            "outputs": _tensors(signature.outputs, options.json),
            "method": signature.method,
        }
        for name, signature in metadata.signatures.items()
    ]


def _tensors(specs: Any, as_json: bool) -> Any:
    if as_json:
        return {name: {"dtype": spec.dtype, "shape": spec.shape} for name, spec in specs.items()}
    return [
        f"{name} {spec.dtype} {'of any rank' if spec.shape is None else list(spec.shape)}"
        for name, spec in specs.items()
    ]


def _reload(options: argparse.Namespace) -> Any:
    with Client(**_client_arguments(options)) as client:
        client.reload(options.config)
    return {"reloaded": str(options.config), "target": options.target}


def _bench(options: argparse.Namespace) -> Any:
    load = asyncio.run(_measure(options))
    if not load.latencies:
        raise ServingError(f"No request was answered: {load.errors}. Try the command status first.")
    result = {
        "loop": f"open, {options.rate:g} requests/s" if options.rate else f"closed, {options.callers} callers",
        "requests": len(load.latencies),
        "requests/s": len(load.latencies) / load.seconds,
        "images/s": len(load.latencies) / load.seconds * options.batch,
        **{f"p{percent} ms": np.percentile(load.latencies, percent) * 1e3 for percent in (50, 90, 99)},
        "errors": load.errors,
    }
    if options.json:
        return result
    rounded = {key: f"{value:.2f}" if isinstance(value, float) else value for key, value in result.items()}
    return {**rounded, "errors": "  ".join(f"{code} {n}" for code, n in load.errors.items()) or "none"}


async def _measure(options: argparse.Namespace) -> Load:
    async with AsyncClient(**_client_arguments(options)) as client:
        metadata = await client.metadata()
        if options.images:
            reading = reading_of(await client.describe()) if "describe" in metadata.signatures else None
            images, _ = read_images(options.images, reading or unknown_reading(metadata))
            images = np.resize(images, (options.batch, *images.shape[1:]))  # repeats them
        else:
            images = random_images(options.batch, image_size(metadata))
        await client.predict(images, chunk=options.batch)
        if options.rate:
            return await open_loop(client, images, options.rate, options.seconds)
        return await closed_loop(client, images, options.callers, options.seconds)


def _print(rows: list[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in rows[0]:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*map(_cell, row.values()))
    console = Console()
    if not console.is_terminal:
        console.width = 10_000  # a pipe has no width: a row is a line
    console.print(table)


def _cell(value: Any) -> Text:
    """One line for each element of a list; a file name may look like markup, and a server's words hold anything."""
    return Text("\n".join(printable(str(line)) for line in (value if isinstance(value, list) else [value])))


if __name__ == "__main__":
    sys.exit(main())
