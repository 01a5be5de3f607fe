"""Takes turns among the readers of runs, so that many readers of one run do not stop the event loop.

Invariants: between two passes of the event loop, readers take at most `_WORK` units of work, whatever their number.
Owners take turns, and so do the runs of an owner. A reader that waits gets the events of the meantime as one batch, so
fewer passes serve more events. Without contention nobody waits. Belongs to one event loop.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Final

from telemetry.context import acting_owner
from telemetry.per_loop import PerLoop

__all__ = ["SOME_EVENTS", "Fanout", "fanout"]

_WORK: Final = 16
"""Units of work per pass of the loop; one is a write to one reader, some 50 to 100 microseconds."""

SOME_EVENTS: Final = 16
"""Events of a batch that take as long as a write."""

_Line = deque[tuple["asyncio.Future[None]", int]]
"""Waiting readers of a run, and their work."""


class Fanout:
    """The readers of all runs. Keys stand for the runs; the owner is the acting one."""

    def __init__(self) -> None:
        self._left = _WORK
        self._lines: dict[str, dict[object, _Line]] = {}
        """Waiting readers by owner and run; the owner and the run whose turn is next come first."""
        self._is_scheduled = False

    def wake(self, key: object, waiters: Iterable["asyncio.Future[None]"]) -> None:
        """Complete the futures of a run's readers, the first of them at once."""
        for waiter in waiters:
            if self._left > 0 and not self._lines:
                self._spend(1)
                _complete(waiter)
            else:
                self._append(key, waiter, 1)

    async def turn(self, key: object, events: int) -> None:
        """Wait until a reader of a run can take a batch of so many events."""
        work = 1 + events // SOME_EVENTS
        if self._left > 0 and not self._lines:
            self._spend(work)
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._append(key, waiter, work)
        await waiter

    def _append(self, key: object, waiter: "asyncio.Future[None]", work: int) -> None:
        self._lines.setdefault(acting_owner(), {}).setdefault(key, deque()).append((waiter, work))

    def _spend(self, work: int) -> None:
        self._left -= work
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._pass)

    def _pass(self) -> None:
        """Begin the next pass of the loop. What the last one spent too much is missing in this one."""
        self._left = min(_WORK, self._left + _WORK)
        while self._left > 0 and self._lines:
            waiter, work = self._next()
            if _complete(waiter):
                self._left -= work
        self._is_scheduled = self._left < _WORK or bool(self._lines)
        if self._is_scheduled:
            asyncio.get_running_loop().call_soon(self._pass)

    def _next(self) -> "tuple[asyncio.Future[None], int]":
        """Remove the next reader. Its owner and its run come after all others then."""
        owner = next(iter(self._lines))
        runs = self._lines.pop(owner)
        key = next(iter(runs))
        line = runs.pop(key)
        found = line.popleft()
        if line:
            runs[key] = line
        if runs:
            self._lines[owner] = runs
        return found


_FANOUTS: Final = PerLoop(Fanout)


def fanout() -> Fanout:
    """Return the turns of the running event loop."""
    return _FANOUTS.get()


def _complete(waiter: "asyncio.Future[None]") -> bool:
    """Complete a future; return whether somebody still waits for it."""
    if waiter.done():
        return False
    waiter.set_result(None)
    return True
