"""Reads runs' events from the store for the readers of runs.

Invariant: one owner's readers keep only a few large batches at a time, however many readers there are. The others
wait for a slot, and keep nothing meanwhile.
"""

from typing import Final

from fairness.fair_limits import FairLimit
from store.ports import Store
from telemetry.context import current_owner
from wire.events import Event, total_bytes

__all__ = ["StoredBatch", "StoredEvents"]

_READ_EVENTS: Final = 256
_LARGE_BYTES: Final = 256 * 1024
_LARGE_BATCHES: Final = 8
"""How many larger batches one owner's readers keep at a time. Each can have 10 MB, and a reader keeps its batch until
the client has read it."""


class StoredBatch:
    """The next events of a run. Use it as a context manager: at its end, it drops the events and its slot."""

    def __init__(self, events: list[Event], limit: FairLimit | None = None, owner: str = "") -> None:
        self.events = events
        self._limit = limit
        self._owner = owner

    def __enter__(self) -> None:
        """Keep the events."""

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Drop the events and the slot."""
        self.events = []
        if self._limit is not None:
            limit, self._limit = self._limit, None
            limit.release(self._owner)


class StoredEvents:
    """The events in the store. It belongs to one event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._limit = FairLimit(0, minimum=_LARGE_BATCHES)

    async def next(self, run_id: str, after: int, below: int | None) -> StoredBatch:
        """Read events with numbers above `after`, and below `below` if given; none if there are no more. A batch with
        events must be entered, so that it ends."""
        owner = current_owner()
        events = await self._read(run_id, after, below)
        if total_bytes(events) <= _LARGE_BYTES:
            return StoredBatch(events)
        if self._limit.is_free(owner):
            self._limit.acquire_nowait(owner)
            return StoredBatch(events, self._limit, owner)
        del events
        await self._limit.acquire(owner)
        batch = StoredBatch([], self._limit, owner)
        try:
            batch.events = await self._read(run_id, after, below)
        finally:
            if not batch.events:  # it failed, or the run was deleted meanwhile
                batch.release()
        return batch

    async def _read(self, run_id: str, after: int, below: int | None) -> list[Event]:
        events = await self._store.events(run_id, after=after, limit=_READ_EVENTS)
        return events if below is None else [event for event in events if event.number < below]
