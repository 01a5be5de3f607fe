"""Queues model calls that are not runs: LangServe's chats and requests passed through to an upstream.

Invariants:

- At most as many of these calls run as there can be active runs (MAX_RUNS, MAX_RUNS_PER_OWNER); the others wait.
- Owners are scheduled fairly. The calls of one owner keep their order.
- If the queue is full, a call is refused with 429 and `Retry-After` before any work is done for it.
- A batch processes only some of its inputs at a time, so that one request cannot do the work of thousands at once.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from weakref import WeakValueDictionary

from chains.bridge import SlotFactory
from graphs.admission import Admission, Limits, QueuedRun

__all__ = ["ModelCalls"]

_BATCH_INPUTS: Final = 32
"""Inputs of one owner's batches that are processed at the same time."""


class ModelCalls:
    """Counts running calls and queues the others."""

    def __init__(self, limits: Limits) -> None:
        self._admission = Admission(limits, counted="requests")
        self._numbers = itertools.count()
        self._of_batches = min(_BATCH_INPUTS, limits.max_executing, limits.max_executing_per_owner or _BATCH_INPUTS)
        self._batches: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    def check(self, owner: str) -> None:
        """Raise TooManyRequests if a call of this owner can neither start nor wait."""
        self._admission.check(owner)

    @asynccontextmanager
    async def slot(self, owner: str) -> AsyncIterator[None]:
        """Wait for a slot, and hold it for the duration of the block. Cancelling the wait withdraws the call."""
        await self._begin(owner)
        try:
            yield
        finally:
            self._end(owner)

    def of_batch(self, owner: str) -> SlotFactory:
        """Return the limiter of the owner's batches; each input enters it while it is processed."""
        own = self._batches.get(owner)
        if own is None:
            own = self._batches[owner] = asyncio.Semaphore(self._of_batches)
        return lambda: own

    async def _begin(self, owner: str) -> None:
        if self._admission.is_free(owner):
            self._admission.admit(owner)
            return
        number = next(self._numbers)
        queued = QueuedRun(f"call {number}", owner, "", number)
        self._admission.enqueue(queued)
        try:
            await queued.left.wait()
        except asyncio.CancelledError:
            if self._admission.get(queued.run_id) is None:  # it has just got a slot, which passes to another call
                self._end(owner)
            else:
                self._admission.remove(queued.run_id)
            raise

    def _end(self, owner: str) -> None:
        self._admission.release(owner)
        while (queued := self._admission.admit_next()) is not None:
            self._admission.remove(queued.run_id)
