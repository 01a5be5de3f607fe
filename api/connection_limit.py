"""Limits the number of client connections, so that open connections keep enough file descriptors and memory.

Invariants: a connection beyond the limit replaces one that has received its answer but not sent all of its request. If
there is none, it replaces the one that has been idle longest. If all are in use again and again, it replaces one of the
group that has more than half of them: one of several owners, or all clients without a key. If none is idle, its request
gets 503 with `Retry-After`. Health probes and metrics are still answered, on a few extra connections that close soon;
connections beyond these are aborted. A connection that waits for an answer is never closed for a new one, so one of
several owners can have at most three quarters of the free connections wait for answers.
"""

import asyncio
import logging
import math
from collections import OrderedDict
from collections.abc import Iterator, Sized
from typing import TYPE_CHECKING, ClassVar, Final

import orjson

from api.connection import Connection
from api.file_limit import allow_files
from api.transport import READ_BYTES, ShortReads
from fairness.fair_limits import FairLimit
from wire.errors import TooManyRequests, Unavailable
from wire.ids import new_id

if TYPE_CHECKING:  # the port opens before Starlette is imported
    from starlette.types import Receive, Scope, Send

__all__ = ["ConnectionLimit", "limit_connections"]

logger = logging.getLogger("threadhold")

_PROBES: Final = frozenset({b"/health", b"/v1/health", b"/ready", b"/v1/ready", b"/metrics"})
_RETRY_S: Final = 5
_PORTION: Final = 3
"""How many times as many requests an owner can have as are free: three quarters of all for the first one."""
_LOG_EVERY_S: Final = 60.0
_FEWEST: Final = 16
_OWN_FILES: Final = 100  # for the database, uploads and files being indexed; an idle server has 25 open


def limit_connections(most: int) -> "ConnectionLimit":
    """Return a limit of `most` connections, or of as many as the process can open files for.

    Each connection needs two files: it can require another connection to a model.
    """
    files = allow_files(2 * most + _OWN_FILES)
    possible = most if files is None else max(_FEWEST, (files - _OWN_FILES) // 2)
    if possible < most:
        message = "MAX_CONNECTIONS is %d, but the limit of %d open files allows only %d connections (see ulimit -n)"
        logger.warning(message, most, files, possible)
    return ConnectionLimit(min(most, possible))


class ConnectionLimit:
    """Counts connections. uvicorn calls `connection` like a protocol class."""

    IDLE_S: ClassVar[float] = 5.0
    """How long a connection must have been idle before another one can replace it: active clients pause between
    requests."""

    BRIEFLY_IDLE_S: ClassVar[float] = 0.5
    """The same for the connections of an owner, or of clients without a key, with more than half of all."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.refused = 0
        """Refused connections."""
        self.open_connections: Sized = ()
        self._idle: dict[str, OrderedDict[Connection, float]] = {}
        """Idle connections by the owner of their last request → since when (monotonic seconds), longest idle first."""
        self._discarding: OrderedDict[Connection, None] = OrderedDict()
        """Connections that have sent their answer and discard the rest of the request, oldest first."""
        self._logged_at = -math.inf
        self._unlogged = 0
        self._requests = FairLimit(limit, portion=_PORTION)
        self._is_shared = False
        """Whether there are several owners."""
        self._buffer = memoryview(bytearray(READ_BYTES))

    def admit(self, owner: str) -> None:
        """Count a request of one of several owners, or without a key, until `leave`. Raises TooManyRequests."""
        self._is_shared = self._is_shared or bool(owner)
        if not self._requests.is_free(owner):
            raise TooManyRequests(
                f"You have as many requests in progress, streams included, as one of several owners can have: "
                f"MAX_CONNECTIONS is {self.limit}. Wait for some of them, or close streams.",
                headers={"Retry-After": str(_RETRY_S), "Connection": "close"},
            )
        self._requests.acquire_nowait(owner)

    def leave(self, owner: str) -> None:
        """Note that a request has been answered or its client has left."""
        self._requests.release(owner)

    def connection(self, *args: object, **kwargs: object) -> ShortReads:
        """Return a connection that counts toward this limit."""
        return ShortReads(_Counted(self, *args, **kwargs), self._buffer)

    def add_idle(self, connection: Connection, owner: str, now: float) -> None:
        """Note that a connection is idle."""
        self._idle.setdefault(owner, OrderedDict())[connection] = now

    def remove_idle(self, connection: Connection, owner: str) -> None:
        """Note that a connection has a request or is closed."""
        idle = self._idle.get(owner)
        if idle is not None and idle.pop(connection, None) is not None and not idle:
            del self._idle[owner]

    def add_discarding(self, connection: Connection) -> None:
        """Note that a connection has sent its answer and discards the rest of the request."""
        self._discarding[connection] = None

    def remove_discarding(self, connection: Connection) -> None:
        """Note that a connection has another request, or is closed."""
        self._discarding.pop(connection, None)

    def replace(self, now: float) -> bool:
        """Close a connection in favour of a new one, in the module's order; return whether one was closed."""
        if self._discarding:
            connection, _ = self._discarding.popitem(last=False)
            connection.transport.abort()
            return True
        for owner, idle_s in self._replaceable():
            connection, since = next(iter(self._idle[owner].items()))
            if now - since >= idle_s:
                self.remove_idle(connection, owner)
                connection.transport.close()
                return True
        return False

    def _replaceable(self) -> Iterator[tuple[str, float]]:
        """Yield whose longest idle connection can be replaced, and how long it must have been idle."""
        if self._idle:
            yield min(self._idle, key=lambda owner: next(iter(self._idle[owner].values()))), self.IDLE_S
            owner = max(self._idle, key=lambda owner: len(self._idle[owner]))
            if len(self._idle[owner]) > self.limit / 2 and (self._is_shared or not owner):
                yield owner, self.BRIEFLY_IDLE_S

    def refuse(self, now: float) -> None:
        """Count a refused connection; log a flood of them once a minute (`now`: monotonic seconds)."""
        self.refused += 1
        self._unlogged += 1
        if now - self._logged_at >= _LOG_EVERY_S:
            message = "%d connections are open, as many as MAX_CONNECTIONS allows; refused: %d"
            logger.warning(message, self.limit, self._unlogged)
            self._logged_at, self._unlogged = now, 0

    async def respond_unavailable(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Refuse a request on a connection beyond the limit. This is an ASGI app; the connection discards the body."""
        del scope, receive
        self.refuse(asyncio.get_running_loop().time())
        message = (
            f"{self.limit} connections to this server are open, as many as MAX_CONNECTIONS allows. "
            f"Try again in {_RETRY_S} s."
        )
        body = orjson.dumps(Unavailable(message).body())
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"retry-after", str(_RETRY_S).encode()),
            (b"x-request-id", new_id("req").encode()),
            (b"connection", b"close"),
        ]
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class _Counted(Connection):
    """A connection that can report whether it exceeds the limit."""

    SPARE: ClassVar[int] = 64
    """Extra connections beyond the limit, for probes, and to send 503 to other requests."""

    ASK_S: ClassVar[float] = 5.0
    """How long an extra connection can stay open without a request."""

    def __init__(self, limit: ConnectionLimit, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self._limit = limit
        self._waiting: asyncio.TimerHandle | None = None
        self._owner = ""
        """The owner of the last request; empty without a key."""
        limit.open_connections = self.connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept the connection, or refuse it."""
        super().connection_made(transport)
        beyond = len(self.connections) - self._limit.limit
        if beyond <= 0 or self._limit.replace(self.loop.time()):
            self._limit.add_idle(self, self._owner, self.loop.time())
        elif beyond > self.SPARE:
            self._limit.refuse(self.loop.time())
            transport.abort()
        else:
            self._waiting = self.loop.call_later(self.ASK_S, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Remove the connection."""
        self._stop_waiting()
        self._limit.remove_idle(self, self._owner)
        self._limit.remove_discarding(self)
        super().connection_lost(exc)

    def start_request(self) -> None:
        """Refuse the request while the limit is still exceeded, unless it is a probe."""
        self._limit.remove_idle(self, self._owner)
        self._limit.remove_discarding(self)
        if self._waiting is None:
            super().start_request()
            return
        self._stop_waiting()
        if len(self.connections) <= self._limit.limit:
            super().start_request()
            return
        if self.url.partition(b"?")[0] not in _PROBES:
            self.app = self._limit.respond_unavailable
        super().start_request()
        self.cycle.keep_alive = False

    def on_response_complete(self) -> None:
        """Become idle, unless another request has arrived."""
        super().on_response_complete()
        if self.timeout_keep_alive_task is not None and not self.transport.is_closing():
            self._owner = self.cycle.scope["state"].get("owner", "")
            if self._in_body:
                self._limit.add_discarding(self)
            else:
                self._limit.add_idle(self, self._owner, self.loop.time())

    def _lingers(self) -> bool:
        lingers = super()._lingers()
        if lingers:
            self._limit.add_discarding(self)
        return lingers

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
