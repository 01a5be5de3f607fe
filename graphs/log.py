"""The in-memory part of a run's event log: event numbers, waiting readers, and the end.

The store has the whole log. This part has the newest events that were published since this process took the run over,
so any number of readers can follow without disk reads. Numbers are reserved in blocks before use (the run's row keeps
`ceiling`), so after a crash numbering continues above any number that can have been sent.
"""

import asyncio
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from graphs.fanout import fanout, work_of
from telemetry.context import current_owner
from wire.errors import ThreadholdError
from wire.events import Event, NewEvent

__all__ = ["BLOCK", "RunLog"]

_new: Final = tuple.__new__

BLOCK: Final = 4096
"""Numbers reserved at a time."""

_KEPT: Final = 512
"""Stored events that stay in memory for live readers, some 200 KB of a run's tokens."""

_BATCH: Final = 256
"""Maximum events in one batch for a reader that is behind, so that a batch costs little more than its events."""

_BATCH_BYTES: Final = 1024 * 1024
"""Bytes after which a batch ends. Each reader makes a copy of its batch."""


class RunLog:
    """Events of one run, starting at number `first`."""

    def __init__(self, first: int) -> None:
        self.first = first
        self.next = first
        self.ceiling = first + BLOCK
        self.error: ThreadholdError | None = None
        self.closed = False
        self._events: list[Event] = []
        self._waiting: dict[asyncio.Future[None], None] = {}

    def skip(self, number: int) -> None:
        """Continue the numbers at `number` if they are lower. The store has the events in between."""
        if number > self.next:
            self.first = self.next = number
            self.ceiling = number + BLOCK
            self._events = []
            self._wake()

    def number(self, events: Sequence[NewEvent]) -> list[Event]:
        """Assign the next numbers to events. Readers do not see the events yet."""
        # The same as Event(…) without its constructor in Python: this is the hot path.
        numbered = [_new(Event, (number, name, data)) for number, (name, data) in enumerate(events, self.next)]
        self.next += len(numbered)
        return numbered

    def release_numbers(self, count: int) -> None:
        """Make the last `count` numbers free again; they must not be published."""
        self.next -= count

    def publish(self, events: Sequence[Event]) -> None:
        """Make numbered events visible to every reader."""
        self._events.extend(events)
        self._wake()

    def since(self, after: int) -> list[Event]:
        """Return published events with a number above `after`, 256 at most, fewer if they are large; numbers here have
        no gaps."""
        start = max(0, after + 1 - self.first)
        batch = self._events[start : start + _BATCH]
        if len(batch) > 1:
            for count, size in enumerate(accumulate(len(event.json) for event in batch), 1):
                if size >= _BATCH_BYTES:
                    return batch[:count]
        return batch

    def drop_stored(self, number: int) -> None:
        """Drop events up to `number` from memory, because they are in the store; the newest ones are kept for readers
        that are only a little behind."""
        stored = number + 1 - self.first
        if stored >= 2 * _KEPT:  # not at every call, as the rest of the list is moved
            self._drop(stored - _KEPT)

    def _drop(self, count: int) -> None:
        del self._events[:count]
        self.first += count

    def release(self) -> None:
        """Drop the events from memory: they are all in the store."""
        self.first = self.next
        self._events = []

    def close(self, error: ThreadholdError | None = None) -> None:
        """End the log for this process: the run pauses, has ended, or (with `error`) cannot continue here."""
        self.closed = True
        self.error = error
        self._wake()

    async def wait_to_read(self, events: int) -> None:
        """Wait until a reader can take a batch of so many events; see `graphs.fanout`."""
        await fanout().wait_to_start(current_owner(), self, work_of(events))

    async def wait_for_events(self, after: int) -> None:
        """Wait until there is an event above `after` or the log is closed, and the reader is scheduled."""
        while not self.closed and after + 1 - self.first >= len(self._events):
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting[waiter] = None
            try:
                await waiter
            finally:
                self._waiting.pop(waiter, None)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, {}
        if len(waiting) == 1:  # costs less than what woke it
            (waiter,) = waiting
            if not waiter.done():
                waiter.set_result(None)
        elif waiting:
            fanout().wake(current_owner(), self, waiting)
