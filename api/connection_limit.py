"""Limits the number of client connections, so that open connections keep enough file descriptors and memory.

Invariants: a connection beyond the limit replaces the first of these that exists:

1. one that has received its response but not sent all of its request, or that only waits for a refusal;
2. the oldest one that has not sent a complete head within half a second;
3. the one that has been idle longest, for at least 5 s;
4. the longest idle one of a group (see `api.request_starts`) whose idle connections are more than half of all.

If none exists, the request on the new connection gets 503 with `Retry-After`. Probes still get a response, on a few
extra connections that close soon; connections beyond these are aborted.

A connection that waits for any other response is never closed for a new one. Therefore, each group has a limit on its
connections that wait for responses: three times as many as are free for one of several owners, and for all clients
without a key; a sixteenth of all connections for probes; all but this sixteenth for a single owner.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Iterator, Sized
from typing import TYPE_CHECKING, ClassVar, Final
from weakref import WeakMethod

import orjson

from api.connection import Connection
from api.file_limit import allow_files
from api.probes import is_probe
from api.request_starts import GROUP, ON_REFUSAL, Group
from api.transport import READ_BYTES, ShortReads
from fairness.fair_limits import FairLimit
from telemetry.repeated_warnings import RepeatedWarning
from wire.errors import TooManyRequests, Unavailable
from wire.ids import new_id

if TYPE_CHECKING:  # the port opens before Starlette is imported
    from starlette.types import Receive, Scope, Send

__all__ = ["ConnectionLimit", "limit_connections"]

logger = logging.getLogger("threadhold")

_RETRY_S: Final = 5
_PORTION: Final = 3
"""How many times as many requests an owner can have as are free: three quarters of all for the first one."""
_PROBE_PORTION: Final = 16
"""Divisor of the limit: this part of all connections is reserved for probes that wait for responses."""
_MIN_PROBES: Final = 16
"""Concurrent probes that are always allowed; if the limit is low, they use the extra connections."""
_MIN_CONNECTIONS: Final = 16
_OWN_FILES: Final = 100  # for the database, uploads and files being indexed; an idle server has 25 open


def limit_connections(maximum: int) -> "ConnectionLimit":
    """Return a limit of `maximum` connections, or of as many as the process can open files for.

    Each connection needs two files: it can require another connection to a model.
    """
    files = allow_files(2 * maximum + _OWN_FILES)
    possible = maximum if files is None else max(_MIN_CONNECTIONS, (files - _OWN_FILES) // 2)
    if possible < maximum:
        message = "MAX_CONNECTIONS is %d, but the limit of %d open files allows only %d connections (see ulimit -n)"
        logger.warning(message, maximum, files, possible)
    return ConnectionLimit(min(maximum, possible))


class ConnectionLimit:
    """Counts connections. uvicorn calls `connection` like a protocol class."""

    IDLE_S: ClassVar[float] = 5.0
    """How long a connection must have been idle before another one can replace it: active clients pause between
    requests."""

    BRIEFLY_IDLE_S: ClassVar[float] = 0.5
    """The same for a connection without a complete head, and for those of a group with more than half of all."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.refused = 0
        """Refused connections."""
        self.open_connections: Sized = ()
        self._idle: dict[Group | None, OrderedDict[Connection, float]] = {}
        """Idle connections by the group of their last request → since when (monotonic seconds), longest idle first. The
        group is None if a connection has not sent a request yet."""
        self._discarding: OrderedDict[Connection, None] = OrderedDict()
        """Connections that have sent their response and discard the rest of the request, or that wait for a refusal;
        oldest first."""
        self._refused = RepeatedWarning(
            logger, "%d connections are open, as many as MAX_CONNECTIONS allows; refused: %d"
        )
        self._requests = FairLimit(limit - limit // _PROBE_PORTION, portion=_PORTION)
        self._probes = FairLimit(max(_MIN_PROBES, limit // _PROBE_PORTION))
        self._buffer = memoryview(bytearray(READ_BYTES))

    def admit(self, group: Group) -> None:
        """Count a request of a group until `leave`. Raises TooManyRequests if the group has reached its limit."""
        limit = self._limit_of(group)
        if not (limit.left > 0 if group.is_alone else limit.is_free(group.owner)):
            if group.is_probe:
                message = "The server has the maximum number of requests for health, readiness and metrics in progress"
            else:
                who = "an owner" if group.is_alone else "one of several owners"
                message = f"You have the maximum number of requests in progress, streams included, for {who}"
            raise TooManyRequests(
                f"{message}: MAX_CONNECTIONS is {self.limit}. Wait until some of them end, or close streams.",
                headers={"Retry-After": str(_RETRY_S), "Connection": "close"},
            )
        limit.acquire_nowait(group.owner)

    def leave(self, group: Group) -> None:
        """Record that a request has its response, or that its client has disconnected."""
        self._limit_of(group).release(group.owner)

    def _limit_of(self, group: Group) -> FairLimit:
        return self._probes if group.is_probe else self._requests

    def connection(self, *args: object, **kwargs: object) -> ShortReads:
        """Return a connection that counts toward this limit."""
        return ShortReads(_Counted(self, *args, **kwargs), self._buffer)

    def add_idle(self, connection: Connection, group: Group | None, now: float) -> None:
        """Note that a connection is idle. `group` is that of its last request, if there was one."""
        self._idle.setdefault(group, OrderedDict())[connection] = now

    def remove_idle(self, connection: Connection, group: Group | None) -> None:
        """Note that a connection has a request or is closed."""
        idle = self._idle.get(group)
        if idle is not None and idle.pop(connection, None) is not None and not idle:
            del self._idle[group]

    def add_discarding(self, connection: Connection) -> None:
        """Record that a connection discards the rest of a request after its response, or waits for a refusal."""
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
        for group, idle_s in self._replaceable():
            connection, since = next(iter(self._idle[group].items()))
            if now - since >= idle_s:
                self.remove_idle(connection, group)
                connection.transport.close()
                return True
        return False

    def _replaceable(self) -> Iterator[tuple[Group | None, float]]:
        """Yield whose longest idle connection can be replaced, and how long it must have been idle."""
        if None in self._idle:
            yield None, self.BRIEFLY_IDLE_S
        if self._idle:
            yield min(self._idle, key=lambda group: next(iter(self._idle[group].values()))), self.IDLE_S
            group = max(self._idle, key=lambda group: len(self._idle[group]))
            is_alone = group is not None and group.is_alone
            if len(self._idle[group]) > self.limit / 2 and not is_alone:
                yield group, self.BRIEFLY_IDLE_S

    def refuse(self) -> None:
        """Count a refused connection."""
        self.refused += 1
        self._refused.add(self.limit)

    async def respond_unavailable(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Refuse a request on a connection beyond the limit. This is an ASGI app; the connection discards the body."""
        del scope, receive
        self.refuse()
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
        self._group: Group | None = None
        """The group of the last request."""
        limit.open_connections = self.connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept the connection, or refuse it."""
        super().connection_made(transport)
        beyond = len(self.connections) - self._limit.limit
        if beyond <= 0 or self._limit.replace(self.loop.time()):
            self._limit.add_idle(self, self._group, self.loop.time())
        elif beyond > self.SPARE:
            self._limit.refuse()
            transport.abort()
        else:
            self._waiting = self.loop.call_later(self.ASK_S, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Remove the connection."""
        self._stop_waiting()
        self._limit.remove_idle(self, self._group)
        self._limit.remove_discarding(self)
        super().connection_lost(exc)

    def start_request(self) -> None:
        """Refuse the request while the limit is still exceeded, unless it is a probe."""
        self._limit.remove_idle(self, self._group)
        if self._is_idle():
            self._limit.remove_discarding(self)
        self.scope["state"][ON_REFUSAL] = WeakMethod(self._note_refusal)
        if self._waiting is None:
            super().start_request()
            return
        self._stop_waiting()
        if len(self.connections) <= self._limit.limit:
            super().start_request()
            return
        if not is_probe(self.url.partition(b"?")[0].decode("latin-1")):
            self.app = self._limit.respond_unavailable
        super().start_request()
        self.cycle.keep_alive = False

    def on_response_complete(self) -> None:
        """Become idle, unless another request has arrived."""
        super().on_response_complete()
        if self.timeout_keep_alive_task is not None and not self.transport.is_closing():
            self._group = self.cycle.scope["state"].get(GROUP, Group())
            if self._in_body:
                self._limit.add_discarding(self)
            else:
                self._limit.add_idle(self, self._group, self.loop.time())

    def _note_refusal(self) -> None:
        """Record that the current request only waits for its refusal."""
        if self._running is not None:
            self._running.is_refused = True
        self._wait_for_refusal()

    def _wait_for_refusal(self) -> None:
        """Let a new connection replace this one."""
        self._limit.remove_idle(self, self._group)
        self._limit.add_discarding(self)

    def _lingers(self) -> bool:
        lingers = super()._lingers()
        if lingers:
            self._limit.add_discarding(self)
        return lingers

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
