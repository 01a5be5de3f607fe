"""Turns for large answers of upstreams, which are read whole before they are passed on.

An answer of up to 256 KB needs no turn. A larger one is read on when its owner's turn comes, and keeps the turn until
the caller has passed it on: otherwise any number of answers would fill the memory at the same time. While an answer
waits, the upstream's data stays in the system's buffers.
"""

import asyncio
import weakref
from contextlib import suppress
from typing import Final

from telemetry.context import acting_owner
from telemetry.per_loop import PerLoop
from telemetry.shares import Shares

__all__ = ["LARGE_BYTES", "AnswerTurn"]

LARGE_BYTES: Final = 256 * 1024
"""Larger answers take a turn. Most chats are shorter, and hundreds of them can arrive at the same time."""

_PARALLEL: Final = 2
"""Large answers at the same time, in addition to one per owner. One owner alone has two."""

_SHARES: Final = PerLoop(lambda: Shares(_PARALLEL, least=1, portion=1))


class AnswerTurn:
    """The turn of one answer. It ends with `end`, or when nothing refers to it any more."""

    __slots__ = ("__weakref__", "_end")

    def __init__(self) -> None:
        self._end: weakref.finalize[[asyncio.AbstractEventLoop, Shares, str], AnswerTurn] | None = None

    async def begin(self) -> None:
        """Wait for the turn of the acting owner, unless it has started. Cancelling withdraws the wait."""
        if self._end is not None:
            return
        loop, owner = asyncio.get_running_loop(), acting_owner()
        shares = _SHARES.get()
        await shares.acquire(owner)
        # An answer can be dropped before `end`, as when its client leaves at that moment.
        self._end = weakref.finalize(self, _release, loop, shares, owner)
        self._end.atexit = False

    def end(self) -> None:
        """Let another answer have the turn."""
        if self._end is not None:
            self._end()


def _release(loop: asyncio.AbstractEventLoop, shares: Shares, owner: str) -> None:
    with suppress(RuntimeError):  # the loop is closed, and its turns with it
        loop.call_soon_threadsafe(shares.release, owner)  # the garbage collector runs in any thread
