"""The rows that belong to an object, and their removal."""

import sqlite3
import time
from typing import Final, NamedTuple

from store.ports import Kind
from store.sqlite.tables import DEFERRED

__all__ = ["remove_or_defer_parts", "remove_parts"]

_ROWS: Final = 16
"""Rows that are removed between two checks of the time."""


class _Part(NamedTuple):
    """A table whose rows belong to an object, the column that names the object, and the rows' own key."""

    table: str
    column: str
    key: str = "seq"
    kind: Kind | None = None
    """The kind of the rows, if they have parts themselves."""


_PARTS: Final[dict[Kind, tuple[_Part, ...]]] = {
    "thread": (
        _Part("runs", "thread_id", kind="run"),
        _Part("steps", "thread_id"),
        _Part("messages", "thread_id"),
        _Part("items", "thread_id"),
        _Part("tombstones", "thread_id", "id, kind"),
    ),
    "run": (
        _Part("events", "run_id", "run_id, number"),
        _Part("checkpoints", "run_id", "rowid"),
        _Part("checkpoint_writes", "run_id", "rowid"),
        _Part("steps", "run_id"),
    ),
    "file": (_Part("vector_store_files", "file_id"),),
    "vector_store": (
        _Part("vector_store_files", "vector_store_id"),
        _Part("file_batches", "vector_store_id"),
        _Part("tombstones", "vector_store_id", "id, kind"),
    ),
}


def remove_or_defer_parts(conn: sqlite3.Connection, kind: Kind, id: str, owner: str) -> None:
    """Remove the parts of an object that is being deleted. If there can be many, `store.sqlite.deferred_deletes` does
    it."""
    if kind in DEFERRED:
        conn.execute("INSERT OR IGNORE INTO remains (kind, id, owner) VALUES (?, ?, ?)", (kind, id, owner))
    else:
        remove_parts(conn, kind, id, until=float("inf"))


def remove_parts(conn: sqlite3.Connection, kind: Kind, id: str, *, until: float) -> bool:
    """Remove an object's parts until `until` (`time.perf_counter`) has passed; return whether none is left.

    Each call removes at least some.
    """
    for part in _PARTS.get(kind, ()):
        some = f"FROM {part.table} WHERE {part.column} = ? LIMIT {_ROWS}"
        more = True
        while more:
            if part.kind is None:
                # By row value, because not every SQLite is compiled with `DELETE ... LIMIT`.
                sql = f"DELETE FROM {part.table} WHERE ({part.key}) IN (SELECT {part.key} {some})"
                more = conn.execute(sql, (id,)).rowcount == _ROWS
            else:
                found = conn.execute(f"SELECT id {some}", (id,)).fetchall()
                more = len(found) == _ROWS
                for (child,) in found:
                    if not remove_parts(conn, part.kind, child, until=until):
                        return False
                    conn.execute(f"DELETE FROM {part.table} WHERE id = ?", (child,))
            if time.perf_counter() > until:
                return False
    return True
