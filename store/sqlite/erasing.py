"""Erases removed, replaced or incomplete files from the index, in commits of a few passages.

Invariants: a passage, its text and its words are erased in one commit, which first checks that the passage is still
there, because another process can erase the same file. A file's row is erased with its last passage, so a crash loses
at most the commit in progress, and the next start continues.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from fairness.fair_limits import INDEXING
from store.sqlite.changes import Operation
from store.sqlite.database import Engine
from store.sqlite.fulltext_rows import MAX_PASSAGES, FulltextRow, delete_rows, fold_slice
from store.sqlite.vector_slices import FILE_BITS

__all__ = ["erase"]


@dataclass(frozen=True, slots=True)
class _Part:
    """A file, and its next passages (number and text)."""

    store: int
    owner: str
    form: int
    refolded: int
    rows: Sequence[tuple[int, str]]


async def erase(engine: Engine, file: int) -> None:
    """Erase an incomplete file that no task is adding. Does nothing if there is none."""
    while (part := await engine.read(_next_part, file)) is not None:
        words = await INDEXING.run(
            part.owner, fold_slice, part.store, part.rows, form=part.form, refolded=part.refolded
        )
        await engine.queue([_erase(part.store, file, words)], touched=frozenset(), frees_space=lambda: True)


def _next_part(conn: sqlite3.Connection, file: int) -> _Part | None:
    # An incomplete file is never rewritten or completed, so this row does not change until it is erased.
    sql = "SELECT store, owner, form, refolded FROM index_files WHERE seq = ? AND state <> 'whole'"
    found = conn.execute(sql, (file,)).fetchone()
    if found is None:
        return None
    sql = "SELECT seq, text FROM index_chunks WHERE seq >= ? AND seq < ? ORDER BY seq LIMIT ?"
    store, owner, form, refolded = found
    return _Part(store, owner, form, refolded, conn.execute(sql, (*_bounds(file), MAX_PASSAGES)).fetchall())


def _bounds(file: int) -> tuple[int, int]:
    return file << FILE_BITS, (file + 1) << FILE_BITS


def _erase(store: int, file: int, words: Sequence[FulltextRow]) -> Operation:
    """Erase passages that have these words, and the file if it has no others."""

    def run(conn: sqlite3.Connection) -> None:
        sql = "DELETE FROM index_chunks WHERE seq = ?"
        delete_rows(conn, [each for each in words if conn.execute(sql, (each[0],)).rowcount])
        if words:
            conn.execute("DELETE FROM index_vector_slices WHERE seq BETWEEN ? AND ?", (words[0][0], words[-1][0]))
        sql = "SELECT 1 FROM index_chunks WHERE seq >= ? AND seq < ? LIMIT 1"
        if conn.execute(sql, _bounds(file)).fetchone() is None:
            conn.execute("DELETE FROM index_vectors WHERE file = ?", (file,))
            conn.execute("DELETE FROM index_files WHERE seq = ?", (file,))
            sql = "DELETE FROM index_stores WHERE seq = ?1 AND NOT EXISTS (SELECT 1 FROM index_files WHERE store = ?1)"
            conn.execute(sql, (store,))

    return run
