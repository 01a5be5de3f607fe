"""Limits the number of large answers of upstreams, which are read whole before they are passed on.

An answer of up to 256 KB needs no slot. A larger one is read on when its owner gets a slot, and keeps the slot until
the caller has passed it on: otherwise any number of answers would fill the memory at the same time. While an answer
waits, the upstream's data stays in the system's buffers.
"""

import asyncio
import weakref
from contextlib import suppress
from typing import Final

from fairness.fair_limits import FairLimit
from fairness.per_loop import PerLoop
from telemetry.context import current_owner

__all__ = ["LARGE_BYTES", "ResponseSlot"]

LARGE_BYTES: Final = 256 * 1024
"""Larger answers need a slot. Most chats are shorter, and hundreds of them can arrive at the same time."""

_PARALLEL: Final = 2
"""Large answers at the same time, in addition to one per owner. One owner alone has two."""

_LIMIT: Final = PerLoop(lambda: FairLimit(_PARALLEL, minimum=1, portion=1))


class ResponseSlot:
    """The slot of one answer. It is held until `release`, or until nothing refers to it any more."""

    __slots__ = ("__weakref__", "_finalizer")

    def __init__(self) -> None:
        self._finalizer: weakref.finalize[[asyncio.AbstractEventLoop, FairLimit, str], ResponseSlot] | None = None

    async def acquire(self) -> None:
        """Wait for a slot of the current owner, unless the response has one. Cancelling the call ends the wait."""
        if self._finalizer is not None:
            return
        loop, owner = asyncio.get_running_loop(), current_owner()
        limit = _LIMIT.get()
        await limit.acquire(owner)
        # An answer can be dropped before `release`, as when its client leaves at that moment.
        self._finalizer = weakref.finalize(self, _release, loop, limit, owner)
        self._finalizer.atexit = False

    def release(self) -> None:
        """Release the slot to the next answer."""
        if self._finalizer is not None:
            self._finalizer()


def _release(loop: asyncio.AbstractEventLoop, limit: FairLimit, owner: str) -> None:
    with suppress(RuntimeError):  # the loop is closed, and its slots with it
        loop.call_soon_threadsafe(limit.release, owner)  # the garbage collector runs in any thread
