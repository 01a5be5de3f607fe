"""Rewrites words that older versions indexed in the current form, in the background, while searches continue.

Invariant: the words of a passage and the record of which passages are rewritten change in one commit. Therefore each
passage is in the index once, in a known form, and a crash loses at most the commit in progress. Only the full-text
index changes: texts and vectors stay, because folding affects only words and embedders get the original text.
"""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from store.folding import FORM
from store.sqlite.changes import Operation
from store.sqlite.database import Engine
from store.sqlite.fulltext_rows import MAX_BYTES, FulltextRow, delete_rows, fulltext_row, insert_rows, row_bytes

__all__ = ["is_outdated", "reindex"]

_READ: Final = 64
"""Passages that are read between two commits."""

_REWRITTEN: Final = 8
"""Maximum passages in a commit: each costs the writer twice as much as an addition."""

_COMPARED: Final = 8 * MAX_BYTES
"""Bytes of folded text after which no further passage is folded before the commit."""


@dataclass(frozen=True, slots=True)
class _Slice:
    """Passages of a file: their words in the index, the new words, and how many of the file's are done after them."""

    file: int
    form: int
    start: int
    stop: int
    whole: bool
    old: Sequence[FulltextRow]
    new: Sequence[FulltextRow]


def is_outdated(conn: sqlite3.Connection, stores: Sequence[int]) -> bool:
    """Return whether passages of these stores are in an older form."""
    sql = f"SELECT 1 FROM index_files WHERE store = ? AND form < {FORM} AND state = 'whole' LIMIT 1"
    return any(conn.execute(sql, (store,)).fetchone() is not None for store in stores)


async def reindex(engine: Engine, changed: Callable[[], None]) -> AsyncIterator[int]:
    """Rewrite one file after another; yields how many are left, before the first one and after each.

    After each commit, `changed` is called. Then it pauses for as long as the commit took, to let other work run.
    """
    while True:
        left, file = await engine.read(_next_file)
        yield left
        if file is None:
            return
        more = True
        while more:
            since = time.monotonic()
            found = await engine.read(_fold_slice, file)
            if more := found is not None:
                await engine.queue([_rewrite(found)], touched=frozenset())
                changed()
                await asyncio.sleep(time.monotonic() - since)


def _next_file(conn: sqlite3.Connection) -> tuple[int, int | None]:
    sql = f"SELECT count(*), min(seq) FROM index_files WHERE form < {FORM} AND state = 'whole'"
    left, file = conn.execute(sql).fetchone()
    return left, file


def _fold_slice(conn: sqlite3.Connection, file: int) -> _Slice | None:
    """Return the next passages to rewrite; None if the file is done or removed. Called on a reader thread."""
    sql = f"SELECT store, form, refolded FROM index_files WHERE seq = ? AND form < {FORM} AND state = 'whole'"
    found = conn.execute(sql, (file,)).fetchone()
    if found is None:
        return None
    store, form, start = found
    sql = "SELECT seq, text FROM index_chunks WHERE seq >= ? AND seq < ? ORDER BY seq LIMIT ?"
    rows = conn.execute(sql, ((file << 20) + start, (file + 1) << 20, _READ)).fetchall()
    old: list[FulltextRow] = []
    new: list[FulltextRow] = []
    stop = compared = rewritten = 0
    for seq, text in rows:
        before, after = (fulltext_row(store, seq, text, form=each) for each in (form, form + 1))
        stop, compared = stop + 1, compared + row_bytes(after)
        if before != after:
            old.append(before)
            new.append(after)
            rewritten += row_bytes(before) + row_bytes(after)
        if len(new) == _REWRITTEN or rewritten >= MAX_BYTES or compared >= _COMPARED:
            break
    return _Slice(file, form, start, start + stop, stop == len(rows) < _READ, old, new)


def _rewrite(part: _Slice) -> Operation:
    def run(conn: sqlite3.Connection) -> None:
        form, done = (part.form + 1, 0) if part.whole else (part.form, part.stop)
        sql = """UPDATE index_files SET form = ?, refolded = ?
                 WHERE seq = ? AND form = ? AND refolded = ? AND state = 'whole'"""
        if not conn.execute(sql, (form, done, part.file, part.form, part.start)).rowcount:
            return  # removed meanwhile; the removal uses the same row to find the words
        delete_rows(conn, part.old)
        insert_rows(conn, part.new)

    return run
