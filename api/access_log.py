"""Gives every request an id, counts it, and logs it in one line. Pure ASGI middleware.

Invariants: the id is in the answer's `x-request-id`, and in every line that is logged for the request and for the run
that it starts. The line has the path, but never the query, a header or a body. Metrics have routes, not paths. Requests
that monitoring repeats (`/health`, `/ready`, `/metrics`) are logged at level debug.
"""

import logging
import time
from typing import Final

from opentelemetry import trace
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.probes import PROBES
from telemetry.context import bind
from telemetry.lines import fields
from telemetry.metrics import Clock, Counts, Histogram
from wire.ids import new_id

__all__ = ["AccessLog", "RequestMetrics"]

logger = logging.getLogger("threadhold.requests")

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_NO_ROUTE: Final = "none"


class RequestMetrics:
    """Metrics of requests, by route."""

    def __init__(self) -> None:
        self.answers = Counts()
        """By (method, route, status). The status is `left` if the client disconnected before its answer started."""
        self.seconds: dict[tuple[str, str], Histogram] = {}
        """By (method, route): the time until the answer started."""
        self.open = 0
        """Requests that are being answered, including streams."""
        self.streams = 0
        """Open event streams."""

    def began(self, method: str, route: str, seconds: float) -> None:
        """Record the time until an answer started."""
        histogram = self.seconds.get((method, route))
        if histogram is None:
            histogram = self.seconds[method, route] = Histogram()
        histogram.add(seconds)


class AccessLog:
    """The middleware; see the module."""

    def __init__(self, app: ASGIApp, *, metrics: RequestMetrics, clock: Clock = time.perf_counter) -> None:
        self._app = app
        self._metrics = metrics
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = new_id("req")
        scope.setdefault("state", {})["request_id"] = request_id
        answer = _Answer(send, request_id, self._metrics, self._clock)
        self._metrics.open += 1
        with bind(request_id=request_id, **_trace_id()):
            try:
                await self._app(scope, receive, answer.send)
            finally:
                self._metrics.open -= 1
                self._record(scope, answer)

    def _record(self, scope: Scope, answer: "_Answer") -> None:
        took_s = self._clock() - answer.asked_at
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        route = _route(scope)
        status = str(answer.status or "left")
        self._metrics.answers[method, route, status] += 1
        if answer.status:
            self._metrics.began(method, route, answer.began_at - answer.asked_at)
        if answer.streams:
            self._metrics.streams -= 1
        level = logging.DEBUG if route in PROBES and answer.status else logging.INFO
        if not logger.isEnabledFor(level):
            return
        values: dict[str, object] = {
            "method": scope["method"],
            "path": scope["path"],
            "route": route,
            "status": answer.status,
            "took_ms": round(took_s * 1000, 1),
            "bytes": answer.bytes,
            "owner": scope["state"].get("owner"),
        }
        ending = "" if answer.whole else ", left early"
        if not answer.whole:
            values["left"] = True
        message = "%s %s %s in %.1f ms%s"
        logger.log(
            level, message, scope["method"], scope["path"], status, took_s * 1000, ending, extra=fields(**values)
        )


class _Answer:
    """Observes the answer to one request while it is sent."""

    __slots__ = (
        "_clock",
        "_metrics",
        "_request_id",
        "_send",
        "asked_at",
        "began_at",
        "bytes",
        "status",
        "streams",
        "whole",
    )

    def __init__(self, send: Send, request_id: str, metrics: RequestMetrics, clock: Clock) -> None:
        self._send = send
        self._request_id = request_id
        self._metrics = metrics
        self._clock = clock
        self.asked_at = self.began_at = clock()
        self.bytes = 0
        self.status = 0
        self.streams = False
        self.whole = False

    async def send(self, message: Message) -> None:
        """Pass a message on. A block of a stream costs only an addition."""
        if message["type"] == "http.response.body":
            self.bytes += len(message.get("body", b""))
            self.whole = not message.get("more_body", False)
        elif message["type"] == "http.response.start":
            self.status, self.began_at = message["status"], self._clock()
            headers = message["headers"] = [*message["headers"], (b"x-request-id", self._request_id.encode())]
            if any(name == b"content-type" and value.startswith(b"text/event-stream") for name, value in headers):
                self.streams = True
                self._metrics.streams += 1
        await self._send(message)


def _trace_id() -> dict[str, str]:
    """Return the id of the request's trace, if requests are traced."""
    context = trace.get_current_span().get_span_context()
    return {"trace_id": trace.format_trace_id(context.trace_id)} if context.is_valid else {}


def _route(scope: Scope) -> str:
    """Return the route's template without `/v1`, or `none` if the request did not reach a route."""
    path = getattr(scope.get("route"), "path", None)
    return path.removeprefix("/v1") if isinstance(path, str) else _NO_ROUTE
