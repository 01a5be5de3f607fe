"""One client's connection, below the app: limits for everything a client can send, fail to send, or fail to read.

Invariants:

- A connection closes after a limited time unless it makes progress. Progress is a complete head, a block of a body, the
  end of a request, or bytes of a response that the client reads. Other bytes (empty lines, chunk extensions, trailers,
  the rest of a refused body) do not extend a limit, and their number is limited, too.
- Progress has a minimum average rate: for a body that the server waits for, and for a response that the client reads
  slowly. The time that a body or a response can take therefore depends only on its length.
- Responses are sent in the order of their requests. Invalid HTTP gets an error in OpenAI's shape after the responses to
  earlier requests, and nothing after it is read. Such refusals are scheduled like the starts of requests.
- A disconnect is detected even while requests of the connection wait: their bytes are kept unparsed, up to a limit.
- A connection that closes before it has read a whole body lets the client read the response first.
- Small pieces of requests are read fairly by owner: see `api.small_reads`.
"""

import asyncio
from http import HTTPStatus
from typing import Any, ClassVar, Final, NoReturn

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from api.broken_http import BROKEN, TooMuchError, refusal
from api.cycles import CancelOnDisconnect, end_by_closing, end_if_refused, expects_100_continue, restore_send
from api.request_parser import RequestParser
from api.request_starts import call_in_turn
from api.small_reads import SmallReads
from api.transport import Flow, JoiningTransport

__all__ = ["Connection"]

_PARSED_AT_ONCE: Final = 8 * 1024
"""Bytes that are parsed before the next check for waiting requests: one read of 256 KB can contain 14,000."""

_UNREAD: Final = 16 * 1024
"""Bytes of a body that the app has not taken when reading pauses. Each connection can keep them, and one more read."""

_UNSENT: Final = 16 * 1024
"""Bytes that wait for a client that reads late before the app must stop writing. Each connection can keep them."""


class Connection(HttpToolsProtocol):
    """HTTP/1.1 by httptools, with limits."""

    CHECK_S: ClassVar[float] = 30.0
    """Time between two checks. A connection without progress between them is closed, which is after 30 to 60 s."""

    MAX_HEAD_BYTES: ClassVar[int] = 64 * 1024
    """Maximum bytes without progress, such as those of a head, and maximum bytes that wait for earlier responses; one
    read can exceed it."""

    MAX_TARGET_BYTES: ClassVar[int] = 8 * 1024
    """Maximum bytes of a path and query; a packed configuration of LangServe has 2,048."""

    MAX_HEADERS: ClassVar[int] = 256
    """Maximum headers of a request, and maximum trailers. Each takes 150 bytes of memory, however short it is."""

    CHUNKS: ClassVar[tuple[int, int]] = (1024, 32)
    """A body in chunks can have so many, and one more for each so many bytes: a chunk takes as long as 5 KB."""

    MAX_HELD_BYTES: ClassVar[int] = 32 * 1024 * 1024
    """Maximum bytes of all connections together that wait for earlier responses."""

    MIN_BODY_BYTES: ClassVar[int] = 1024
    """Bytes of a body that count as progress between two checks."""

    MIN_RATE: ClassVar[int] = 2048
    """Minimum bytes per second that a client sends or reads, on average over the checks at which the server waits for
    it, except the first one or two."""

    _held_by_all: ClassVar[int] = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # as uvicorn calls it
        super().__init__(*args, **kwargs)
        self.parser = RequestParser(self)
        self._check_timer: asyncio.TimerHandle | None = None
        self._in_head = True
        self._in_body = False
        self._idle_bytes = 0
        """Bytes since the last progress."""
        self._head_since = self.loop.time()
        self._body_bytes = 0
        self._seen_body_bytes: int | None = None
        self._body_start = 0
        self._pieces = 0
        """Chunks, or parts of them, of the latest body."""
        self._trailers = 0
        self._body_looks = 0
        """Checks at which the server waited for more of the latest body."""
        self._pauses = 0
        self._last_seen: tuple[int, int] | None = None
        self._behind: tuple[int, int] = (0, 0)
        """Consecutive checks at which the client was behind, and the bytes that it had read at the first of them."""
        self._answering: RequestResponseCycle | None = None
        """The request whose response is next. `cycle` is the latest one; those in between are in `pipeline`."""
        self._running: CancelOnDisconnect | None = None
        self._seen_answering: RequestResponseCycle | None = None
        self._held = b""
        """Unparsed bytes after requests that wait."""
        self._small_reads = SmallReads(self._resume_reading)
        self._refusal: bytes | None = None
        """The last response, to an unreadable request; can be empty. It is sent after the responses that are due."""
        self._refusal_turn: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the checks."""
        joining: Any = JoiningTransport(transport, self.loop, self._lingers)  # it has the transport's other methods
        super().connection_made(joining)
        joining.set_write_buffer_limits(high=_UNSENT)
        self.flow = Flow(joining, lambda: self._is_full() or self._small_reads.waits)
        self._check_timer = self.loop.call_later(self.CHECK_S, self._check_progress)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the request that is being answered, and those that wait."""
        for waiting in (self._check_timer, self._refusal_turn):
            if waiting is not None:
                waiting.cancel()
        self._small_reads.close()
        self._unset_keepalive_if_required()
        self.transport.lost()  # type: ignore[attr-defined]
        restore_send(*(cycle for cycle, _ in self.pipeline))
        self.pipeline.clear()
        self._keep(b"")
        self._disconnect()
        super().connection_lost(exc)
        # Break reference cycles, so that the connection is freed now and not by the garbage collector: a client can
        # open thousands a second, of 10 KB each. A request that is still executing does not need its connection.
        self.flow.detach()  # type: ignore[attr-defined]
        self.cycle = self._answering = self._running = self._refusal_turn = None  # type: ignore[assignment]

    def on_message_begin(self) -> None:
        """Start a head."""
        self._in_head, self._head_since = True, self.loop.time()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Add a piece of the target. The server reads it several times, so its limit is lower than that of a head."""
        super().on_url(url)
        if len(self.url) > self.MAX_TARGET_BYTES:
            message = f"The request's target (path and query) has more than {self.MAX_TARGET_BYTES} bytes."
            self._stop_parsing(HTTPStatus.REQUEST_URI_TOO_LONG, message)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header; trailers after a chunked body are ignored. Stops the parser after too many."""
        if not self._in_head:
            self._trailers += 1
        if (len(self.headers) if self._in_head else self._trailers) >= self.MAX_HEADERS:
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE if self._in_head else HTTPStatus.BAD_REQUEST
            self._stop_parsing(status, f"The request has more than {self.MAX_HEADERS} headers or trailers.")
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the request, unless its head is parsed again without an `Upgrade`."""
        if not self.parser.should_upgrade():
            self._in_head, self._in_body, self._idle_bytes = False, True, 0
            self._seen_body_bytes, self._body_start, self._body_looks = None, self._body_bytes, 0
            self._pieces = self._trailers = 0
            self._small_reads.reset()
            self._unset_keepalive_if_required()
            self.start_request()

    def on_body(self, body: bytes) -> None:
        """Receive a block of the body."""
        self._idle_bytes = 0
        self._body_bytes += len(body)
        self._pieces += 1
        some, per_bytes = self.CHUNKS
        if self._pieces > some + (self._body_bytes - self._body_start) // per_bytes:
            message = f"The body has chunks of fewer than {per_bytes} bytes on average. Send larger ones."
            self._stop_parsing(HTTPStatus.BAD_REQUEST, message)
        super().on_body(body)
        if len(self.cycle.body) > _UNREAD and not self.cycle.response_complete:
            self.flow.pause_reading()

    def on_message_complete(self) -> None:
        """End the body, unless it has not started yet: see `on_headers_complete`."""
        if not self.parser.should_upgrade():
            self._in_body, self._idle_bytes = False, 0
            super().on_message_complete()

    def start_request(self) -> None:
        """Pass a request to the app. Its head is complete, its body may follow."""
        super().on_headers_complete()
        is_old = self.scope["http_version"] < "1.1"
        if b"expect" in dict(self.headers):
            # HTTP/1.0 has no status 100 (RFC 9110, section 10.1.1). Expectations other than `100-continue` are ignored.
            self.cycle.waiting_for_100_continue = not is_old and expects_100_continue(self.headers)
            if self.cycle.waiting_for_100_continue:
                end_if_refused(self.cycle)
        if is_old:
            end_by_closing(self.cycle)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:  # uvicorn's type of apps is private
        self._answering, self._running = cycle, CancelOnDisconnect(app, cycle)
        super()._start_asgi_task(cycle, self._running)

    def on_response_complete(self) -> None:
        """Continue with what waits: the next request, unparsed bytes, or the last response."""
        super().on_response_complete()
        if self.pipeline or self.transport.is_closing():
            return
        if self._refusal is not None:
            if self._is_idle():
                self._disconnect_client()
        elif self._held:
            held = self._held
            self._keep(b"")
            self.flow.resume_reading()
            self._parse(held)

    def data_received(self, data: bytes) -> None:
        """Parse received bytes, and continue to read when this connection is scheduled."""
        self._parse(data)
        self._small_reads.add(len(data), self._owner)
        if self._small_reads.waits:
            self.flow.pause_reading()

    def _resume_reading(self) -> None:
        if not self._waits_for_app():
            self.flow.resume_reading()

    def _waits_for_app(self) -> bool:
        """Return whether reading continues only when the app takes the body."""
        if self.cycle is None or self.cycle.response_complete or self.pipeline:
            return False
        return self._refusal is None and len(self.cycle.body) > _UNREAD

    def _parse(self, data: bytes) -> None:
        """Parse bytes until requests wait; limit bytes that advance no request."""
        if self._refusal is not None or self.transport.is_closing():
            return
        view = memoryview(data)
        while view and self._refusal is None and not self.transport.is_closing():
            if self.pipeline:
                self._hold(view)
                return
            self._feed(view[:_PARSED_AT_ONCE])
            view = view[_PARSED_AT_ONCE:]

    def _feed(self, data: memoryview) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            if self._refusal is None:  # see `_stop_parsing`
                BROKEN.add()
                self._refuse(HTTPStatus.BAD_REQUEST, "We could not parse your request as HTTP.")
            return
        self._idle_bytes += len(data)
        if self._idle_bytes > self.MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse_idle_bytes()
        if self.pipeline:
            self.flow.resume_reading()  # a client that leaves is noticed only while the socket is read

    def _stop_parsing(self, status: HTTPStatus, message: str) -> NoReturn:
        """Refuse the request from a callback, before the exception: that does not always reach the parser's caller."""
        self._refuse(status, message)
        raise TooMuchError

    def _hold(self, data: memoryview) -> None:
        self._keep(self._held + data)
        if Connection._held_by_all > self.MAX_HELD_BYTES:
            self._end_reading(b"")  # a client repeats requests that got no response (RFC 9112, section 9.3.2)
        elif self._is_full():
            self.flow.pause_reading()

    def _keep(self, held: bytes) -> None:
        Connection._held_by_all += len(held) - len(self._held)
        self._held = held

    def _is_full(self) -> bool:
        return len(self._held) > self.MAX_HEAD_BYTES

    def _refuse_idle_bytes(self) -> None:
        if self._in_head:
            message = f"The request's line and headers have more than {self.MAX_HEAD_BYTES} bytes."
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, message)
        else:
            message = f"More than {self.MAX_HEAD_BYTES} bytes arrived that belong to no head and no body."
            self._refuse(HTTPStatus.BAD_REQUEST, message)

    def pause_writing(self) -> None:
        """Note that the client reads more slowly than the server sends."""
        self._pauses += 1
        super().pause_writing()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that has been idle for too long; a head that has started has its own limit."""
        if not self._in_head:
            super().timeout_keep_alive_handler()

    def _check_progress(self) -> None:
        """Close the connection if it has made no progress since the last check."""
        self._check_timer = self.loop.call_later(self.CHECK_S, self._check_progress)
        if self._takes_too_little():
            self.transport.abort()
        elif self._refusal is not None or self.transport.is_closing():
            return
        elif self._holds_too_long():
            self._end_reading(b"")  # see `_hold`
        elif message := self._find_slow_body():
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, message)
        elif self._in_head and self._is_idle() and self.loop.time() - self._head_since > self.CHECK_S:
            if self._idle_bytes:
                self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"The request's headers took longer than {self.CHECK_S:g} s.")
            else:
                self.transport.close()

    def _takes_too_little(self) -> bool:
        """Return whether the client has read nothing since the last check, although nothing was added, or too little
        since it fell behind."""
        waiting = self.transport.get_write_buffer_size()
        still = waiting > 0 and (self.flow.write_paused or self.transport.is_closing())
        seen, self._last_seen = self._last_seen, (self._pauses, waiting) if still else None
        taken: int = self.transport.written - waiting  # type: ignore[attr-defined]
        looks, since = self._behind
        self._behind = (looks + 1, since if looks else taken) if still else (0, 0)
        if seen is None or not still:
            return False
        return (seen[0] == self._pauses and waiting >= seen[1]) or taken - since < (looks - 1) * self._min_bytes

    def _holds_too_long(self) -> bool:
        """Return whether the held bytes reach the limit and no response has ended since the last check.

        The socket is then not read, so a client that left would not be noticed.
        """
        seen, self._seen_answering = self._seen_answering, self._answering if self._is_full() else None
        return self._is_full() and seen is self._answering

    @property
    def _owner(self) -> str:
        return "" if self.cycle is None else str(self.cycle.scope["state"].get("owner", ""))

    @property
    def _min_bytes(self) -> float:
        return self.CHECK_S * self.MIN_RATE

    def _find_slow_body(self) -> str:
        """Return the error if the server waits for the body of the request that is being answered, and the body has
        stopped or is too slow; otherwise an empty string."""
        is_paused = self.flow.read_paused and not self._small_reads.waits
        waited_for = self._in_body and not (self._is_idle() or self.pipeline or is_paused)
        waited_for = waited_for and not self.cycle.waiting_for_100_continue  # then the client waits for the server
        seen, self._seen_body_bytes = self._seen_body_bytes, self._body_bytes if waited_for else None
        if seen is None or not waited_for:
            return ""
        self._body_looks += 1
        if self._body_bytes - seen < self.MIN_BODY_BYTES:
            return f"Fewer than {self.MIN_BODY_BYTES} bytes of the request body arrived in {self.CHECK_S:g} s."
        if self._body_bytes - self._body_start < (self._body_looks - 1) * self._min_bytes:
            return f"The request body arrives at fewer than {self.MIN_RATE} bytes per second on average."
        return ""

    def _is_idle(self) -> bool:
        """Return whether no response is due."""
        return self._answering is None or self._answering.response_complete

    def _lingers(self) -> bool:
        """Return whether the client can still be sending data that is not needed. It is discarded during the close."""
        unread = self._in_body or self._refusal is not None or bool(self.pipeline or self._held)
        if unread:
            self._keep(b"")
            self.flow.resume_reading()
        return unread

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        """Respond and close the connection, after the responses to earlier requests."""
        self._end_reading(refusal(status, message))

    def _end_reading(self, last: bytes) -> None:
        """Discard further input, and close the connection after the responses that are due and this one."""
        self._refusal = last
        self._keep(b"")
        self.flow.resume_reading()  # further input is discarded
        if self._in_body and self.pipeline:
            self.pipeline.popleft()  # the latest request, whose body will never be complete
        elif self._in_body or self._is_idle():
            self._wait_for_refusal()
            self._refusal_turn = call_in_turn(self._owner, self._disconnect_client)

    def _wait_for_refusal(self) -> None:
        """Record that the connection waits for its turn to be refused and closed."""

    def _disconnect_client(self) -> None:
        """Send the last response, and close. A request that has received a response, or part of one, gets no other."""
        is_lost = self.transport.is_closing()  # the client left after the turn was granted
        if self._refusal and not is_lost and not (self._in_body and self.cycle.response_started):
            self.transport.write(self._refusal)
        self.transport.close()
        self._disconnect()

    def _disconnect(self) -> None:
        """Notify the request that is being answered that its client has left, or cancel it."""
        if self._answering is not None and not self._answering.response_complete:
            self._answering.disconnected = True
            self._answering.message_event.set()
            if self._running is not None:
                self._running.on_disconnect()
            self.flow.resume_writing()
