"""Turns for the inputs of LangServe's batches, so that one request does not do the work of thousands at once.

All batches of an owner share `_AT_ONCE` turns, or fewer where the server's limits of runs are lower.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from weakref import WeakValueDictionary

from chains.bridge import Turns
from graphs.turns import Limits

__all__ = ["BatchTurns"]

_AT_ONCE: Final = 32
"""Inputs of one owner's batches that are worked on at the same time."""


class BatchTurns:
    """Hands turns out to the owners of batches, each in the order in which they ask."""

    def __init__(self, limits: Limits) -> None:
        self._everyone = asyncio.Semaphore(limits.at_work)
        self._per_owner = min(_AT_ONCE, limits.at_work, limits.at_work_per_owner or _AT_ONCE)
        self._owners: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    def for_owner(self, owner: str) -> Turns:
        """Return what waits for a turn when it is entered, and gives it back when it is left."""
        own = self._owners.get(owner)
        if own is None:
            own = self._owners[owner] = asyncio.Semaphore(self._per_owner)

        @asynccontextmanager
        async def turn() -> AsyncIterator[None]:
            async with own, self._everyone:
                yield

        return turn
