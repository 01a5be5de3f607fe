"""Streams of actions' connections. They are read in small blocks, one at a time, up to a limit for each answer.

The HTTP library parses on the event loop. Its cost depends on the header lines and body chunks, not on bytes: 64 KB of
empty chunks or early hints take half a second. Invariant: between two iterations of the event loop, the library parses
one block, whatever the number of calls. Owners are scheduled fairly between blocks.
"""

import asyncio
import ssl
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

import httpcore2

from fairness.fair_limits import FairLimit
from telemetry.context import current_owner
from wire.json import Json

__all__ = ["FairStream", "ReadLimit", "limit_reads"]

_BLOCK: Final = 4 * 1024
"""Bytes, which take at most ten milliseconds to parse."""


@dataclass(slots=True)
class ReadLimit:
    """The bytes that the task's call can still read: heads, content and framing."""

    left: int


_READ_LIMIT: Final[ContextVar[ReadLimit | None]] = ContextVar("read_limit", default=None)


def limit_reads(count: int) -> ReadLimit:
    """Limit what the current task reads from now on. Returns the limit, which can be changed."""
    read_limit = ReadLimit(count)
    _READ_LIMIT.set(read_limit)
    return read_limit


class FairStream(httpcore2.AsyncNetworkStream):
    """A stream whose blocks alternate with those of all other streams that share `limit`, which has one slot."""

    def __init__(self, stream: httpcore2.AsyncNetworkStream, limit: FairLimit) -> None:
        self._stream = stream
        self._limit = limit

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - the library's
        """Return the next block. Raises RemoteProtocolError if more arrives than `limit_reads` allows."""
        block = await self._stream.read(min(max_bytes, _BLOCK), timeout)
        if (read_limit := _READ_LIMIT.get()) is not None:
            read_limit.left -= len(block)
            if read_limit.left < 0:
                raise httpcore2.RemoteProtocolError("the answer has too many bytes besides its content")
        async with self._limit.slot(current_owner()):
            await asyncio.sleep(0)
        return block

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Write the whole buffer."""
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore2.AsyncNetworkStream:
        """Return the encrypted stream, which is read in the same way."""
        return FairStream(await self._stream.start_tls(ssl_context, server_hostname, timeout), self._limit)

    def get_extra_info(self, info: str) -> Json:
        """Return information about the connection."""
        return self._stream.get_extra_info(info)
