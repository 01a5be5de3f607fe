"""Opens the port first, and answers on it while the app is loaded.

Invariants: requests from this machine for `/health` are answered as soon as the port is open; all others wait for the
app. A failed start ends the process with the reason. At the end, runs are drained while the server still answers.
"""

import asyncio
import logging
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import orjson
import uvicorn

from api.acceptor import Acceptor
from api.connection_limit import ConnectionLimit
from api.hosts import LOOPBACK, host_name
from wire.errors import Unavailable

if TYPE_CHECKING:  # takes a second to import, so it is imported after the port is open
    from fastapi import FastAPI
    from starlette.types import Receive, Scope, Send

    from api.depends import Deps

__all__ = ["open_port", "serve"]

logger = logging.getLogger("threadhold")

_HEALTH: Final = frozenset({"/health", "/v1/health"})
_GRACE_S: Final = 5
_RETRY_S: Final = 5
_KEEP_ALIVE_S: Final = 75
"""Longer than clients and proxies keep idle connections (httpx 5 s, aiohttp 15 s, nginx 60 s). They then close first,
and no request arrives while the server is closing the connection."""


def open_port(host: str, port: int) -> socket.socket:
    """Open the port. Raises OSError with advice if it is in use."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise OSError(
            f"cannot listen on {host}:{port} ({error.strerror}); choose another with PORT or --port"
        ) from error
    return listening


def serve(
    make_app: Callable[[], "FastAPI"],
    listening: socket.socket,
    *,
    connection_limit: ConnectionLimit,
    drain_s: float,
    version: str,
    ready: Callable[["FastAPI"], None],
) -> None:
    """Serve until a signal ends it. `make_app` runs in a thread; `ready` is called when the app is ready.

    Raises every error of building or opening the app.
    """
    gate = _StartupGate(connection_limit, version)
    config = uvicorn.Config(
        gate,
        http=connection_limit.connection,  # type: ignore[arg-type] # called like a class
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # nothing here depends on the client's address or scheme
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_GRACE_S,
        server_header=False,
        lifespan="off",  # `_open` enters it, so that its errors are reported in one sentence
    )
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(_serve(_Server(config, gate, drain_s), gate, make_app, listening, ready))


async def _serve(
    server: "_Server",
    gate: "_StartupGate",
    make_app: Callable[[], "FastAPI"],
    listening: socket.socket,
    ready: Callable[["FastAPI"], None],
) -> None:
    stopping = asyncio.Event()
    app = asyncio.create_task(_hold_app(gate, make_app, ready, stopping), name="app")
    app.add_done_callback(lambda _: server.give_up())
    try:
        await server.serve(sockets=[listening])
    finally:
        stopping.set()
        if gate.app is None:
            app.cancel()
        await asyncio.wait((app,))
    if not app.cancelled():
        app.result()


async def _hold_app(
    gate: "_StartupGate",
    make_app: Callable[[], "FastAPI"],
    ready: Callable[["FastAPI"], None],
    stopping: asyncio.Event,
) -> None:
    """Keep the app open until the server stops. One task opens and closes it, as task groups in it require."""
    app = await asyncio.to_thread(make_app)
    app.state.connection_limit = gate.connection_limit
    async with app.router.lifespan_context(app):
        gate.open(app)
        ready(app)
        await stopping.wait()


class _StartupGate:
    """Answers health checks until the app is ready; other requests wait, and are then passed to it."""

    def __init__(self, connection_limit: ConnectionLimit, version: str) -> None:
        self.app: FastAPI | None = None
        self._health = orjson.dumps({"status": "ok", "version": version})
        self.connection_limit = connection_limit
        self._opened = asyncio.Event()

    def open(self, app: "FastAPI") -> None:
        """Pass requests to the app."""
        self.app = app
        self._opened.set()

    def shut(self) -> None:
        """Refuse waiting and new requests: the app will not be ready."""
        self._opened.set()

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if self.app is None:
            if _asks_health(scope):
                body = self._health if scope["method"] == "GET" else b""
                length = str(len(self._health)).encode()
                headers = [(b"content-type", b"application/json"), (b"content-length", length)]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                await send({"type": "http.response.body", "body": body})
                return
            await self._opened.wait()
            if self.app is None:
                await _refuse(send, "The server could not start. Its log contains the reason.")
                return
        try:
            await self.app(scope, receive, send)
        except asyncio.CancelledError:  # the server is stopping, and the grace period is over
            try:
                await _refuse(send, f"The server is stopping. Send the request again in {_RETRY_S} s.")
            except RuntimeError:
                pass  # the response has already started
            else:
                return
            raise


async def _refuse(send: "Send", message: str) -> None:
    """Answer any request with 503, in the shape of every other error."""
    body = orjson.dumps(Unavailable(message).body())
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(b"retry-after", str(_RETRY_S).encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _asks_health(scope: "Scope") -> bool:
    """Return whether the request is for health under a loopback name. `api.access`, which checks hosts, is not loaded
    yet."""
    if scope["type"] != "http" or scope["path"] not in _HEALTH or scope["method"] not in ("GET", "HEAD"):
        return False
    host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
    return host_name(host) in LOOPBACK


class _Server(uvicorn.Server):
    """Drains runs before uvicorn shuts down, while the server still answers.

    uvicorn waits for open connections before it ends the lifespan, and streams end only with their runs.
    """

    def __init__(self, config: uvicorn.Config, gate: _StartupGate, drain_s: float) -> None:
        super().__init__(config)
        self._gate = gate
        self._drain_s = drain_s
        self._acceptors: list[Acceptor] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept connections."""
        if sys.platform == "win32":  # its event loop accepts as many as wait, and watches no sockets
            await super().startup(sockets)
            return
        await super().startup([])
        self._acceptors = [
            Acceptor(listening, self._make_protocol, backlog=self.config.backlog) for listening in sockets or []
        ]

    def _make_protocol(self) -> asyncio.Protocol:
        return self.config.http_protocol_class(  # type: ignore[call-arg] # as uvicorn itself does
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )

    def give_up(self) -> None:
        """Stop the server because the app did not start or has ended."""
        self._gate.shut()
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then shut down."""
        deps: Deps | None = getattr(self._gate.app.state, "deps", None) if self._gate.app is not None else None
        logger.info("stopping")
        if deps is not None:
            if deps.runner.executing:
                logger.info("waiting up to %g s for %d runs", self._drain_s, deps.runner.executing)
            await deps.runner.drain(self._drain_s)
        for acceptor in self._acceptors:
            await acceptor.close()
        await super().shutdown(sockets)
