"""The log of a run's events in the database: each row is a block of events that were stored together.

Invariants: the numbers in a block are consecutive, from `number` to `last`. `json` has one line for each event
(compactly encoded JSON has no line ends). `name` has one line for each event, too, or one name for all. Rows from
versions without blocks have no `last`, and one event.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Final

from store.sqlite.tables import TABLES
from wire.errors import MissingRow, StoreError
from wire.events import Event

__all__ = ["append", "read_events", "retract"]

_MAX_EVENTS: Final = 256
"""Maximum events of a block, and of a reader's request."""

_MAX_BYTES: Final = 1024 * 1024
"""Bytes after which a block ends, and the answer to a reader; one event can have more. A run with 9 MB of functions has
them in each event about the run, and can have sixty of these."""

_VISIBLE: Final = TABLES["run"].visible
_INSERT: Final = (
    "INSERT INTO events (run_id, number, last, owner, name, json) "
    f"SELECT id, ?, ?, owner, ?, CAST(? AS TEXT) FROM runs WHERE id = ?{_VISIBLE} AND coalesce("
    "(SELECT coalesce(last, number) FROM events WHERE run_id = ? AND number <= ? ORDER BY number DESC LIMIT 1), -1) < ?"
)
_SELECT: Final = "SELECT number, name, CAST(json AS BLOB) FROM events WHERE run_id = ? "
_FROM: Final = (
    f"AND EXISTS (SELECT 1 FROM runs WHERE id = ?{_VISIBLE}) "
    "AND number >= coalesce((SELECT max(number) FROM events WHERE run_id = ? AND number <= ?), 0) ORDER BY number"
)

Block = tuple[int, int, str, bytes]
"""First and last number, names, data."""


def append(run_id: str, events: Sequence[Event]) -> Callable[[sqlite3.Connection], None]:
    """Return a function that adds events to a run's log. It raises MissingRow if the run does not exist, and StoreError
    if an event's number is already in the log."""
    rows = [(first, last, names, data, run_id, run_id, last, first) for first, last, names, data in _blocks(events)]

    def run(conn: sqlite3.Connection) -> None:
        for values in rows:
            if conn.execute(_INSERT, values).rowcount:
                continue
            if conn.execute(f"SELECT 1 FROM runs WHERE id = ?{_VISIBLE}", (run_id,)).fetchone() is None:
                raise MissingRow("run", run_id)
            raise StoreError(f"The log of the run '{run_id}' has an event with one of these numbers.")

    return run


def retract(run_id: str, object_ids: Sequence[str]) -> Callable[[sqlite3.Connection], None]:
    """Return the removal of all events whose data `id` is one of these. Reads the whole log, block by block, but only
    after a crash."""
    gone = frozenset(object_ids)

    def run(conn: sqlite3.Connection) -> None:
        for (number,) in conn.execute("SELECT number FROM events WHERE run_id = ?", (run_id,)).fetchall():
            number, name, data = conn.execute(_SELECT + "AND number = ?", (run_id, number)).fetchone()
            events = list(_unpacked(number, name, data))
            kept = [event for event in events if event.data().get("id") not in gone]
            if len(kept) < len(events):
                conn.execute("DELETE FROM events WHERE run_id = ? AND number = ?", (run_id, number))
                append(run_id, kept)(conn)

    return run


def read_events(conn: sqlite3.Connection, run_id: str, after: int, limit: int) -> list[Event]:
    """Return the next events with numbers above `after`, in order: up to `limit`, fewer if they are large; none if
    there are no more."""
    found: list[Event] = []
    size = 0
    for number, name, data in conn.execute(_SELECT + _FROM, (run_id, run_id, run_id, after + 1)):
        for event in _unpacked(number, name, data):
            if event.number <= after:
                continue
            found.append(event)
            size += len(event.json)
            if len(found) >= limit or size >= _MAX_BYTES:  # a block of an older version can have any size
                return found
    return found


def _blocks(events: Sequence[Event]) -> Iterator[Block]:
    """Yield the events as blocks, which end at a gap in the numbers, or when they are full."""
    start = 0
    while start < len(events):
        block = _first_bytes(events[start : start + _MAX_EVENTS])
        if block[-1].number - block[0].number != len(block) - 1:  # rare
            gaps = (at for at, event in enumerate(block) if event.number - at != block[0].number)
            block = block[: next(gaps)]
        yield _packed(block)
        start += len(block)


def _first_bytes(events: Sequence[Event]) -> Sequence[Event]:
    """Return the first events, up to the one with which their size reaches `_MAX_BYTES`."""
    for count, size in enumerate(accumulate(len(event.json) for event in events), 1):
        if size >= _MAX_BYTES:
            return events[:count]
    return events


def _packed(events: Sequence[Event]) -> Block:
    names = {event.name for event in events}
    name = names.pop() if len(names) == 1 else "\n".join(event.name for event in events)
    data = b"\n".join([event.json for event in events])
    if data.count(b"\n") != len(events) - 1:
        raise StoreError("An event's data has a line end.")
    return events[0].number, events[-1].number, name, data


def _unpacked(number: int, name: str, data: bytes) -> Iterator[Event]:
    lines = data.split(b"\n")
    names = name.split("\n") if "\n" in name else [name] * len(lines)
    return map(Event, range(number, number + len(lines)), names, lines)
