"""Reads one page of a list, limited in rows and in bytes, and the sizes of a thread's entries."""

import sqlite3
from contextlib import closing
from typing import Final

from store.ports import EntrySize, ListKind, Page, PageQuery
from store.sqlite.tables import TABLES, Pins, SqlRow, StoredRow, decode
from wire.errors import InvalidRequest

__all__ = ["MAX_BYTES", "read_page", "read_sizes"]


MAX_BYTES: Final = 4 * 1024 * 1024
"""Maximum characters in a page of several rows. A hundred rows of 10 MB would block other requests for seconds."""


_SIZES: Final = (
    "SELECT kind, id, length(CAST(body AS BLOB)) + length(CAST(private AS BLOB)), seq FROM entries "
    f"WHERE owner = ? AND thread_id = ? AND seq >= ?{TABLES['entry'].visible} ORDER BY seq"
)
"""With `seq` among the columns, SQLite merges the view's two tables in their order: it reads none of them ahead."""
_POSITION: Final = "SELECT seq FROM messages WHERE id = ? AND owner = ? AND thread_id = ?"


def read_page(conn: sqlite3.Connection, kind: ListKind, owner: str, query: PageQuery, pins: Pins) -> Page[StoredRow]:
    """Return the page. Raises InvalidRequest (param `after`/`before`) for a cursor that was never in this list."""
    table = TABLES[kind]
    cursor_sql, cursor_pins = table.select_cursor(pins)
    positions: list[int] = []
    for param, cursor in (("after", query.after), ("before", query.before)):
        if cursor is not None:
            found = conn.execute(cursor_sql, (cursor, owner, *cursor_pins, cursor, owner, *cursor_pins))
            position = found.fetchone()
            if position is None:
                shown = cursor.rpartition("/")[2]
                raise InvalidRequest(f"No {kind.replace('_', ' ')} found with id '{shown}'.", param=param)
            positions.append(position[0])
    sql, values = table.select_page(query, pins)
    rows, size, has_more = _first(conn.execute(sql, [owner, *values, *positions, query.limit + 1]), query.limit)
    if query.before is not None and query.after is None:
        rows.reverse()
        beyond, values = table.select_any_beyond(query.order, pins)
        asked: list[object] = [owner, *values]
        has_more = bool(rows) and conn.execute(beyond, (*asked, rows[-1][-1])).fetchone() is not None
    return Page([decode(row[9], row) for row in rows], has_more, size)


def _first(found: sqlite3.Cursor, limit: int) -> tuple[list[SqlRow], int, bool]:
    """Return the first rows that fit into a page, their characters, and whether there are more."""
    rows: list[SqlRow] = []
    size = 0
    for row in found:
        long = len(row[7]) + len(row[8])  # `body` and `private`
        if len(rows) == limit or (rows and size + long > MAX_BYTES):
            found.close()
            return rows, size, True
        rows.append(row)
        size += long
    return rows, size, False


def read_sizes(
    conn: sqlite3.Connection, owner: str, thread_id: str, message_id: str, limit: int, max_bytes: int
) -> list[EntrySize]:
    """See `store.ports.Store.entries_from`. Reads no further than it returns: SQLite reads a text to measure it."""
    found: list[EntrySize] = []
    position = conn.execute(_POSITION, (message_id, owner, thread_id)).fetchone()
    if position is None:
        return found
    total = 0
    with closing(conn.execute(_SIZES, (owner, thread_id, *position))) as rows:
        for row in rows:
            found.append(EntrySize(*row[:3]))
            if len(found) > limit or total > max_bytes:
                break
            total += found[-1].size
    return found
