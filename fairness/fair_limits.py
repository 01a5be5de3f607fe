"""Limits and threads that owners share fairly: slots held for a while, and threads for blocking work.

Invariants: a free slot goes to the waiting owner who holds the fewest slots, and among equals to the one served longest
ago. Urgent work goes first, but never more than `_URGENT_STREAK` times in a row before other work. Cancelling a wait
withdraws it. A thread's slot is free only when the thread is, even if its caller has stopped waiting for the result.
"""

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future as ThreadFuture
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from contextvars import copy_context
from typing import Final, ParamSpec, TypeVar

from fairness.per_loop import PerLoop

__all__ = ["ANSWERS", "COMPARING", "DISK", "INDEXING", "REQUESTS", "FairLimit", "FairThreads"]

_URGENT_STREAK: Final = 4
"""Urgent grants in a row while other work waits; the next slot goes to that work."""

P = ParamSpec("P")
R = TypeVar("R")

_Queue = dict[str, dict["asyncio.Future[None]", None]]
"""Waiting futures by owner, oldest first; the owner served longest ago comes first."""


class FairLimit:
    """Slots that owners share, or other counted units such as bytes. An instance belongs to one event loop.

    An owner can always hold `minimum` slots, whatever others do. Beyond these, all owners share `size` slots, of which
    an owner can hold `portion` times as many as are free: with 1, a lone owner gets half and leaves the rest for
    others.
    """

    def __init__(self, size: int, *, minimum: int = 0, portion: float = math.inf) -> None:
        self._size = size
        self._minimum = minimum
        self._portion = portion
        self._shared = 0
        self._held: Counter[str] = Counter()
        self._urgent: _Queue = {}
        self._other: _Queue = {}
        self._streak = 0

    @property
    def waiting(self) -> int:
        """The number of waiters for a slot."""
        return sum(map(len, (*self._urgent.values(), *self._other.values())))

    def is_free(self, owner: str, count: int = 1) -> bool:
        """Return whether the owner can get `count` slots, one after the other."""
        beyond = self._held[owner] + count - self._minimum - 1
        if beyond < 0:
            return True
        left = self.left - min(count - 1, beyond)  # before the last slot is acquired
        return left > 0 and beyond < self._portion * left

    @property
    def left(self) -> int:
        """The number of free shared slots."""
        return self._size - self._shared

    def acquire_nowait(self, owner: str, count: int = 1) -> None:
        """Acquire slots that are free, without waiting."""
        self._change(owner, count)

    def release(self, owner: str, count: int = 1) -> None:
        """Release slots, and grant the free ones to waiters."""
        self._change(owner, -count)
        while (queue := self._next_queue()) is not None:
            self._grant(*queue)

    def _change(self, owner: str, count: int) -> None:
        before = self._held[owner]
        self._held[owner] += count
        self._shared += max(0, before + count - self._minimum) - max(0, before - self._minimum)
        if not self._held[owner]:
            del self._held[owner]

    async def acquire(self, owner: str, *, urgent: bool = False) -> None:
        """Wait for a slot and take it. A cancelled wait takes none."""
        if self.is_free(owner):  # no waiter can take this slot
            self.acquire_nowait(owner)
            return
        queue = self._urgent if urgent else self._other
        granted = asyncio.get_running_loop().create_future()
        queue.setdefault(owner, {})[granted] = None
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self.release(owner)
            else:
                _remove(queue, owner, granted)
            raise

    @asynccontextmanager
    async def slot(self, owner: str, *, urgent: bool = False) -> AsyncIterator[None]:
        """Hold a slot for the duration of the block."""
        await self.acquire(owner, urgent=urgent)
        try:
            yield
        finally:
            self.release(owner)

    def _next_queue(self) -> tuple[_Queue, str] | None:
        queues = (self._other, self._urgent) if self._streak >= _URGENT_STREAK else (self._urgent, self._other)
        for queue in queues:
            able = [owner for owner in queue if self.is_free(owner)]
            if able:
                return queue, min(able, key=self._held.__getitem__)
        return None

    def _grant(self, queue: _Queue, owner: str) -> None:
        granted = next(iter(queue[owner]))
        _remove(queue, owner, granted)
        if owner in queue:
            queue[owner] = queue.pop(owner)  # to the end: other owners come before this owner's next waiter
        self._streak = self._streak + 1 if queue is self._urgent and self._other else 0
        if not granted.done():
            self.acquire_nowait(owner)
            granted.set_result(None)


def _remove(queue: _Queue, owner: str, granted: "asyncio.Future[None]") -> None:
    waiting = queue.get(owner, {})
    waiting.pop(granted, None)
    if not waiting:
        queue.pop(owner, None)


class FairThreads:
    """Threads that owners share; each call holds one slot of `FairLimit` until its thread is done.

    The threads start with the first call. Each event loop has its own slots, as `FairLimit` belongs to one loop.
    """

    def __init__(self, threads: int, name: str, *, portion: float = math.inf) -> None:
        self._executor = ThreadPoolExecutor(threads, f"threadhold-{name}")
        self._limits = PerLoop(lambda: FairLimit(threads, portion=portion))

    async def run(self, owner: str, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Return `work(…)`, called in a thread when the owner gets one. A cancelled call can still run."""
        return await self._run(owner, False, lambda: work(*args, **kwargs))

    async def run_urgently(self, owner: str, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Return `work(…)` as `run` does, but before work that is not urgent."""
        return await self._run(owner, True, lambda: work(*args, **kwargs))

    async def close(self) -> None:
        """End the threads after the calls in progress. Later calls raise RuntimeError."""
        await asyncio.to_thread(self._executor.shutdown, wait=True, cancel_futures=True)

    async def _run(self, owner: str, urgent: bool, work: Callable[[], R]) -> R:
        loop, limit = asyncio.get_running_loop(), self._limits.get()
        await limit.acquire(owner, urgent=urgent)
        try:
            future = self._executor.submit(copy_context().run, work)
        except BaseException:
            limit.release(owner)
            raise

        def done(_: "ThreadFuture[R]") -> None:
            with suppress(RuntimeError):  # the loop is closed, and its slots with it
                loop.call_soon_threadsafe(limit.release, owner)

        future.add_done_callback(done)
        return await asyncio.wrap_future(future)


# asyncio's default threads serve all kinds of work in one queue: one owner's large bodies would delay another's files.
# These pools separate the kinds. Like asyncio's own, they exist once per process.

REQUESTS: Final = FairThreads(4, "requests", portion=1)
"""Decodes and checks what clients sent, and encodes large answers: processor time."""

ANSWERS: Final = FairThreads(2, "answers", portion=1)
"""Decodes large pieces of the answers of models: processor time."""

DISK: Final = FairThreads(8, "disk", portion=2)
"""Reads and writes files."""

INDEXING: Final = FairThreads(1, "indexing")
"""Prepares files for the index, in blocks of some ten milliseconds."""

COMPARING: Final = FairThreads(1, "comparing")
"""Compares texts with each other: answers with passages, refusals with requests. At most half a second at a time."""
