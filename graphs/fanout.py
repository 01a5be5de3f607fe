"""Takes turns among the readers of runs, so that many readers of one run do not stop the event loop.

Invariants: between two passes of the event loop, readers take at most `_WORK` units of work, whatever their number.
The runs take turns. A reader that waits gets the events of the meantime as one batch, so fewer passes serve more
events. Without contention nobody waits. Belongs to one event loop.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Final
from weakref import WeakKeyDictionary

__all__ = ["SOME_EVENTS", "Fanout", "fanout"]

_WORK: Final = 16
"""Units of work per pass of the loop; one is a write to one reader, some 50 to 100 microseconds."""

SOME_EVENTS: Final = 16
"""Events of a batch that take as long as a write."""


class Fanout:
    """The readers of all runs. Keys stand for the runs."""

    def __init__(self) -> None:
        self._left = _WORK
        self._lines: dict[object, deque[tuple[asyncio.Future[None], int]]] = {}
        """Waiting readers and their work by run, the run whose turn is next first."""
        self._is_scheduled = False

    def wake(self, key: object, waiters: Iterable["asyncio.Future[None]"]) -> None:
        """Complete the futures of a run's readers, the first of them at once."""
        for waiter in waiters:
            if self._left > 0 and not self._lines:
                self._spend(1)
                _complete(waiter)
            else:
                self._lines.setdefault(key, deque()).append((waiter, 1))

    async def turn(self, key: object, events: int) -> None:
        """Wait until a reader of a run can take a batch of so many events."""
        work = 1 + events // SOME_EVENTS
        if self._left > 0 and not self._lines:
            self._spend(work)
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(key, deque()).append((waiter, work))
        await waiter

    def _spend(self, work: int) -> None:
        self._left -= work
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._pass)

    def _pass(self) -> None:
        """Begin the next pass of the loop. What the last one spent too much is missing in this one."""
        self._left = min(_WORK, self._left + _WORK)
        while self._left > 0 and self._lines:
            key = next(iter(self._lines))
            line = self._lines.pop(key)
            waiter, work = line.popleft()
            if _complete(waiter):
                self._left -= work
            if line:
                self._lines[key] = line  # behind all others
        self._is_scheduled = self._left < _WORK or bool(self._lines)
        if self._is_scheduled:
            asyncio.get_running_loop().call_soon(self._pass)


_FANOUTS: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, Fanout]] = WeakKeyDictionary()


def fanout() -> Fanout:
    """Return the turns of the running event loop."""
    loop = asyncio.get_running_loop()
    found = _FANOUTS.get(loop)
    if found is None:
        found = _FANOUTS[loop] = Fanout()
    return found


def _complete(waiter: "asyncio.Future[None]") -> bool:
    """Complete a future; return whether somebody still waits for it."""
    if waiter.done():
        return False
    waiter.set_result(None)
    return True
