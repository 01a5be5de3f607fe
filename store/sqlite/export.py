"""Reads an owner's data for a dump: assistants, and threads with everything in them.

Invariant: a dump contains objects as the API shows them, and nothing of their private parts. Active runs and messages
in progress are left out.
"""

import sqlite3
from collections.abc import Iterator, Sequence

from store.ports import Kind, PageQuery, Row
from store.sqlite.tables import ACTIVE_SQL, TABLES, decode
from wire.json import JsonObject, JsonView
from wire.status import ACTIVE

__all__ = ["count_exported", "count_left_out", "count_under_way", "exported", "owners"]


def owners(connection: sqlite3.Connection) -> list[str]:
    """Return the owners of assistants and threads. Goes from owner to owner, not from row to row."""
    found: set[str] = set()
    for table in ("threads", "assistants"):
        next_one = f"SELECT MIN(owner) FROM {table} WHERE owner > ?"
        owner: str | None = ""
        while (owner := connection.execute(next_one, (owner,)).fetchone()[0]) is not None:
            found.add(owner)
    return sorted(found)


def count_exported(connection: sqlite3.Connection, owner: str) -> int:
    """Return how many objects `exported` yields without `thread_ids`."""
    sql = "SELECT (SELECT COUNT(*) FROM assistants WHERE owner = ?) + (SELECT COUNT(*) FROM threads WHERE owner = ?)"
    count: int = connection.execute(sql, (owner, owner)).fetchone()[0]
    return count


def count_left_out(connection: sqlite3.Connection, owner: str) -> tuple[int, int]:
    """Return how many files and vector stores an owner has; a dump does not contain them."""
    sql = "SELECT (SELECT COUNT(*) FROM files WHERE owner = ?), (SELECT COUNT(*) FROM vector_stores WHERE owner = ?)"
    files, vector_stores = connection.execute(sql, (owner, owner)).fetchone()
    return files, vector_stores


def count_under_way(connection: sqlite3.Connection, owner: str, thread_ids: Sequence[str] = ()) -> int:
    """Return how many runs `exported` leaves out because they are active."""
    sql = f"SELECT COUNT(*) FROM runs WHERE owner = ? AND {ACTIVE_SQL}{TABLES['run'].visible}"
    if not thread_ids:
        count: int = connection.execute(sql, (owner,)).fetchone()[0]
        return count
    each = f"{sql} AND thread_id = ?"
    return sum(int(connection.execute(each, (owner, id)).fetchone()[0]) for id in set(thread_ids))


def exported(connection: sqlite3.Connection, owner: str, thread_ids: Sequence[str] = ()) -> Iterator[JsonView]:
    """Yield assistants, then threads with their `messages`, `items` and `runs`, and runs with their `steps`.

    The oldest come first. An item has the `run_id` of its run, and the id of the message that it comes `after`.

    With `thread_ids`, yields only these threads, in that order, and skips unknown ids. Call it within a `snapshot`.
    """
    if not thread_ids:
        yield from (row.body for row in _rows(connection, "assistant", owner))
        yield from (_whole(connection, thread) for thread in _rows(connection, "thread", owner))
    select, _ = TABLES["thread"].select_one({})
    for id in thread_ids:
        if (found := connection.execute(select, (id, owner)).fetchone()) is not None:
            yield _whole(connection, decode("thread", found))


def _whole(connection: sqlite3.Connection, thread: Row) -> JsonObject:
    runs = [row for row in _rows(connection, "run", thread.owner, thread.id) if row.body["status"] not in ACTIVE]
    steps: dict[str | None, list[JsonView]] = {row.id: [] for row in runs}
    for row in _rows(connection, "step", thread.owner, thread.id):
        if row.run_id in steps:
            steps[row.run_id].append(row.body)
    messages: list[JsonView] = []
    items: list[JsonObject] = []
    for row in _entries(connection, thread):
        if row.kind == "message" and row.body["status"] != "in_progress":
            messages.append(row.body)
        elif row.kind == "item" and (row.run_id is None or row.run_id in steps):
            items.append({**row.body, "run_id": row.run_id, "after": messages[-1]["id"] if messages else None})
    return {
        **thread.body,
        "messages": messages,
        **({"items": items} if items else {}),
        "runs": [{**row.body, "steps": steps[row.id]} for row in runs],
    }


def _entries(connection: sqlite3.Connection, thread: Row) -> Iterator[Row]:
    sql, values = TABLES["entry"].select_page(PageQuery(order="asc"), {"thread_id": thread.id})
    return (decode(found[9], found) for found in connection.execute(sql, (thread.owner, *values, -1)))


def _rows(connection: sqlite3.Connection, kind: Kind, owner: str, thread_id: str | None = None) -> Iterator[Row]:
    table = TABLES[kind]
    where, values = table.where({"thread_id": thread_id})
    sql = f"SELECT {table.row} FROM {table.name} WHERE owner = ?{where} ORDER BY seq"
    return (decode(kind, found) for found in connection.execute(sql, (owner, *values)))
