"""A test server with the part of Kubeflow Pipelines' API that a submission needs. It records each request."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class Server(ThreadingHTTPServer):
    """`requests` has (method, path, headers, body) in order; `pipelines` has (namespace, name)."""

    def __init__(self) -> None:
        super().__init__(("localhost", 0), Handler)
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []
        self.pipelines: set[tuple[str, str]] = set()
        self.page: str | None = None
        self.multi_user = False
        self.refusal: tuple[int, str] | None = None

    @property
    def host(self) -> str:
        return f"http://localhost:{self.server_address[1]}"

    def body_of(self, path: str) -> Any:
        """The body of the only POST to `path`."""
        (body,) = [body for method, where, _, body in self.requests if method == "POST" and where.startswith(path)]
        return body


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self._note(None)
        api = self.path.split("/apis/v2beta1/")[1].split("?")[0]
        if self.server.refusal:
            return
        query = parse_qs(urlsplit(self.path).query)
        if self.server.page:
            self._send(self.server.page, "text/html", 200)
        elif api == "pipelines":
            name = json.loads(query["filter"][0])["predicates"][0]["stringValue"]
            known = (query.get("namespace", [""])[0], name) in self.server.pipelines
            self._answer({"pipelines": [{"pipeline_id": "pipeline-1", "display_name": name}] if known else []})
        elif api.endswith("/versions"):
            self._answer({"pipeline_versions": [{"pipeline_version_id": "version-1"}]})
        elif api == "experiments":
            self._answer({"experiments": []})
        else:
            self._answer({"multi_user": self.server.multi_user})

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        is_json = self.headers["Content-Type"].startswith("application/json")
        self._note(json.loads(content) if is_json else content.decode())
        api = self.path.split("/apis/v2beta1/")[1].split("?")[0]
        ids = {
            "pipelines/upload": "pipeline",
            "experiments": "experiment",
            "runs": "run",
            "recurringruns": "recurring_run",
        }
        if self.server.refusal:
            return
        if api == "pipelines/upload":
            query = parse_qs(urlsplit(self.path).query)
            self.server.pipelines.add((query.get("namespace", [""])[0], query["name"][0]))
        if api == "pipelines/upload_version":
            self._answer({"pipeline_id": "pipeline-1", "pipeline_version_id": "version-2"})
        else:
            self._answer({f"{ids[api]}_id": f"{ids[api]}-1"})

    def _note(self, body: Any) -> None:
        self.server.requests.append((self.command, self.path, dict(self.headers), body))
        if self.server.refusal:
            code, message = self.server.refusal
            self._answer({"message": message}, code)

    def _answer(self, value: Any, code: int = 200) -> None:
        self._send(json.dumps(value), "application/json", code)

    def _send(self, text: str, kind: str, code: int) -> None:
        content = text.encode()
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def kubeflow_api() -> Iterator[Server]:
    """A server on loopback; it stops at the end of the `with` block."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
