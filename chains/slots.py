"""Whose request the built-in engine answers next: one request for each slot, and owners take turns for them.

Invariants: llama.cpp never has more requests than slots, so nobody waits in its own queue, which knows no owners, and
who waits here is not lost when an engine ends; of one owner the oldest request goes first.
"""

import asyncio
from collections import deque
from dataclasses import dataclass

__all__ = ["Slot", "Slots"]


@dataclass(slots=True)
class _Waiting:
    count: int
    granted: "asyncio.Future[Slot]"


class Slot:
    """What a request holds while the engine works on it: one slot, or several at once."""

    __slots__ = ("_count", "_slots")

    def __init__(self, slots: "Slots", count: int) -> None:
        self._slots = slots
        self._count = count

    def release(self) -> None:
        """Give it to the next in line. Further calls change nothing."""
        count, self._count = self._count, 0
        if count:
            self._slots.give_back(count)


class Slots:
    """The slots of one model, over all of its engines."""

    def __init__(self, count: int) -> None:
        self._total = self._free = count
        self._lines: dict[str, deque[_Waiting]] = {}
        self._order: deque[str] = deque()
        """Owners who wait, the next one first."""

    def __len__(self) -> int:
        """How many requests wait."""
        return sum(map(len, self._lines.values()))

    async def take(self, owner: str, count: int = 1) -> Slot:
        """Return slots for a request once it is its turn; `count` is limited to all that there are."""
        count = min(count, self._total)
        if not self._lines and self._free >= count:
            self._free -= count
            return Slot(self, count)
        waiting = _Waiting(count, asyncio.get_running_loop().create_future())
        if owner not in self._lines:
            self._lines[owner] = deque()
            self._order.append(owner)
        self._lines[owner].append(waiting)
        try:
            return await waiting.granted
        except asyncio.CancelledError:
            if waiting.granted.done() and not waiting.granted.cancelled():
                waiting.granted.result().release()  # granted and given up in the same moment
            else:
                self._remove(owner, waiting)
                self._grant()  # it may have been the one that all others waited behind
            raise

    def give_back(self, count: int) -> None:
        """Take slots back and grant them to who is next."""
        self._free += count
        self._grant()

    def _grant(self) -> None:
        while self._order:
            owner = self._order[0]
            waiting = self._lines[owner][0]
            if waiting.count > self._free:
                return  # it is its turn: others do not overtake it, or it would never get several at once
            self._free -= waiting.count
            self._remove(owner, waiting)
            if owner in self._lines:
                self._order.rotate(-1)
            waiting.granted.set_result(Slot(self, waiting.count))

    def _remove(self, owner: str, waiting: _Waiting) -> None:
        self._lines[owner].remove(waiting)
        if not self._lines[owner]:
            del self._lines[owner]
            self._order.remove(owner)
