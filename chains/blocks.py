"""The body of an upstream's answer, block by block or whole.

Law: no block is waited for longer than the limit of silence, nor for long on a connection that is gone, and no answer
is read that has no end. aiohttp (3.14) has a limit of its own, and forgets it, and whoever reads, when the framing of a
body breaks after its head: it counts for the head only.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from typing import Final, TypeVar

import aiohttp

from chains.endpoint import Endpoint
from chains.transport import failure
from telemetry.metrics import Counts
from wire.errors import UpstreamFailed

__all__ = ["MAX_ANSWER_BYTES", "SHORTER_ANSWERS", "Blocks", "blocks", "heard", "too_long", "when_closed", "whole"]

MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024  # as it comes, 300 bytes a token or so: room for 200,000 of them
SHORTER_ANSWERS: Final = "Set MAX_REPLY_TOKENS."
T = TypeVar("T")

_LATE_S: Final = 0.5  # after the limit of silence, which the library's own limit is to notice first

_LOOK_S: Final = 2.0
"""A connection that is gone without a word is noticed as soon."""


def when_closed(response: aiohttp.ClientResponse, act: Callable[[], None]) -> None:
    """Call `act` when an answer has been read to its end, closed or discarded; at once if all of it has arrived."""
    connection = response.connection
    if connection is None:
        act()
    else:
        connection.add_callback(act)


class Blocks:
    """One answer's body, block by block. Whoever made it closes it.

    A timer looks now and then for how long the reader has been waiting. One for each block, aiohttp's or ours, costs as
    much as reading what is in it, where a block is one token.
    """

    def __init__(self, response: aiohttp.ClientResponse, *, idle_s: float) -> None:
        self._response = response
        self._content = response.content
        self._idle_s = idle_s
        self._loop = asyncio.get_running_loop()
        self._waits_since: float | None = None
        self._timer = self._look_in(idle_s)
        connection = response.connection  # none where the body came with the head
        if connection is not None and connection.protocol is not None:
            connection.protocol.read_timeout = None  # it has kept its limit: the head is here
            connection.protocol.start_timeout()  # which ends the one that runs

    async def next(self) -> bytes:
        """Return the next bytes, none at the end.

        Raises aiohttp.SocketTimeoutError after `idle_s` of silence, ClientError or OSError at a break.
        """
        self._waits_since = self._loop.time()
        try:
            return await self._content.readany()
        except RuntimeError as closed:  # what aiohttp says of a body whose framing broke while nobody waited for it
            raise aiohttp.ClientPayloadError(str(closed)) from closed
        finally:
            self._waits_since = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Leave what comes meanwhile to the system, for a reader that rests: each arrival alone costs as much as the
        taking of several at once. Whoever sends is not held up, the system has room for a moment's words; Linux hands
        them over even where the connection was reset since.

        Not over TLS: it is read there all the same, and uvloop's drops what nobody has taken when the end comes.
        """
        connection = self._response.connection
        transport = connection.transport if connection is not None else None
        if (
            transport is None  # all is here
            or transport.is_closing()
            or transport.get_extra_info("sslcontext") is not None
            or not transport.is_reading()  # the library itself holds it
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
        """Wait this long for each block from now on."""
        self._idle_s = idle_s
        self._timer.cancel()
        self._timer = self._look_in(idle_s)

    def close(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def _look(self) -> None:
        now = self._loop.time()
        due = (now if self._waits_since is None else self._waits_since) + self._idle_s
        if due <= now:
            self._content.set_exception(aiohttp.SocketTimeoutError())
        elif self._waits_since is not None and self._is_gone():
            self._content.set_exception(aiohttp.ClientPayloadError("the framing of the body broke"))
        else:
            self._timer = self._look_in(due - now)

    def _look_in(self, seconds: float) -> asyncio.TimerHandle:
        return self._loop.call_later(min(seconds, _LOOK_S), self._look)

    def _is_gone(self) -> bool:
        connection = self._response.connection  # none where all is here
        return connection is not None and (connection.transport is None or connection.transport.is_closing())


async def blocks(response: aiohttp.ClientResponse, *, idle_s: float) -> AsyncGenerator[bytes]:
    """Yield the bytes as they come. Raises as `Blocks.next` does."""
    reading = Blocks(response, idle_s=idle_s)
    try:
        while block := await reading.next():
            yield block
    finally:
        reading.close()


async def heard(stream: AsyncIterator[T], *, idle_s: float) -> AsyncGenerator[T]:
    """Yield what another library reads; a limit of its own is one of bytes, which signs of life keep from coming.

    Raises TimeoutError after `idle_s` of silence and a moment, and what the stream raises.
    """
    with suppress(StopAsyncIteration):
        while True:
            async with asyncio.timeout(idle_s + _LATE_S):
                said = await anext(stream)
            yield said
            await asyncio.sleep(0)  # a library that has read ahead never waits, and no other task would get a turn


async def whole(
    response: aiohttp.ClientResponse,
    endpoint: Endpoint,
    *,
    idle_s: float,
    max_bytes: int,
    outcomes: Counts,
    advice: str = "See its log.",
) -> bytes:
    """Read an answer to its end, and let its connection go; it is closed where the end did not come.

    Raises UpstreamFailed where it broke off (counted among the outcomes), or is longer than `max_bytes`: then with
    `advice`.
    """
    body = bytearray()
    try:
        async with aclosing(blocks(response, idle_s=idle_s)) as parts:
            async for block in parts:
                body += block
                if len(body) > max_bytes:
                    raise too_long(endpoint.host, max_bytes, advice)
    except (aiohttp.ClientError, OSError) as error:
        told = failure(error, endpoint, idle_s=idle_s)
        outcomes[(told.kind,)] += 1
        raise told from error
    finally:
        response.release() if response.content.at_eof() else response.close()
    return bytes(body)


def too_long(host: str, max_bytes: int, advice: str = SHORTER_ANSWERS) -> UpstreamFailed:
    """Return what an answer fails with that goes on beyond its limit."""
    return UpstreamFailed(f"{host} sent more than {max_bytes >> 20} MiB and did not end its answer. {advice}")
