"""What every request must have and every response carries, so that no other site can use or show the demo."""

from __future__ import annotations

from starlette.middleware.base import RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


async def guard(request: Request, call_next: RequestResponseEndpoint) -> Response:
    """Refuses foreign origins, and adds `HEADERS`. A page that sends a request across has its address in `Origin`."""
    host, origin = request.headers.get("host"), request.headers.get("origin")
    if origin in (None, f"http://{host}", f"https://{host}"):
        response = await call_next(request)
    else:
        response = JSONResponse({"error": "The demo answers only its own page."}, 403)
    response.headers.update(HEADERS)
    return response
