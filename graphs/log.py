"""The live half of a run's event log: numbers, readers that wait, and the end.

The store holds the whole log; this holds what was published since the run was taken up in this process, so that any
number of readers follow without touching the disk. Numbers are reserved in blocks ahead of use (`ceiling` is kept in
the run's row), so that after a crash numbering goes on above anything that may have been sent.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from wire.errors import ThreadholdError
from wire.events import Event

__all__ = ["BLOCK", "RunLog"]

_new: Final = tuple.__new__

BLOCK: Final = 4096
"""Numbers reserved at a time."""

_BATCH: Final = 256
"""Events that a reader who is behind gets at a time: it must not cost more than they take."""


class RunLog:
    """Events of one run, from number `first` on."""

    def __init__(self, first: int) -> None:
        self.first = first
        self.next = first
        self.ceiling = first + BLOCK
        self.error: ThreadholdError | None = None
        self.closed = False
        self._events: list[Event] = []
        self._waiting: list[asyncio.Future[None]] = []

    def number(self, events: Sequence[tuple[str, bytes]]) -> list[Event]:
        """Give the next numbers to (name, data) pairs; they are not seen by readers yet."""
        # As Event(…) does it, by way of a function of Python's: this is the hot path.
        numbered = [_new(Event, (number, name, data)) for number, (name, data) in enumerate(events, self.next)]
        self.next += len(numbered)
        return numbered

    def publish(self, events: Sequence[Event]) -> None:
        """Show numbered events to every reader."""
        self._events.extend(events)
        self._wake()

    def since(self, after: int) -> list[Event]:
        """Return what is published with a number above `after`, 256 at most; numbers here have no gaps."""
        start = max(0, after + 1 - self.first)
        return self._events[start : start + _BATCH]

    def release(self) -> None:
        """Let the events go: they are all in the store."""
        self.first = self.next
        self._events = []

    def close(self, error: ThreadholdError | None = None) -> None:
        """End the log for this process: the run pauses, has ended, or (with `error`) cannot go on here."""
        self.closed = True
        self.error = error
        self._wake()

    async def grown(self, after: int) -> None:
        """Wait until there is something above `after`, or the log is closed."""
        while not self.closed and after + 1 - self.first >= len(self._events):
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            try:
                await waiter
            finally:
                if waiter in self._waiting:
                    self._waiting.remove(waiter)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)
