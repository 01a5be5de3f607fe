"""Turns changes into operations on the writing connection.

Invariant: `prepare` runs on the event loop and takes a snapshot, so the caller can change its dicts afterwards. The
operation that it returns runs in a transaction on the writing connection, and either makes the whole change or raises
StoreError. Checks and writes share the transaction, so nothing can happen between them.
"""

import sqlite3
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, assert_never

import orjson

from store.ports import (
    Append,
    Change,
    CountUsage,
    Delete,
    DropCheckpoints,
    HeldKind,
    Hold,
    Insert,
    Kind,
    Notify,
    Patch,
    RequireHeld,
    RequireNewest,
    RequireNoActiveRun,
    RequireRow,
    RequireUnchanged,
    Retract,
    Row,
)
from store.sqlite.event_log import append, retract
from store.sqlite.owned_parts import remove_or_defer_parts
from store.sqlite.tables import ACTIVE_SQL, FREE_SQL, TABLES, decode, insert_values, update_values
from store.sqlite.usage_sums import count_usage
from wire.errors import HeldByOther, MissingRow, StaleRow, StaleThread, StatusConflict, StoreError, ThreadBusy

__all__ = ["Operation", "Prepared", "drop_checkpoints", "prepare", "write_unchanged_page"]

Operation = Callable[[sqlite3.Connection], Row | None]
"""A change that is ready to run on the writing connection; returns the row after an Insert or Patch."""


class Prepared(NamedTuple):
    """A change that is ready to run, and how many bytes it writes; None if it can touch any number of
    rows."""

    run: Operation
    size: int | None = None


_Requirement = RequireRow | RequireHeld | RequireUnchanged | RequireNoActiveRun | RequireNewest


def prepare(change: Change, process: int) -> Prepared:
    """Return the operation of a change by this process. Raises TypeError for a body that is not JSON."""
    match change:
        case Insert(row, held):
            return _insert(row, process if held else None)
        case Hold():
            return Prepared(_hold(change, process), 0)
        case Patch():
            return _patch(change)
        case Delete(kind, id, owner, if_exists):
            return Prepared(_delete(kind, id, owner, if_exists=if_exists))
        case Append(run_id, events):
            return Prepared(append(run_id, events), sum([len(event.json) for event in events]))
        case Retract(run_id, object_ids):
            return Prepared(retract(run_id, sorted(object_ids)))
        case DropCheckpoints(run_id):
            return Prepared(drop_checkpoints(run_id))
        case Notify():
            return Prepared(_do_nothing, 0)  # other processes look at the store themselves
        case CountUsage():
            return Prepared(partial(count_usage, change=change), 0)
        case _:
            return Prepared(_require(change, process), 0)


def _require(change: _Requirement, process: int) -> Operation:
    match change:
        case RequireRow(kind, id, owner):
            return _require_row(kind, id, owner)
        case RequireHeld(kind, id, owner):
            return _require_held(kind, id, owner, process)
        case RequireUnchanged():
            return _require_unchanged(change)
        case RequireNoActiveRun(thread_id, owner):
            return _require_no_active_run(thread_id, owner)
        case RequireNewest(thread_id, owner, entry_id):
            return _require_newest(thread_id, owner, entry_id)
        case _:
            assert_never(change)


def _do_nothing(conn: sqlite3.Connection) -> None:
    """See `Notify`."""


def write_unchanged_page(conn: sqlite3.Connection) -> None:
    """Write a page without changing it: without a write, SQLite would not notice that it cannot write."""
    conn.execute(f"PRAGMA user_version = {conn.execute('PRAGMA user_version').fetchone()[0]}")


def drop_checkpoints(run_id: str) -> Operation:
    """Return the removal of a run's LangGraph checkpoints and of its tasks' writes."""

    def run(conn: sqlite3.Connection) -> None:
        conn.execute("DELETE FROM checkpoints WHERE run_id = ?", (run_id,))
        conn.execute("DELETE FROM checkpoint_writes WHERE run_id = ?", (run_id,))

    return run


def _insert(row: Row, holder: int | None) -> Prepared:
    sql = TABLES[row.kind].insert
    body, private = orjson.dumps(row.body), orjson.dumps(row.private)
    values = insert_values(row, body.decode(), private.decode(), holder)
    held = (row.thread_id, row.run_id, row.vector_store_id, row.batch_id, row.file_id)

    def run(conn: sqlite3.Connection) -> Row:
        try:
            added = conn.execute(sql, values).rowcount
        except sqlite3.IntegrityError as error:
            raise _clash(conn, row.kind, row.id, row.thread_id) from error
        if not added:
            raise _missing_parent(conn, row)
        return Row(row.kind, row.id, row.owner, orjson.loads(body), *held[:2], orjson.loads(private), *held[2:])

    return Prepared(run, len(body) + len(private))


def _missing_parent(conn: sqlite3.Connection, row: Row) -> MissingRow:
    """Return the error for the object that a row belongs to and that does not exist."""
    above = [(kind, str(getattr(row, column))) for kind, column in TABLES[row.kind].above]
    for kind, id in above:
        if conn.execute(_exists_sql(kind), (id, row.owner)).fetchone() is None:
            return MissingRow(kind, id)
    return MissingRow(*above[0])


def _exists_sql(kind: Kind) -> str:
    return f"SELECT 1 FROM {TABLES[kind].name} WHERE id = ? AND owner = ?{TABLES[kind].visible}"


def _require_row(kind: Kind, id: str, owner: str) -> Operation:
    sql = _exists_sql(kind)

    def run(conn: sqlite3.Connection) -> None:
        if conn.execute(sql, (id, owner)).fetchone() is None:
            raise MissingRow(kind, id)

    return run


def _patch(change: Patch) -> Prepared:
    kind, id, owner, only_if = change.kind, change.id, change.owner, change.only_if
    select, _ = TABLES[kind].select_one({})
    update = TABLES[kind].update
    body, private = orjson.dumps(change.body), orjson.dumps(change.private)

    def run(conn: sqlite3.Connection) -> Row | None:
        found = conn.execute(select, (id, owner)).fetchone()
        if found is None:
            if change.if_exists:
                return None
            raise MissingRow(kind, id)
        row = decode(kind, found)
        if only_if is not None and row.body.get("status") not in only_if:
            raise StatusConflict(kind, id, str(row.body.get("status")))
        row.body.update(orjson.loads(body))
        row.private.update(orjson.loads(private))
        try:
            conn.execute(update, (*update_values(row), id, owner))
        except sqlite3.IntegrityError as error:
            raise _clash(conn, kind, id, row.thread_id) from error
        return row

    return Prepared(run, len(body) + len(private))


def _hold(change: Hold, process: int) -> Operation:
    kind, id, owner = change.kind, change.id, change.owner
    statuses = sorted(change.only_if)
    table = TABLES[kind]
    found = f"FROM {table.name} WHERE id = ? AND owner = ?{table.visible}"
    take = (
        f"UPDATE {table.name} SET holder = ? WHERE id = ? AND owner = ?{table.visible} "
        f"AND status IN ({', '.join('?' * len(statuses))}) AND ({FREE_SQL} OR holder = ?)"
    )

    def run(conn: sqlite3.Connection) -> None:
        if conn.execute(take, (process, id, owner, *statuses, process)).rowcount:
            return
        status = conn.execute(f"SELECT status {found}", (id, owner)).fetchone()
        if status is None:
            raise MissingRow(kind, id)
        if status[0] not in statuses:
            raise StatusConflict(kind, id, status[0])
        raise HeldByOther(kind, id)

    return run


def _require_held(kind: HeldKind, id: str, owner: str, process: int) -> Operation:
    sql = f"SELECT holder FROM {TABLES[kind].name} WHERE id = ? AND owner = ?{TABLES[kind].visible}"

    def run(conn: sqlite3.Connection) -> None:
        found = conn.execute(sql, (id, owner)).fetchone()
        if found is None:
            raise MissingRow(kind, id)
        if found[0] != process:
            raise HeldByOther(kind, id)

    return run


def _require_unchanged(change: RequireUnchanged) -> Operation:
    kind, id, owner, key = change.kind, change.id, change.owner, change.key
    select, _ = TABLES[kind].select_one({})
    value = orjson.dumps(change.value)

    def run(conn: sqlite3.Connection) -> None:
        found = conn.execute(select, (id, owner)).fetchone()
        if found is None:
            raise MissingRow(kind, id)
        row = decode(kind, found)
        if (row.private if change.is_private else row.body).get(key) != orjson.loads(value):
            raise StaleRow(f"The {kind.replace('_', ' ')} '{id}' has changed since it was read.")

    return run


def _clash(conn: sqlite3.Connection, kind: Kind, id: str, thread_id: str | None) -> StoreError:
    """Return the error for the unique index that refused a row."""
    if kind == "run" and thread_id is not None:
        active = _active_run_id(conn, thread_id)
        if active is not None and active != id:
            return ThreadBusy(thread_id, active)
    article = "an" if kind == "assistant" else "a"
    return StoreError(f"There is {article} {kind.replace('_', ' ')} with id '{id}' already.")


def _active_run_id(conn: sqlite3.Connection, thread_id: str) -> str | None:
    found = conn.execute(f"SELECT id FROM runs WHERE thread_id = ? AND {ACTIVE_SQL}", (thread_id,)).fetchone()
    return None if found is None else str(found[0])


def _delete(kind: Kind, id: str, owner: str, *, if_exists: bool) -> Operation:
    table = TABLES[kind]
    parents = "".join(f"{column}, " for column in table.parents if column != "file_id")
    insert_tombstone = (
        f"INSERT OR REPLACE INTO tombstones (id, kind, owner, {parents}seq) "
        f"SELECT id, ?, owner, {parents}seq FROM {table.name} WHERE id = ? AND owner = ?{table.visible}"
    )
    remove = f"DELETE FROM {table.name} WHERE id = ? AND owner = ?"

    def operation(conn: sqlite3.Connection) -> None:
        if not conn.execute(insert_tombstone, (kind, id, owner)).rowcount:
            if if_exists:
                return
            raise MissingRow(kind, id)
        remove_or_defer_parts(conn, kind, id, owner)
        conn.execute(remove, (id, owner))

    return operation


def _require_no_active_run(thread_id: str, owner: str) -> Operation:
    def run(conn: sqlite3.Connection) -> None:
        if conn.execute("SELECT 1 FROM threads WHERE id = ? AND owner = ?", (thread_id, owner)).fetchone() is None:
            raise MissingRow("thread", thread_id)
        active = _active_run_id(conn, thread_id)
        if active is not None:
            raise ThreadBusy(thread_id, active)

    return run


def _require_newest(thread_id: str, owner: str, entry_id: str | None) -> Operation:
    sql = "SELECT id FROM entries WHERE owner = ? AND thread_id = ? ORDER BY seq DESC LIMIT 1"

    def run(conn: sqlite3.Connection) -> None:
        found = conn.execute(sql, (owner, thread_id)).fetchone()
        if (None if found is None else found[0]) != entry_id:
            raise StaleThread(thread_id)

    return run
