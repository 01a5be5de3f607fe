"""One client's connection, under the app: what uvicorn answers by itself, and how long it waits.

Laws: broken HTTP is answered in OpenAI's shape, like everything else; the head of a request has a limit of bytes and
of time; a client that takes nothing of its answer is let go, so that it costs neither memory nor a socket for ever.
Nobody else waits for any of them, and nothing here is done for each request but to note the time.
"""

import asyncio
from http import HTTPStatus
from typing import Any, ClassVar

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from api.request_parser import RequestParser
from wire.errors import InvalidRequest
from wire.ids import new_id

__all__ = ["Connection"]


class _Joining:
    """A transport that writes an answer's head together with what follows it in the same turn of the loop: each write
    costs both sides a system call and a wake-up, 50 µs. The rest is the transport's own."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write, or wait a moment for what comes."""
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(b"HTTP/"):
            self._head = data
            self._loop.call_soon(self._flush)
            return
        self._transport.write(data)

    def close(self) -> None:
        """Write what waits, and close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        head, self._head = self._head, b""
        if head and not self._transport.is_closing():
            self._transport.write(head)


class Connection(HttpToolsProtocol):
    """HTTP/1.1 by httptools, with limits."""

    LOOK_S: ClassVar[float] = 30.0
    """How often it is looked at. What does not move from one look to the next is let go: 30 to 60 s, then."""

    MAX_HEAD_BYTES: ClassVar[int] = 64 * 1024
    """Longest request line and headers, give or take what is read at once."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parser = RequestParser(self)
        self._looking: asyncio.TimerHandle | None = None
        self._in_head = True
        self._head_bytes = 0
        self._head_since = self.loop.time()
        self._pauses = 0
        self._last_seen: tuple[int, int] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to look."""
        joining: Any = _Joining(transport, self.loop)
        super().connection_made(joining)
        self._looking = self.loop.call_later(self.LOOK_S, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """A head begins."""
        self._in_head, self._head_bytes, self._head_since = True, 0, self.loop.time()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; what comes after a chunked body is of no use to anybody."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the request, unless its head is parsed again without an `Upgrade`."""
        if not self.parser.should_upgrade():
            self._in_head = False
            self.start_request()

    def on_message_complete(self) -> None:
        """End the body, unless it has not started yet: see `on_headers_complete`."""
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def start_request(self) -> None:
        """Pass a request to the app. Its head is complete, its body may follow."""
        super().on_headers_complete()
        is_old = self.scope["http_version"] < "1.1"
        if b"expect" in dict(self.headers):
            # HTTP/1.0 has no status 100 (RFC 9110, section 10.1.1). Expectations other than `100-continue` are ignored.
            self.cycle.waiting_for_100_continue = not is_old and self._expects_100_continue()
        if is_old:
            _end_by_closing(self.cycle)

    def _expects_100_continue(self) -> bool:
        """Uvicorn itself recognises the expectation only if the header contains nothing else, not even a space."""
        expected = b",".join(value for name, value in self.headers if name == b"expect")
        return b"100-continue" in [token.strip() for token in expected.lower().split(b",")]

    def data_received(self, data: bytes) -> None:
        """Parse what came, and count it while it is a head."""
        super().data_received(data)
        if self._in_head and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > self.MAX_HEAD_BYTES:
                told = f"The request's line and headers have more than {self.MAX_HEAD_BYTES} bytes."
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, told)

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP."""
        self._refuse(HTTPStatus.BAD_REQUEST, f"We could not parse your request as HTTP: {msg}")

    def pause_writing(self) -> None:
        """The client reads more slowly than it is sent to."""
        self._pauses += 1
        super().pause_writing()

    def _look(self) -> None:
        """Let go what does not move."""
        self._looking = self.loop.call_later(self.LOOK_S, self._look)
        if self._takes_nothing():
            self.transport.abort()
        elif self._in_head and self._is_idle() and self.loop.time() - self._head_since > self.LOOK_S:
            if self._head_bytes:
                self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"The request's headers took longer than {self.LOOK_S:g} s.")
            else:
                self.transport.close()

    def _takes_nothing(self) -> bool:
        """Whether nothing of what waits to be sent has gone since the last look, while nothing was added."""
        waiting = self.transport.get_write_buffer_size()
        still = waiting > 0 and (self.flow.write_paused or self.transport.is_closing())
        seen, self._last_seen = self._last_seen, (self._pauses, waiting) if still else None
        return still and seen is not None and seen[0] == self._pauses and waiting >= seen[1]

    def _is_idle(self) -> bool:
        """Whether no answer is under way."""
        return (self.cycle is None or self.cycle.response_complete) and not self.transport.is_closing()

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        """Answer and hang up. A request that came whole before is answered first, and nothing behind it; in the middle
        of an answer there is no place for another."""
        if not self._is_idle() and not self.cycle.more_body:
            self.cycle.keep_alive = False
            return
        if self._is_idle() or not self.cycle.response_started:
            body = orjson.dumps(InvalidRequest(message, code="invalid_http").body())
            head = (
                f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
                f"x-request-id: {new_id('req')}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(STATUS_LINE[status] + head.encode() + body)
        self.transport.close()


def _end_by_closing(cycle: RequestResponseCycle) -> None:
    """Send answers of unknown length to an HTTP/1.0 client unencoded, and end them by closing the connection.

    HTTP/1.0 has no chunked coding (RFC 9112, section 6.1), but uvicorn 0.54 applies it to every answer without
    `Content-Length`, and no setting prevents that. `chunked_encoding` and `expected_content_length` are what its cycle
    goes by. It looks `send` up when its task starts, which is after this.
    """
    send, is_sized = cycle.send, True

    async def send_plain(message: Any) -> None:
        nonlocal is_sized
        if message["type"] == "http.response.start":
            # Uvicorn adds `Connection: close`. LangServe's streams send `keep-alive`, which would contradict it.
            headers = [header for header in message.get("headers", ()) if header[0].lower() != b"connection"]
            message = {**message, "headers": headers}
            is_sized = any(name.lower() == b"content-length" for name, _ in headers)
            cycle.chunked_encoding = None if is_sized else False
        elif not is_sized:
            cycle.expected_content_length = len(message.get("body", b""))
        await send(message)

    cycle.send = send_plain  # type: ignore[method-assign]
