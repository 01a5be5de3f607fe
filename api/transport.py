"""Transports between a connection and its socket: fewer writes, no lost last responses, and limits for reading."""

import asyncio
from collections.abc import Callable
from typing import Final

from uvicorn.protocols.http.flow_control import FlowControl

__all__ = ["READ_BYTES", "Flow", "JoiningTransport", "ShortReads"]

_LINGER_S: Final = 5.0
"""How long the rest of a body is discarded after the last response. Data that arrives at a closed socket resets the
connection, and the client loses the response."""


READ_BYTES: Final = 32 * 1024
"""Bytes that are read at a time. A connection that pauses reading keeps what it has read, which the client chooses."""


class ShortReads(asyncio.BufferedProtocol):
    """Passes what arrives to a protocol, `READ_BYTES` at a time; asyncio and uvloop read 256 KB for it otherwise.

    `buffer` has this size, and is shared by all connections of an event loop: it is only used during a read.
    """

    def __init__(self, protocol: asyncio.Protocol, buffer: memoryview) -> None:
        self._protocol = protocol
        self._buffer = buffer
        self.connection_lost = protocol.connection_lost  # type: ignore[method-assign]
        self.eof_received = protocol.eof_received  # type: ignore[method-assign]
        self.pause_writing = protocol.pause_writing  # type: ignore[method-assign]
        self.resume_writing = protocol.resume_writing  # type: ignore[method-assign]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the protocol."""
        self._protocol.connection_made(transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the buffer for the next read."""
        del sizehint
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Pass on a copy of what was read."""
        self._protocol.data_received(bytes(self._buffer[:nbytes]))


class JoiningTransport:
    """A transport that writes a response's head together with what follows it in the same iteration of the loop: each
    write costs both sides a system call and a wake-up, 50 µs. Everything else is delegated to the transport.

    `close` ends sending. If `lingers()` is true, it leaves the connection open for reading for up to 5 s.
    """

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, lingers: Callable[[], bool]
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._lingers = lingers
        self._head = b""
        self._lingering: asyncio.TimerHandle | None = None
        self.written = 0
        """Bytes that were written to the transport."""

    def __getattr__(self, name: str) -> object:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write, or wait briefly for what follows."""
        if self._lingering is not None:
            return
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(b"HTTP/"):
            self._head = data
            self._loop.call_soon(self._flush)
            return
        self.written += len(data)
        self._transport.write(data)

    def close(self) -> None:
        """Write the waiting bytes, and close."""
        if self._lingering is not None:
            return
        self._flush()
        if not self._transport.is_closing() and self._lingers():
            self._lingering = self._loop.call_later(_LINGER_S, self._transport.close)
            self._transport.write_eof()
        else:
            self._transport.close()

    def is_closing(self) -> bool:
        """Whether nothing more can be written."""
        return self._lingering is not None or self._transport.is_closing()

    def lost(self) -> None:
        """Stop the timer of a connection that has ended, and drop the reference to it."""
        if self._lingering is not None:
            self._lingering.cancel()
        self._lingers = _is_never

    def _flush(self) -> None:
        head, self._head = self._head, b""
        if head and not self._transport.is_closing():
            self.written += len(head)
            self._transport.write(head)


class Flow(FlowControl):
    """Uvicorn's switches for reading and writing. Reading stays off while `is_full()`, whatever turns it on."""

    def __init__(self, transport: asyncio.Transport, is_full: Callable[[], bool]) -> None:
        super().__init__(transport)
        self._is_full = is_full

    def detach(self) -> None:
        """Drop the reference to the connection that has ended."""
        self._is_full = _is_never

    def resume_reading(self) -> None:
        """Continue reading if there is space."""
        if not self._is_full():
            super().resume_reading()


def _is_never() -> bool:
    return False
