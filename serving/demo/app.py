"""The web application: the page, the test digits, and what the served model says of a picture."""

from __future__ import annotations

import base64
import io
import math
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from data.pictures import Reading
from serving.client import AsyncClient, Metadata
from serving.client.images import image_size, read_image, reading_of
from serving.demo import digits
from serving.demo.guard import guard
from serving.errors import (
    DeadlineError,
    ImageError,
    NotFoundError,
    RequestError,
    ServerError,
    ServingError,
    UnavailableError,
)

PAGE = Path(__file__).with_name("page")
MAX_BYTES = 4 * 2**20
MAX_PIXELS = 2**24
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP")
_ROWS = "predict_rows"
# What the page says instead of the client's words, which name codes and addresses of gRPC.
_FAILURES: dict[type[BaseException], tuple[int, str]] = {
    UnavailableError: (503, "The model server does not answer. Check that it runs at {target}, then try again."),
    DeadlineError: (504, "The model server is too slow. Try again in a moment."),
    NotFoundError: (
        502, "The model server does not have this model. Start the demo with another --model, --version or --label."
    ),
}  # fmt: skip


def create_app(connect: Callable[[], AsyncClient], hosts: Iterable[str]) -> ASGIApp:
    """The application.

    A page of another site may lead its own name to this machine (DNS rebinding): its requests have its name in `Host`.

    Args:
        connect: makes the client of the model server, inside the event loop.
        hosts: the names in `Host` that are answered; "*" is every name.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with connect() as app.state.client:
            app.state.decoders = anyio.CapacityLimiter(2)  # large pictures need memory
            yield

    app = Starlette(
        routes=[
            Route("/", lambda request: FileResponse(PAGE / "index.html")),
            Mount("/page", StaticFiles(directory=PAGE)),
            Route("/api/status", _status),
            Route("/api/digits", _digits),
            Route("/api/read", _read, methods=["POST"]),
        ],
        exception_handlers={
            HTTPException: _http_error,
            ServingError: _serving_error,
            ClientDisconnect: lambda request, error: Response(status_code=400),
            Exception: lambda request, error: JSONResponse(
                {"error": "The demo has failed. Its terminal says why."}, 500
            ),
        },
        lifespan=lifespan,
    )
    return BaseHTTPMiddleware(TrustedHostMiddleware(app, [*hosts], www_redirect=False), guard)


async def _status(request: Request) -> Response:
    """The served model: its version, its input size, and whether it answers after each row."""
    metadata = await request.app.state.client.metadata()
    return JSONResponse(
        {
            "target": request.app.state.client.target,
            "version": str(metadata.version),
            "size": image_size(metadata),
            "by_row": _ROWS in metadata.signatures,
            "max_bytes": MAX_BYTES,
        }
    )


async def _digits(request: Request) -> Response:
    """The test digits, each with the model's answer; without answers if the server is gone or says nothing of them."""
    client = request.app.state.client
    try:
        found = digits.load(image_size(await client.metadata()))
        answers = (await client.predict(found.pixels)).class_ids.tolist()
    except ServingError:
        found = digits.load()
        answers = [None] * len(found.labels)
    return JSONResponse(
        [
            {"position": int(position), "truth": int(truth), "answer": answer, **_pixels(pixels)}
            for pixels, truth, position, answer in zip(*found, answers, strict=True)
        ]
    )


async def _read(request: Request) -> Response:
    """What the model says of a picture: an image file, or the grey bytes of the model's own size.

    A form of another site can post neither content type.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "application/octet-stream" and not kind.startswith("image/"):
        raise HTTPException(415, "Send a picture as image/png or the like, or grey bytes as application/octet-stream.")
    content = await _body(request)
    client = request.app.state.client
    metadata: Metadata = await client.metadata()
    size = image_size(metadata)
    if kind.startswith("image/"):
        reading, decoders = await _reading(client, size), request.app.state.decoders
        pixels, note = await anyio.to_thread.run_sync(
            lambda: read_image(io.BytesIO(content), reading, FORMATS, MAX_PIXELS), limiter=decoders
        )
        if note.startswith("blank"):
            raise ImageError(f"The picture is {note}. Draw a digit first.")
    elif len(content) == math.prod(size):
        pixels, note = np.frombuffer(content, np.uint8).reshape(size), ""
    else:
        raise HTTPException(400, f"The model needs {size[0]} × {size[1]} bytes, not {len(content)}.")
    started = time.perf_counter()
    prediction = await client.predict(pixels[None])
    milliseconds = (time.perf_counter() - started) * 1000
    rows = (await client.predict_rows(pixels[None]))[0] if _ROWS in metadata.signatures else None
    if not all(np.isfinite(part).all() for part in (prediction.probabilities, rows) if part is not None):
        raise ServerError("The model answers with numbers that are not finite.")
    probabilities = prediction.probabilities[0].tolist()
    return JSONResponse(
        {
            "labels": prediction.labels or [str(number) for number in range(len(probabilities))],
            "class": int(prediction.class_ids[0]),
            "probabilities": probabilities,
            "by_row": None if rows is None else rows.tolist(),
            "version": str(prediction.versions[0]),
            "milliseconds": round(milliseconds, 2),
            "note": note,
            **_pixels(pixels),
        }
    )


async def _reading(client: AsyncClient, size: tuple[int, int]) -> Reading:
    """How the model's pictures are read; MNIST's convention for a model that does not say it."""
    try:
        return reading_of(await client.describe())
    except (RequestError, ServerError):
        return Reading(size, "digit")


async def _body(request: Request) -> bytes:
    """The body, which is never longer than `MAX_BYTES` in the memory."""
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > MAX_BYTES:
            raise HTTPException(413, f"The file is larger than {MAX_BYTES // 2**20} MB. Give a smaller picture.")
    return bytes(content)


def _pixels(image: np.ndarray) -> dict[str, Any]:
    return {"size": image.shape, "pixels": base64.b64encode(image.tobytes()).decode()}


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": f"{error.detail.rstrip('.')}."}, error.status_code, error.headers)


def _serving_error(request: Request, error: Exception) -> Response:
    status, sentence = _FAILURES.get(type(error), (400 if isinstance(error, ImageError) else 502, ""))
    if sentence:
        print(error, flush=True)  # for the one at the terminal
    return JSONResponse({"error": sentence.format(target=request.app.state.client.target) or str(error)}, status)
