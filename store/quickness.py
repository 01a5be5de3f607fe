"""How much of the event loop's time the store takes.

Law: statements on pages that are in memory are quicker than the hop to a thread, which hands the interpreter to and fro
at every statement. So they run on the loop, as long as they are quick: one that was slow (a disk that had to be waited
for, a large object) sends all of them to the threads for a while, and of one turn of the loop they take a part.
"""

import time
from asyncio import AbstractEventLoop
from typing import Final

__all__ = ["Quickness"]

_SLOW_S: Final = 0.01
"""What takes longer was not done from memory."""

_REST_S: Final = 1.0
"""So much of a slow disk's time the loop may lose: `_SLOW_S` or one read of it in each of these."""

_TURN_S: Final = 0.002
"""The store's part of a turn of the loop: who reads a thousand rows one by one lets others have theirs."""


class Quickness:
    """Tells whether a call may be made on the loop. Used on the loop only."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._taken_s = 0.0
        self._rests_until = 0.0

    def allows(self) -> bool:
        """Return whether one more call may be made now."""
        return self._taken_s < _TURN_S and (self._rests_until == 0.0 or self._rested())

    def took(self, since: float) -> None:
        """Count a call that began at `since`, of `time.perf_counter`."""
        took_s = time.perf_counter() - since
        if took_s > _SLOW_S:
            self._rests_until = self._loop.time() + _REST_S
        if self._taken_s == 0.0:
            self._loop.call_soon(self._next_turn)
        self._taken_s += took_s

    def _next_turn(self) -> None:
        self._taken_s = 0.0

    def _rested(self) -> bool:
        if self._loop.time() < self._rests_until:
            return False
        self._rests_until = 0.0
        return True
