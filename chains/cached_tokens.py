"""Subtracts tokens that the server itself read ahead from the `cached_tokens` of the built-in engine's usage.

A request finds the slices that `chains/read_ahead.py` has read for it in the cache. Clients see only the tokens that
were cached before their request arrived.
"""

import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Final

__all__ = ["subtract_cached", "subtract_streamed"]

_CACHED: Final = re.compile(rb'("cached_tokens": ?)(\d{1,12})\b')
"""Matches no text of a model, because quotes are escaped there."""
_EVENT_END: Final = b"\n\n"


def subtract_cached(answer: bytes, count: int) -> bytes:
    """Return JSON, or whole events of it, with `cached_tokens` reduced by `count`, but not below 0."""
    return _CACHED.sub(lambda found: b"%s%d" % (found[1], max(0, int(found[2]) - count)), answer)


async def subtract_streamed(blocks: AsyncIterator[bytes], count: int) -> AsyncGenerator[bytes]:
    """Yield a stream of events with `cached_tokens` reduced by `count`; each event as soon as it is complete."""
    rest = b""
    async with aclosing(blocks):  # type: ignore[type-var] # an async generator, as every response's blocks are
        async for block in blocks:
            whole, end, rest = (rest + block).rpartition(_EVENT_END)
            if end:
                yield subtract_cached(whole + end, count)
    if rest:
        yield subtract_cached(rest, count)
