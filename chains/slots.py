"""Decides whose request the built-in engine processes next: one request per slot, with fair scheduling by owner.

Invariants: llama.cpp never has more requests than slots, because its own queue does not distinguish owners, and
requests that wait here survive the end of an engine. The requests of one owner are processed oldest first. Where there
are several owners, none of them takes the last free slot while it holds others: an answer can take minutes and is not
interrupted.
"""

import asyncio
from collections import Counter, deque
from dataclasses import dataclass

__all__ = ["Slot", "Slots"]


@dataclass(slots=True)
class _Waiting:
    count: int
    is_exclusive: bool
    granted: "asyncio.Future[Slot]"


class Slot:
    """The slots that a request holds while the engine works on it: one or several."""

    __slots__ = ("_count", "_is_sole", "_mixed", "_owner", "_slots")

    def __init__(self, slots: "Slots", owner: str, count: int) -> None:
        self._slots = slots
        self._owner = owner
        self._count = count
        self._mixed = slots.mixed
        self._is_sole = not slots.is_mixed

    @property
    def is_sole(self) -> bool:
        """Whether no other owner held a slot at any time while this request held its own."""
        return self._is_sole and (not self._count or self._mixed == self._slots.mixed)

    def has_other_owners(self) -> bool:
        """Return whether another owner holds a slot."""
        return self._slots.is_mixed

    def reduce_to(self, count: int) -> None:
        """Release all but `count` slots."""
        rest = self._count - count
        if rest > 0:
            self._is_sole = self.is_sole
            self._count = count
            self._slots.release_slots(self._owner, rest)

    def release(self) -> None:
        """Release the slots to the next waiting request. Further calls change nothing."""
        self.reduce_to(0)


class Slots:
    """The slots of one model, across its successive engines. `per_owner` is the most that one owner can hold."""

    def __init__(self, count: int, *, per_owner: int | None = None) -> None:
        self._total = self._free = count
        self.mixed = 0
        """Slots that were granted while several owners held some."""
        self.per_owner = count if per_owner is None else per_owner
        self._held: Counter[str] = Counter()
        self._lines: dict[str, deque[_Waiting]] = {}
        self._order: deque[str] = deque()
        """Waiting owners, the next one first."""

    def __len__(self) -> int:
        """The number of waiting requests."""
        return sum(map(len, self._lines.values()))

    @property
    def is_mixed(self) -> bool:
        """Whether several owners hold slots."""
        return len(self._held) > 1

    async def acquire(self, owner: str, count: int = 1, *, exclusive: bool = False) -> Slot:
        """Return slots for a request when it is next: `count`, or as many as one owner can hold; with `exclusive`, all
        slots."""
        waiting = _Waiting(
            self._total if exclusive else min(count, self.per_owner),
            exclusive,
            asyncio.get_running_loop().create_future(),
        )
        if owner not in self._lines:
            self._lines[owner] = deque()
            self._order.append(owner)
        if exclusive:
            self._lines[owner].appendleft(waiting)  # it is a retry, and therefore the oldest
        else:
            self._lines[owner].append(waiting)
        self._grant()
        try:
            return await waiting.granted
        except asyncio.CancelledError:
            if waiting.granted.done() and not waiting.granted.cancelled():
                waiting.granted.result().release()  # granted and cancelled at the same moment
            else:
                self._remove(owner, waiting)
                self._grant()  # all others may have waited for this request
            raise

    def release_slots(self, owner: str, count: int) -> None:
        """Take an owner's slots back and grant them to the next request."""
        self._free += count
        self._held[owner] -= count
        if not self._held[owner]:
            del self._held[owner]
        self._grant()

    def _grant(self) -> None:
        while (owner := self._next()) is not None:
            waiting = self._lines[owner][0]
            if waiting.count > self._free:
                return  # others do not overtake a request that is next, or it would never get several slots
            self._free -= waiting.count
            self._held[owner] += waiting.count
            self.mixed += self.is_mixed
            self._remove(owner, waiting)
            if owner in self._lines:
                self._order.remove(owner)
                self._order.append(owner)
            waiting.granted.set_result(Slot(self, owner, waiting.count))

    def _next(self) -> str | None:
        """Return the next owner: the first one that holds fewer slots than an owner can have."""
        for owner in self._order:
            waiting = self._lines[owner][0]
            if waiting.is_exclusive or self._held[owner] + waiting.count <= self.per_owner:
                return owner
        return None

    def _remove(self, owner: str, waiting: _Waiting) -> None:
        self._lines[owner].remove(waiting)
        if not self._lines[owner]:
            del self._lines[owner]
            self._order.remove(owner)
