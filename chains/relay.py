"""Relays a stream of the built-in engine through a buffer, so that a slow client does not block the engine.

Invariant: how long a request holds the engine's slot depends on the engine. If the buffer is full, the client holds the
slot only while no other request waits for one; otherwise the stream ends with an error frame.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import Final

from chains.cached_tokens import subtract_cached, subtract_streamed
from chains.upstream_response import UpstreamResponse, error_frame
from wire.errors import UpstreamFailed

__all__ = ["RelayedResponse", "relay"]

_MAX_BYTES: Final = 4 * 1024 * 1024
"""Per stream; an answer of 8,000 tokens has about 2 MB, unless it has probabilities."""

_IDLE_READER_S: Final = 10.0
"""How long a reader can leave the buffer full while others wait for the slot."""

_TOO_SLOW: Final = (
    f"The client read the answer so slowly that {_MAX_BYTES >> 20} MB were buffered while other requests waited for "
    "the engine. Read the answer faster, or request a shorter one."
)


class _Buffer:
    """The part of a stream that the client has not read yet."""

    def __init__(self, source: UpstreamResponse, is_waited_for: Callable[[], bool], ahead: int) -> None:
        self._source = source
        self._ahead = ahead
        self._is_waited_for = is_waited_for
        self._blocks: deque[bytes] = deque()
        self._size = 0
        self._grown = asyncio.Event()
        self._taken = asyncio.Event()
        self._ended = False
        self._error: UpstreamFailed | None = None

    async def read(self) -> AsyncGenerator[bytes]:
        """Yield buffered bytes as soon as there are any, until the stream ends. Raises the stream's UpstreamFailed."""
        filling = asyncio.create_task(self._fill())
        try:
            while True:
                self._grown.clear()
                if self._blocks:
                    block = b"".join(self._blocks)
                    self._blocks.clear()
                    self._size = 0
                    self._taken.set()
                    yield block
                elif not self._ended:
                    await self._grown.wait()
                elif self._error is not None:
                    raise self._error
                else:
                    return
        finally:
            filling.cancel()
            await asyncio.wait((filling,))
            self._source.close()

    async def _fill(self) -> None:
        try:
            async with aclosing(self._blocks_to_keep()) as blocks:  # type: ignore[type-var]
                async for block in blocks:
                    self._add(block)
                    if self._size > _MAX_BYTES and not await self._has_space():
                        self._add(error_frame(_TOO_SLOW, "reader_too_slow"))
                        return
        except UpstreamFailed as error:
            self._error = error
        finally:
            self._source.close()
            self._ended = True
            self._grown.set()

    def _blocks_to_keep(self) -> AsyncIterator[bytes]:
        blocks = self._source.blocks()
        return subtract_streamed(blocks, self._ahead) if self._ahead else blocks

    def _add(self, block: bytes) -> None:
        self._blocks.append(block)
        self._size += len(block)
        self._grown.set()

    async def _has_space(self) -> bool:
        """Wait until the reader has emptied the buffer; return False if others cannot wait so long."""
        while self._size > _MAX_BYTES:
            self._taken.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_IDLE_READER_S):
                    await self._taken.wait()
                    return True
            if self._is_waited_for():
                return False
        return True


@dataclass(frozen=True, slots=True, weakref_slot=True)
class RelayedResponse(UpstreamResponse):
    """A stream that is buffered ahead of its client."""

    source: UpstreamResponse | None = None
    buffer: _Buffer | None = None

    @property
    def closed(self) -> bool:
        """Whether the engine has finished its work on it."""
        return self.source is None or self.source.closed

    def when_closed(self, act: Callable[[], None]) -> None:
        """Call `act` when the engine has finished its work on it."""
        if self.source is not None:
            self.source.when_closed(act)

    async def blocks(self) -> AsyncIterator[bytes]:
        """Yield the bytes as the reader takes them."""
        assert self.buffer is not None, "made by `relay`"
        async with aclosing(self.buffer.read()) as blocks:
            async for block in blocks:
                yield block

    def close(self) -> None:
        """Stop the engine."""
        if self.source is not None:
            self.source.close()


def relay(source: UpstreamResponse, is_waited_for: Callable[[], bool], *, ahead: int = 0) -> UpstreamResponse:
    """Return a stream that is buffered as it arrives; any other response as it is.

    `is_waited_for` returns whether others wait for what the stream holds. `ahead` is the number of tokens of its
    prompt that were read ahead, and do not count as cached.
    """
    if source.body is not None:
        return replace(source, body=subtract_cached(source.body, ahead)) if ahead else source
    buffer = _Buffer(source, is_waited_for, ahead)
    return RelayedResponse(source.status, source.content_type, source.headers, source=source, buffer=buffer)
