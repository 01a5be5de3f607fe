"""Reads the body of an upstream's answer, block by block or whole.

Invariants: no wait for a block exceeds the silence limit, or lasts long on a closed connection. Endless answers are
given up. aiohttp (3.14) has a limit of its own, which covers the head only: if the framing of a body breaks later,
aiohttp drops the limit and the waiting reader.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager, nullcontext, suppress
from typing import Final, TypeVar

import aiohttp

from chains.block_scheduling import block_scheduler, work_of
from chains.endpoint import Endpoint
from chains.response_slots import LARGE_BYTES, ResponseSlot
from chains.transport import failure
from telemetry.context import current_owner
from telemetry.metrics import Counts
from wire.errors import UpstreamFailed

__all__ = [
    "MAX_ANSWER_BYTES",
    "SHORTER_ANSWERS",
    "Blocks",
    "blocks",
    "read_all",
    "too_long",
    "until_silent",
    "when_closed",
]

MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024  # as received; about 200,000 tokens of some 300 bytes each
SHORTER_ANSWERS: Final = "Set MAX_REPLY_TOKENS."
T = TypeVar("T")

_MAX_BLOCK_BYTES: Final = 64 * 1024
"""A compressed answer can grow to a thousand times its size when aiohttp decompresses it."""

_LATE_S: Final = 0.5  # after the silence limit, so that the library's own limit applies first

_CHECK_S: Final = 2.0
"""The interval of the timer that detects a connection closed without an error."""


def when_closed(response: aiohttp.ClientResponse, act: Callable[[], None]) -> None:
    """Call `act` when an answer is read to its end, closed or discarded; now if all of it has arrived."""
    connection = response.connection
    if connection is None:
        act()
    else:
        connection.add_callback(act)


class Blocks:
    """One answer's body, block by block. The caller that creates it closes it.

    A periodic timer checks how long the reader has been waiting. A timer for each block, aiohttp's or ours, would cost
    as much as reading a block of one token.
    """

    def __init__(self, response: aiohttp.ClientResponse, *, idle_s: float) -> None:
        self._response = response
        self._content = response.content
        self._idle_s = idle_s
        self._loop = asyncio.get_running_loop()
        self._owner = current_owner()
        self._waits_since: float | None = None
        self._timer = self._schedule_check(idle_s)
        connection = response.connection  # None if the body arrived with the head
        if connection is not None and connection.protocol is not None:
            connection.protocol.read_timeout = None  # the limit has done its work: the head has arrived
            connection.protocol.start_timeout()  # cancels the running timer

    async def next(self) -> bytes:
        """Return the next bytes, at most 64 KiB; empty at the end. Other tasks run before it returns a full block.

        With many streams, the block waits until its owner's work is due; what arrives meanwhile is read as one block.
        Raises aiohttp.SocketTimeoutError after `idle_s` of silence, ClientError or OSError if the connection breaks.
        """
        block = await self._read()
        if len(block) == _MAX_BLOCK_BYTES:
            await asyncio.sleep(0)  # if more is buffered, `read` does not yield to other tasks
        if block:
            with self.held() if block_scheduler().is_busy else nullcontext():
                await block_scheduler().wait_to_start(self._owner, None, work_of(block))
        return block

    async def _read(self) -> bytes:
        self._waits_since = self._loop.time()
        try:
            return await self._content.read(_MAX_BLOCK_BYTES)
        except RuntimeError as closed:  # aiohttp's error if the framing broke while no reader was waiting
            raise aiohttp.ClientPayloadError(str(closed)) from closed
        finally:
            self._waits_since = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Leave arriving data to the system while the reader pauses: reading several arrivals together costs as much as
        reading one. The sender is not blocked, because the system's buffer holds the text of a moment. Linux delivers
        it even if the connection was reset meanwhile.

        TLS connections are not paused: they are read anyway, and uvloop drops unread data when the connection ends.
        """
        connection = self._response.connection
        transport = connection.transport if connection is not None else None
        if (
            transport is None  # all of it has arrived
            or transport.is_closing()
            or transport.get_extra_info("sslcontext") is not None
            or not transport.is_reading()  # the library itself has paused it
        ):
            yield
            return
        transport.pause_reading()
        try:
            yield
        finally:
            if not transport.is_closing():
                transport.resume_reading()

    def limit(self, idle_s: float) -> None:
        """Change the silence limit of the following blocks, in seconds."""
        self._idle_s = idle_s
        self._timer.cancel()
        self._timer = self._schedule_check(idle_s)

    def close(self) -> None:
        """Stop the timer."""
        self._timer.cancel()

    def _check(self) -> None:
        now = self._loop.time()
        due = (now if self._waits_since is None else self._waits_since) + self._idle_s
        if due <= now:
            self._content.set_exception(aiohttp.SocketTimeoutError())
        elif self._waits_since is not None and self._is_gone():
            self._content.set_exception(aiohttp.ClientPayloadError("the framing of the body broke"))
        else:
            self._timer = self._schedule_check(due - now)

    def _schedule_check(self, seconds: float) -> asyncio.TimerHandle:
        return self._loop.call_later(min(seconds, _CHECK_S), self._check)

    def _is_gone(self) -> bool:
        connection = self._response.connection  # None if all of it has arrived
        return connection is not None and (connection.transport is None or connection.transport.is_closing())


async def blocks(response: aiohttp.ClientResponse, *, idle_s: float) -> AsyncGenerator[bytes]:
    """Yield the bytes as they arrive. Raises as `Blocks.next` does."""
    reading = Blocks(response, idle_s=idle_s)
    try:
        while block := await reading.next():
            yield block
    finally:
        reading.close()


async def until_silent(stream: AsyncIterator[T], *, idle_s: float) -> AsyncGenerator[T]:
    """Yield what another library reads, with a silence limit: keep-alive bytes reset the library's own timeout.

    Raises TimeoutError after `idle_s` plus `_LATE_S` of silence, and whatever the stream raises.
    """
    with suppress(StopAsyncIteration):
        while True:
            async with asyncio.timeout(idle_s + _LATE_S):
                item = await anext(stream)
            yield item
            await asyncio.sleep(0)  # a library that has read ahead never waits, which would block other tasks


async def read_all(
    response: aiohttp.ClientResponse,
    endpoint: Endpoint,
    *,
    idle_s: float,
    max_bytes: int,
    outcomes: Counts,
    advice: str = "See its log.",
    slot: ResponseSlot | None = None,
) -> bytes:
    """Read an answer to its end, and release its connection; close the connection if the end does not arrive.

    A large answer waits for `slot`, if there is one. The caller releases the slot.
    Raises UpstreamFailed if the answer breaks off (counted in `outcomes`), or is longer than `max_bytes`, then with
    `advice`.
    """
    body = bytearray()
    try:
        async with aclosing(blocks(response, idle_s=idle_s)) as parts:
            async for block in parts:
                body += block
                if len(body) > max_bytes:
                    raise too_long(endpoint.host, max_bytes, advice)
                if slot is not None and len(body) > LARGE_BYTES:
                    await slot.acquire()
    except (aiohttp.ClientError, OSError) as error:
        failed = failure(error, endpoint, idle_s=idle_s)
        outcomes[(failed.kind,)] += 1
        raise failed from error
    finally:
        response.release() if response.content.at_eof() else response.close()
    return bytes(body)


def too_long(host: str, max_bytes: int, advice: str = SHORTER_ANSWERS) -> UpstreamFailed:
    """Return the error for an answer that exceeds its size limit."""
    return UpstreamFailed(f"{host} sent more than {max_bytes >> 20} MiB and did not end its answer. {advice}")
