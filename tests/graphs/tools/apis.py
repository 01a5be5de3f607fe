"""A real HTTP server for action tests, which records requests and answers as configured, and documents that describe
it."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any, Self

import trustme

from graphs.tools import Operation, build_toolset
from graphs.tools.action import operations_of

AUTHORITY = trustme.CA()
CERTIFICATE = AUTHORITY.issue_cert("api.test")


@dataclass
class Seen:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Answer:
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    body: bytes = b'{"ok":true}'


class Api:
    """`with Api(answer) as api:` serves on `api.url`; `answer` maps each request to its answer."""

    def __init__(self, answer: Callable[[Seen], Answer] | None = None, *, host: str = "127.0.0.1", tls: bool = False):
        self.seen: list[Seen] = []
        self.stop = Event()
        api = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                seen = Seen(self.command, self.path, dict(self.headers.items()), self.rfile.read(length))
                api.seen.append(seen)
                reply = answer(seen) if answer else Answer()
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(reply.body)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = do_TRACE = _answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

            def handle(self) -> None:
                try:
                    super().handle()
                except (OSError, ssl.SSLError):
                    api.stop.set()

        self._server = ThreadingHTTPServer((host, 0), Handler)
        self._server.daemon_threads = True
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            CERTIFICATE.configure_cert(context)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.host, self.port = host, self._server.server_address[1]
        self.url = f"{'https' if tls else 'http'}://{host}:{self.port}"

    def __enter__(self) -> Self:
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def document(server: str, paths: dict[str, Any], **more: Any) -> dict[str, Any]:
    for item in paths.values():
        for method, operation in item.items():
            if method in ("get", "put", "post", "delete", "options", "head", "patch", "trace"):
                operation.setdefault("responses", {"200": {"description": "fine"}})
    info = {"title": "Test", "version": "1"}
    return {"openapi": "3.0.3", "info": info, "servers": [{"url": server}], "paths": paths, **more}


def operation(spec: Any, **data: Any) -> Operation:
    """Return the first operation of an action with this document."""
    tools = build_toolset([{"type": "action", "data": {"openapi_spec": spec, **data}}])
    return next(iter(operations_of(tools.served).values()))


def simple(server: str, method: str = "get", path: str = "/x", **data: Any) -> Operation:
    return operation(document(server, {path: {method: {}}}), **data)
