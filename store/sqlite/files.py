"""Reads of files and vector stores: lists that `Store.page` does not support, waiting and expired objects, and counts.

Invariant: counts are computed, never stored, so they cannot differ from the rows. `Store.commit` does all writes.
"""

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import Final

import orjson

from store.ports import DUE_AT_ONCE, Expiring, FileTotals, Kind, Page, PageQuery, Row, Whole
from store.sqlite.database import Engine
from store.sqlite.pages import read_page
from store.sqlite.tables import FREE_SQL, TABLES, StoredRow, decode
from telemetry.context import current_owner

__all__ = ["SqliteFileQueries"]

_STILL: Final[dict[Expiring, str]] = {
    "file": "",
    "vector_store": " AND status != 'expired'",
    "upload": " AND status = 'pending'",
}
"""Further conditions for an object that is due and still exists."""

_OLDEST: Final = 1000
"""Maximum waiting files of an owner that are looked through."""

_MAX_ROWS: Final = 500
"""Maximum values in one statement; older SQLites accept 999."""


class SqliteFileQueries:
    """See `FileQueries`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def files(self, owner: str, query: PageQuery, *, purpose: str | None = None) -> Page[StoredRow]:
        return await self._engine.read_long(owner, read_page, "file", owner, query, {"purpose": purpose})

    async def store_files(
        self,
        owner: str,
        query: PageQuery,
        *,
        vector_store_id: str,
        batch_id: str | None = None,
        status: str | None = None,
    ) -> Page[StoredRow]:
        pins = {"vector_store_id": vector_store_id, "batch_id": batch_id, "status": status}
        return await self._engine.read_long(owner, read_page, "vector_store_file", owner, query, pins)

    async def file_totals(self, whole: Whole, ids: Sequence[str]) -> dict[str, FileTotals]:
        return await self._engine.read_long(current_owner(), _file_totals, whole, ids)

    async def waiting(self, limit: int, *, besides: Sequence[Row] = (), full: Collection[str] = ()) -> list[StoredRow]:
        return await self._engine.read(_waiting, self._engine.fence.process, limit, besides, full)

    async def statuses(self, kind: Kind, owner: str, ids: Sequence[str]) -> dict[str, str | None]:
        return await self._engine.read_long(owner, _statuses, kind, owner, ids)

    async def store_files_of(self, file_id: str) -> list[StoredRow]:
        return await self._engine.read(_rows, "vector_store_file", "file_id = ?", file_id)

    async def due(self, kind: Expiring, before: int) -> list[StoredRow]:
        return await self._engine.read(_due, kind, before)

    async def unknown(self, blob_ids: Sequence[str]) -> list[str]:
        return await self._engine.read(_unknown, blob_ids)


def _rows(conn: sqlite3.Connection, kind: Kind, where: str, value: str | int) -> list[StoredRow]:
    table = TABLES[kind]
    found = conn.execute(f"SELECT {table.row} FROM {table.name} WHERE {where}{table.visible}", (value,))
    return [decode(kind, row) for row in found]


def _due(conn: sqlite3.Connection, kind: Expiring, before: int) -> list[StoredRow]:
    table = TABLES[kind]
    where = f"expires_at <= ?{_STILL[kind]}{table.visible}"
    earliest = f"SELECT {table.row} FROM {table.name} WHERE {where} ORDER BY expires_at LIMIT ?"
    found = conn.execute(earliest, (before, DUE_AT_ONCE))
    return [decode(kind, row) for row in found]


def _statuses(conn: sqlite3.Connection, kind: Kind, owner: str, ids: Sequence[str]) -> dict[str, str | None]:
    table = TABLES[kind]
    found: dict[str, str | None] = {}
    for start in range(0, len(ids), _MAX_ROWS):
        asked = ids[start : start + _MAX_ROWS]
        among = f"owner = ? AND id IN ({', '.join('?' * len(asked))}){table.visible}"
        found.update(
            conn.execute(f"SELECT id, json_extract(body, '$.status') FROM {table.name} WHERE {among}", (owner, *asked))
        )
    return found


def _waiting(
    conn: sqlite3.Connection, process: int, limit: int, besides: Sequence[Row], full: Collection[str]
) -> list[StoredRow]:
    table = TABLES["vector_store_file"]
    # Owner by owner, so that the cost does not depend on how many files wait. Files of deleted vector stores are
    # skipped, but only among the oldest: `Ingestion` looks again when they have been removed.
    sql = f"""SELECT seq, id, true{table.visible} FROM {table.name}
              WHERE status = 'in_progress' AND owner = ? AND ({FREE_SQL} OR holder = ?)
               ORDER BY seq LIMIT {_OLDEST}"""
    started: dict[str, set[str]] = {}
    for row in besides:
        started.setdefault(row.owner, set()).add(row.id)
    found: list[tuple[bool, int]] = []
    for owner in _waiting_owners(conn):
        if owner not in full:
            skipped = started.get(owner, set())
            with closing(conn.execute(sql, (owner, process))) as rows:
                seqs = (seq for seq, id, is_visible in rows if is_visible and id not in skipped)
                found += [(owner in started, seq) for seq in islice(seqs, limit)]
    by_seq = f"SELECT {table.row} FROM {table.name} WHERE seq = ?"
    return [decode("vector_store_file", conn.execute(by_seq, (seq,)).fetchone()) for _, seq in sorted(found)[:limit]]


def _waiting_owners(conn: sqlite3.Connection) -> Iterator[str]:
    """Yield the owners of waiting files, each with one step in the index."""
    sql = "SELECT min(owner) FROM vector_store_files WHERE status = 'in_progress'"
    (owner,) = conn.execute(sql).fetchone()
    while owner is not None:
        yield owner
        (owner,) = conn.execute(f"{sql} AND owner > ?", (owner,)).fetchone()


def _file_totals(conn: sqlite3.Connection, whole: Whole, ids: Sequence[str]) -> dict[str, FileTotals]:
    file_totals = {}
    sql = f"SELECT status, COUNT(*), SUM(usage_bytes) FROM vector_store_files WHERE {whole} = ? GROUP BY status"
    for id in ids:
        counted = conn.execute(sql, (id,)).fetchall()
        file_totals[id] = FileTotals({status: count for status, count, _ in counted}, sum(size for *_, size in counted))
    return file_totals


def _unknown(conn: sqlite3.Connection, blob_ids: Sequence[str]) -> list[str]:
    known: set[str] = set()
    for start in range(0, len(blob_ids), _MAX_ROWS):
        asked = blob_ids[start : start + _MAX_ROWS]
        sql = f"SELECT id FROM files WHERE id IN ({', '.join('?' * len(asked))})"
        known.update(id for (id,) in conn.execute(sql, asked))
    for (private,) in conn.execute("SELECT private FROM uploads WHERE status = 'pending'"):
        known.update(orjson.loads(private)["parts"])
    return [id for id in blob_ids if id not in known]
