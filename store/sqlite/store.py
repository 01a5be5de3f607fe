"""The store in one SQLite file, which implements `store.ports.Store`.

Invariants: those of the port, tested by `tests/store/test_conformance.py`. This file only combines the parts:
what waiting commits change (`pending`), the SQL of a change (`changes`, `tables`), and the writer and readers
(`database`).
"""

import asyncio
import sqlite3
from asyncio import Future
from collections.abc import Callable, Sequence, Set
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Final

from store.free_space import FreeSpace
from store.ports import (
    Append,
    Change,
    Delete,
    DropCheckpoints,
    EntrySize,
    Hold,
    Insert,
    Kind,
    ListKind,
    Notify,
    Page,
    PageQuery,
    Patch,
    Retract,
    Row,
    RunStart,
    Unfinished,
)
from store.sqlite.changes import Prepared, prepare, write_unchanged_page
from store.sqlite.checkpoints import SqliteCheckpoints
from store.sqlite.database import Engine, LargeRead, Trace
from store.sqlite.deferred_deletes import DeferredDeletes
from store.sqlite.event_log import read_events
from store.sqlite.files import SqliteFileQueries
from store.sqlite.pages import MAX_BYTES, read_page, read_sizes
from store.sqlite.pending import unknown_thread
from store.sqlite.tables import ACTIVE_SQL, DEFERRED, TABLES, UNFINISHED, SqlRow, StoredRow, decode
from store.sqlite.vectors import SqliteVectors
from wire.events import Event
from wire.status import ACTIVE

__all__ = ["SqliteStore", "open_store"]

_BUSY_TIMEOUT_S: Final = 5.0

_STOPPED: Final = frozenset({"cancelling", "cancelled", "expired", "failed"})

_FEW: Final = 16
"""Maximum changes of a commit whose size is counted exactly."""


async def open_store(
    path: str | Path = ":memory:",
    *,
    busy_timeout_s: float = _BUSY_TIMEOUT_S,
    trace: Trace | None = None,
    reserve_bytes: int = 0,
    free_space: FreeSpace | None = None,
    is_shared: bool = False,
) -> "SqliteStore":
    """Open a database file, creating it and its folder if necessary; `":memory:"` is discarded at the end.

    Args:
        busy_timeout_s: How long a batch waits for a lock that a foreign program holds on the file.
        trace: Called with every SQL statement, with its values.
        reserve_bytes: Disk space that is reserved for deletions (see `store.sqlite.disk_reserve`).
        free_space: Limits the index of files on the file's disk; None: only the disk itself limits it.
        is_shared: Whether other processes can open the file, too, all of them sharing it.

    Raises:
        StoreFailed: the file is in use by another process, is newer than this code, or cannot be opened.
    """
    file = None if path == ":memory:" else Path(path)
    engine = await Engine.open(
        file, busy_timeout_s=busy_timeout_s, trace=trace, reserve_bytes=reserve_bytes, is_shared=is_shared
    )
    store = SqliteStore(engine, free_space=free_space)
    store.deferred_deletes.wake()
    return store


class SqliteStore:
    """See `store.ports.Store`, which documents each method."""

    def __init__(self, engine: Engine, *, free_space: FreeSpace | None = None) -> None:
        self.engine = engine
        self.vectors = SqliteVectors(engine, free_space)
        self._checkpoints = SqliteCheckpoints(engine)
        self.file_queries = SqliteFileQueries(engine)
        self.deferred_deletes = DeferredDeletes(engine)

    def commit(
        self, changes: Sequence[Change], *, durable: bool, on_failure: Callable[[], None] | None = None
    ) -> "Future[list[Row]]":
        changed_runs, ended_runs = _runs(changes)
        process = self.engine.fence.process
        prepared = [prepare(change, process) for change in changes]
        if any(isinstance(change, Delete) and change.kind in DEFERRED for change in changes):
            self.deferred_deletes.wake()
        return self.engine.queue(
            [one.run for one in prepared] or [write_unchanged_page],
            touched=self.engine.pending.touched_by(changes),
            durable=durable,
            size=_size(prepared),
            changed_runs=changed_runs,
            ended_runs=ended_runs,
            on_failure=on_failure,
            frees_space=partial(_frees_space, changes, ended_runs),
            owner=_owner_of(changes),
        )

    async def get(
        self, kind: Kind, id: str, owner: str, *, thread_id: str | None = None, run_id: str | None = None
    ) -> StoredRow | None:
        pending = self.engine.pending
        await pending.wait_for(id, thread_id or pending.thread_of(id))
        row = await self.engine.read_rows(owner, _read_row, kind, id, owner, thread_id, run_id)
        return self._learned(row)

    async def page(
        self, kind: ListKind, owner: str, query: PageQuery, *, thread_id: str | None = None, run_id: str | None = None
    ) -> Page[StoredRow]:
        if thread_id is not None:
            await self.engine.pending.wait_for(thread_id, unknown_thread(owner))
        pins = {"thread_id": thread_id, "run_id": run_id}
        page = await self.engine.read_long(owner, read_page, kind, owner, query, pins)
        for row in page.rows:
            self.engine.pending.remember_thread(row)
        return page

    def for_update(self) -> AbstractAsyncContextManager[None]:
        return self.engine.large_reads.held()

    async def active_run(self, thread_id: str, owner: str) -> StoredRow | None:
        await self.engine.pending.wait_for(thread_id, unknown_thread(owner))
        return self._learned(await self.engine.read_rows(owner, _read_active, thread_id, owner))

    async def run_start(self, owner: str, thread_id: str, assistant_id: str | None, entries: int) -> RunStart:
        await self.engine.pending.wait_for(thread_id, assistant_id, unknown_thread(owner))
        found = await self.engine.read_rows(owner, _read_run_start, owner, thread_id, assistant_id, entries)
        for row in (found.active, *found.newest.rows):
            self._learned(row)
        return found

    async def entries_from(
        self, owner: str, thread_id: str, message_id: str, *, limit: int, max_bytes: int
    ) -> list[EntrySize]:
        await self.engine.pending.wait_for(thread_id, unknown_thread(owner))
        return await self.engine.read_long(owner, read_sizes, owner, thread_id, message_id, limit, max_bytes)

    async def unfinished(self, *, due_before: int | None = None) -> list[Unfinished]:
        await self.engine.pending.wait_for_all()
        return await self.engine.read(_read_unfinished, due_before)

    async def events(self, run_id: str, *, after: int, limit: int) -> list[Event]:
        await self.engine.pending.wait_for(run_id)
        return await self.engine.read(read_events, run_id, after, limit)

    @property
    def checkpoints(self) -> SqliteCheckpoints:
        return self._checkpoints

    async def purge(self) -> None:
        await self.deferred_deletes.remove()

    async def close(self) -> None:
        self.deferred_deletes.stop()
        await self.engine.close()
        await self.deferred_deletes.stopped()
        await asyncio.to_thread(self.vectors.close)

    def _learned(self, row: StoredRow | None) -> StoredRow | None:
        if row is not None:
            self.engine.pending.remember_thread(row)
        return row


def _size(prepared: Sequence[Prepared]) -> int | None:
    """Return how many bytes are written; None if the changes can touch any number of rows."""
    size = 0 if len(prepared) <= _FEW else None
    for one in prepared:
        if size is None or one.size is None:
            return None
        size += one.size
    return size


def _runs(changes: Sequence[Change]) -> tuple[frozenset[str], frozenset[str]]:
    """Return the runs that the changes modify, and those that they end or whose checkpoints they drop."""
    changed_runs, ended_runs = set(), set()
    for change in changes:
        match change:
            case Patch("run", id):
                changed_runs.add(id)
                if change.body.get("status", "queued") not in ACTIVE:
                    ended_runs.add(id)
            case Append(run_id) | Retract(run_id):
                changed_runs.add(run_id)
            case DropCheckpoints(run_id):
                ended_runs.add(run_id)
            case Insert(row) if row.kind == "step" and row.run_id is not None:
                changed_runs.add(row.run_id)
    return frozenset(changed_runs), frozenset(ended_runs)


def _owner_of(changes: Sequence[Change]) -> str | None:
    """Return the owner of the changed objects; None if no change names it. A task can change another owner's objects:
    the end of one owner's run starts the next run of the queue."""
    for change in changes:
        match change:
            case Insert(row):
                return row.owner
            case Append() | Retract() | DropCheckpoints() | Notify():
                pass
            case _:
                return change.owner
    return None


def _frees_space(changes: Sequence[Change], ended_runs: Set[str]) -> bool:
    """Return whether a commit frees space, ends a run, only takes one (to end it) or is a barrier: these must succeed
    even on a full disk."""
    if ended_runs or all(isinstance(change, Hold) for change in changes):
        return True
    if any(isinstance(change, Insert) for change in changes):
        return False
    return any(
        isinstance(change, Delete | Retract) or (isinstance(change, Patch) and change.body.get("status") in _STOPPED)
        for change in changes
    )


def _read_row(
    conn: sqlite3.Connection,
    kind: Kind,
    id: str,
    owner: str,
    thread_id: str | None,
    run_id: str | None,
    maximum: int | None = None,
) -> StoredRow | None:
    sql, pins = TABLES[kind].select_one({"thread_id": thread_id, "run_id": run_id})
    found = conn.execute(sql, (id, owner, *pins)).fetchone()
    return _decode_limited(kind, found, maximum)


def _decode_limited(kind: Kind, found: SqlRow | None, maximum: int | None) -> StoredRow | None:
    if found is None:
        return None
    _remaining(maximum, found)
    return decode(kind, found)


def _remaining(maximum: int | None, found: SqlRow) -> int | None:
    """Return about how many bytes of JSON can follow these columns of `Table.row`. Raises LargeRead."""
    if maximum is None:
        return None
    maximum -= len(found[7]) + len(found[8])
    if maximum < 0:
        raise LargeRead
    return maximum


def _read_active(conn: sqlite3.Connection, thread_id: str, owner: str, maximum: int | None = None) -> StoredRow | None:
    table = TABLES["run"]
    sql = f"SELECT {table.row} FROM runs WHERE thread_id = ? AND owner = ? AND {ACTIVE_SQL}{table.visible}"
    found = conn.execute(sql, (thread_id, owner)).fetchone()
    return _decode_limited("run", found, maximum)


def _one(kind: Kind, condition: str) -> str:
    return f"SELECT {TABLES[kind].row}, '{kind}', NULL FROM {TABLES[kind].name} WHERE {condition} AND owner = ?"


_RUN_START: Final = " UNION ALL ".join(
    (
        _one("assistant", "id = ?"),
        _one("thread", "id = ?"),
        _one("run", f"{ACTIVE_SQL} AND thread_id = ?"),
        f"SELECT * FROM ({TABLES['entry'].select_page(PageQuery(), {'thread_id': 'any'})[0]})",
    )
)


def _read_run_start(
    conn: sqlite3.Connection,
    owner: str,
    thread_id: str,
    assistant_id: str | None,
    entries: int,
    maximum: int | None = None,
) -> RunStart:
    """Read with one statement, which sees one state of the file and locks it once instead of four times."""
    values = (assistant_id, owner, thread_id, owner, thread_id, owner, owner, thread_id, entries + 1)
    rows: dict[Kind, list[StoredRow]] = {"assistant": [], "thread": [], "run": []}
    newest: list[StoredRow] = []
    size, has_more = 0, False
    for found in conn.execute(_RUN_START, values):
        maximum = _remaining(maximum, found)
        kind = found[9]
        if kind in rows:
            rows[kind].append(decode(kind, found))
            continue
        long = len(found[7]) + len(found[8])
        if len(newest) == entries or (newest and size + long > MAX_BYTES):
            has_more = True
            break
        newest.append(decode(kind, found))
        size += long
    assistant, thread, active = (next(iter(rows[kind]), None) for kind in ("assistant", "thread", "run"))
    return RunStart(assistant, thread, active, Page(newest, has_more, size))


def _read_unfinished(conn: sqlite3.Connection, due_before: int | None) -> list[Unfinished]:
    due, values = ("", ()) if due_before is None else (" AND expires_at <= ?", (due_before,))
    return [Unfinished(*found) for found in conn.execute(f"{UNFINISHED}{due} ORDER BY seq", values)]
