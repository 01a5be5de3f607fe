"""Schedules work on the event loop fairly by owner, so that no owner's short pieces of work, however many, delay those
of others.

Invariants: in one iteration of the event loop, waiters start at most a fixed amount of work, whatever their number.
Owners alternate, and so do the keys of an owner, which identify what the waiters share. Without contention, no one
waits. An instance belongs to one event loop.
"""

import asyncio
from collections import deque
from collections.abc import Iterable

__all__ = ["LoopScheduler"]

_Queue = deque[tuple["asyncio.Future[None]", int]]
"""Waiters of a key, and their work."""


class LoopScheduler:
    """Starts work on one event loop, at most `work` units per iteration."""

    def __init__(self, work: int) -> None:
        self._work = work
        self._left = work
        self._queues: dict[str, dict[object, _Queue]] = {}
        """Waiters by owner and key; the owner and the key that are next come first."""
        self._is_scheduled = False

    @property
    def is_busy(self) -> bool:
        """Whether new work must wait."""
        return self._left <= 0 or bool(self._queues)

    def wake(self, owner: str, key: object, waiters: Iterable["asyncio.Future[None]"]) -> None:
        """Complete futures, each of which starts one unit of work: immediately up to the limit, the others in turn."""
        for waiter in waiters:
            if self._left > 0 and not self._queues:
                self._count_work(1)
                _complete(waiter)
            else:
                self._append(owner, key, waiter, 1)

    async def wait_to_start(self, owner: str, key: object = None, work: int = 1) -> None:
        """Wait until `work` units of this owner and key can start."""
        if self._left > 0 and not self._queues:
            self._count_work(work)
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._append(owner, key, waiter, work)
        await waiter

    def _append(self, owner: str, key: object, waiter: "asyncio.Future[None]", work: int) -> None:
        self._queues.setdefault(owner, {}).setdefault(key, deque()).append((waiter, work))

    def _count_work(self, work: int) -> None:
        self._left -= work
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._run_iteration)

    def _run_iteration(self) -> None:
        """Start the work of this iteration. Work by which earlier iterations exceeded their limit is subtracted."""
        self._left = min(self._work, self._left + self._work)
        while self._left > 0 and self._queues:
            waiter, work = self._next()
            if _complete(waiter):
                self._left -= work
        self._is_scheduled = self._left < self._work or bool(self._queues)
        if self._is_scheduled:
            asyncio.get_running_loop().call_soon(self._run_iteration)

    def _next(self) -> "tuple[asyncio.Future[None], int]":
        """Remove the next waiter. Its owner and its key then come after all others."""
        owner = next(iter(self._queues))
        keys = self._queues.pop(owner)
        key = next(iter(keys))
        queue = keys.pop(key)
        found = queue.popleft()
        if queue:
            keys[key] = queue
        if keys:
            self._queues[owner] = keys
        return found


def _complete(waiter: "asyncio.Future[None]") -> bool:
    """Complete a future; return whether a task still waits for it."""
    if waiter.done():
        return False
    waiter.set_result(None)
    return True
