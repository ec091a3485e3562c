"""An HTTP server that keeps what is posted to it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Endpoint:
    """What an HTTP server got. It answers with the next of `answers`, then always with the last one."""

    def __init__(self, *answers: int) -> None:
        self.answers, self.got, self.headers = list(answers), list[Any](), list[Any]()
        self.url = ""


@contextmanager
def listening(*answers: int) -> Iterator[Endpoint]:
    endpoint = Endpoint(*answers)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            endpoint.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            endpoint.headers.append((self.path, self.headers))
            code = endpoint.answers.pop(0) if len(endpoint.answers) > 1 else endpoint.answers[0]
            self.send_response(code)
            if code == 302:
                self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    endpoint.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
