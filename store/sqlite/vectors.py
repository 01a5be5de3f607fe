"""The index in the store's SQLite file: `store.ports.Vectors` with FTS5 (words) and exact cosines (meaning).

Invariants: a file is added and removed in slices of a few chunks, each in a commit of its own, so that the writer
thread is never busy for long. No search sees a file before its last slice is added, or once its removal has begun. A
search sees one state of the file (a read transaction). Every statement compares the owner, or a number that was read
with it.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Final

import numpy as np
import orjson

from store.folding import FORM
from store.free_space import Room
from store.ports import Chunk, Found, Query
from store.sqlite.changes import Operation
from store.sqlite.database import Engine
from store.sqlite.matrices import STORED
from store.sqlite.reindexing import reindex, stored_words
from store.sqlite.search import Lookup
from telemetry.blocks import cut_blocks
from telemetry.shares import INDEXING
from wire.errors import Missing, StoreError
from wire.filters import Attributes

__all__ = ["SqliteVectors"]

_SLICE: Final = 16
_SLICE_CHARS: Final = 64 * 1024
"""Maximum chunks per commit, and their characters: about 20 ms of the writer thread, mostly for the full-text index."""

_PACKED: Final = 1024
"""Vectors that are packed before other threads can run again."""

_GROWTH: Final = 2
"""Bytes of the index per byte of text or vectors, a rough upper bound."""

_MAX_CHUNKS: Final = 1 << 20
"""Maximum chunks of a file: a chunk's number has 20 bits for its index."""


@dataclass(eq=False, slots=True)
class _Numbers:
    """The numbers of a file that is being added, and of its store; known once its first commit has run."""

    store: int = 0
    file: int | None = None


class SqliteVectors:
    """See `store.ports.Vectors`, which documents each method."""

    def __init__(self, engine: Engine, room: Room | None = None) -> None:
        self._engine = engine
        self._room = room
        self._lookup = Lookup()
        self._adding: set[_Numbers] = set()
        self._tidying = asyncio.Lock()

    async def add(
        self,
        owner: str,
        vector_store_id: str,
        file_id: str,
        chunks: Sequence[Chunk],
        *,
        model: str | None,
        attributes: Attributes | None = None,
    ) -> None:
        matrix, dimensions = await INDEXING.run(owner, _pack, chunks, model)
        made_by = None if matrix is None else model
        values = (file_id, owner, made_by, dimensions, len(chunks), orjson.dumps(attributes or {}).decode())
        numbers = _Numbers()
        self._adding.add(numbers)
        size = _GROWTH * (sum(len(chunk.text) for chunk in chunks) + len(matrix or b""))
        try:
            async with nullcontext() if self._room is None else self._room.claimed(size):
                await self._commit(_begin(numbers, vector_store_id, (*values, self._engine.fence.process)))
                for some in cut_blocks(
                    chunks, lambda chunk: len(chunk.text), max_items=_SLICE, max_length=_SLICE_CHARS
                ):
                    await self._commit(await INDEXING.run(owner, _write, owner, numbers, file_id, some))
                await self._commit(_finish(numbers, file_id, owner, matrix), durable=True)
        finally:
            self._adding.discard(numbers)

    async def remove(self, owner: str, vector_store_id: str, file_id: str | None = None) -> None:
        await self._commit(_remove(owner, vector_store_id, file_id), durable=True, relieves=True)

    async def set_attributes(self, owner: str, vector_store_id: str, file_id: str, attributes: Attributes) -> None:
        written = orjson.dumps(attributes).decode()

        def run(conn: sqlite3.Connection) -> None:
            store = _store(conn, owner, vector_store_id)
            sql = "UPDATE index_files SET attributes = ? WHERE store = ? AND file_id = ? AND state = 'whole'"
            if store is None or not conn.execute(sql, (written, store, file_id)).rowcount:
                raise Missing("vector store file", file_id)
            _revise(conn, store)

        await self._commit(run, durable=True)

    async def tidy(self) -> None:
        async with self._tidying:
            await self._engine.read(self._lookup.drop_deleted)
            mine = self._engine.fence.process
            theirs = "holder <> ? AND holder IN (SELECT id FROM processes)"
            sql = f"""SELECT seq, state FROM index_files
                      WHERE state <> 'whole' AND (state = 'gone' OR holder IS NULL OR NOT ({theirs})) ORDER BY seq"""
            for file, state in await self._engine.read(lambda conn: conn.execute(sql, (mine,)).fetchall()):
                if state == "gone" or all(numbers.file not in (file, None) for numbers in self._adding):
                    await self._clear(file)

    async def refresh(self) -> AsyncIterator[int]:
        async for left in reindex(self._engine, self._lookup.forget_counts):
            yield left

    async def search(self, owner: str, vector_store_ids: Sequence[str], query: Query) -> Found:
        return await self._engine.read_long(owner, self._lookup.search, owner, tuple(vector_store_ids), query)

    async def chunks(self, owner: str, vector_store_id: str, file_id: str) -> list[Chunk]:
        return await self._engine.read_long(owner, self._lookup.chunks, owner, vector_store_id, file_id)

    async def models(self, owner: str, vector_store_id: str) -> frozenset[str | None]:
        return await self._engine.read_long(owner, self._lookup.models, owner, vector_store_id)

    def close(self) -> None:
        """Release what is held besides the engine. Call it when the engine is closed."""
        self._lookup.close()

    async def _clear(self, file: int) -> None:
        more = [True]
        while more[0]:
            await self._commit(_erase(file, more), relieves=True)

    async def _commit(self, operation: Operation, *, durable: bool = False, relieves: bool = False) -> None:
        await self._engine.queue([operation], touches=frozenset(), durable=durable, relieves=lambda: relieves)


def _pack(chunks: Sequence[Chunk], model: str | None) -> tuple[bytes | None, int | None]:
    """Return the vectors as one block, and their length. Raises StoreError if their lengths differ."""
    if len(chunks) > _MAX_CHUNKS:
        raise StoreError(f"The file has {len(chunks)} chunks; at most {_MAX_CHUNKS} are allowed.")
    if [chunk.index for chunk in chunks] != list(range(len(chunks))):
        raise StoreError("The file's chunks are not numbered from 0 without gaps.")
    vectors = [chunk.vector for chunk in chunks if chunk.vector is not None]
    if model is None or not vectors:
        return None, None
    lengths = sorted({len(vector) for vector in vectors})
    if len(lengths) > 1 or len(vectors) < len(chunks):
        raise StoreError(
            f"{len(vectors)} of {len(chunks)} chunks have vectors, of the lengths {lengths}; all need one."
        )
    packed = []
    for start in range(0, len(vectors), _PACKED):
        block = np.asarray(vectors[start : start + _PACKED], dtype=np.float32)
        block /= np.maximum(np.linalg.norm(block, axis=1, keepdims=True), 1e-12)
        packed.append(block.astype(STORED).tobytes())
    return b"".join(packed), lengths[0]


# --- operations on the writer's thread ----------------------------------------------------------------------------


def _store(conn: sqlite3.Connection, owner: str, vector_store_id: str) -> int | None:
    sql = "SELECT seq FROM index_stores WHERE vector_store_id = ? AND owner = ? AND hidden = 0"
    found = conn.execute(sql, (vector_store_id, owner)).fetchone()
    return None if found is None else found[0]


def _revise(conn: sqlite3.Connection, store: int) -> None:
    conn.execute("UPDATE index_stores SET revision = revision + 1 WHERE seq = ?", (store,))


def _begin(
    numbers: _Numbers, vector_store_id: str, values: tuple[str, str, str | None, int | None, int, str, int]
) -> Operation:
    """Insert the row of a file that is being added, and set its `numbers`."""
    _, owner, model, dimensions, *_ = values

    def run(conn: sqlite3.Connection) -> None:
        sql = "SELECT dimensions FROM index_files WHERE owner = ? AND model = ? AND dimensions <> ? AND state = 'whole'"
        other = conn.execute(sql, (owner, model, dimensions)).fetchone() if model is not None else None
        if other is not None:
            raise StoreError(
                f"The vectors of `{model}` have {dimensions} numbers, but those that are stored have {other[0]}: "
                "two models share that name. Give the new one another name, or remove the old files."
            )
        sql = "INSERT OR IGNORE INTO index_stores (vector_store_id, owner, revision) VALUES (?, ?, 0)"
        conn.execute(sql, (vector_store_id, owner))
        store = _store(conn, owner, vector_store_id)
        if store is None:  # deleted, while its files are still being removed
            raise Missing("vector store", vector_store_id)
        numbers.store = store
        sql = """INSERT INTO index_files
                 (store, form, state, file_id, owner, model, dimensions, chunks, attributes, holder)
                 VALUES (?, ?, 'adding', ?, ?, ?, ?, ?, ?, ?)"""
        numbers.file = conn.execute(sql, (numbers.store, FORM, *values)).lastrowid

    return run


def _check(conn: sqlite3.Connection, numbers: _Numbers, file_id: str) -> int:
    sql = "SELECT seq FROM index_files WHERE seq = ? AND state = 'adding'"
    found: tuple[int] | None = conn.execute(sql, (numbers.file,)).fetchone()
    if found is None:
        raise Missing("vector store file", file_id)
    return found[0]


def _write(owner: str, numbers: _Numbers, file_id: str, chunks: Sequence[Chunk]) -> Operation:
    first = (numbers.file or 0) << 20
    rows = [(first + chunk.index, owner, chunk.start, chunk.end, chunk.text) for chunk in chunks]
    words = stored_words(numbers.store, [(seq, text) for seq, _, _, _, text in rows], form=FORM, refolded=0)

    def run(conn: sqlite3.Connection) -> None:
        _check(conn, numbers, file_id)
        conn.executemany("INSERT INTO index_chunks (seq, owner, start, stop, text) VALUES (?, ?, ?, ?, ?)", rows)
        conn.executemany("INSERT INTO index_words (rowid, store, text) VALUES (?, ?, ?)", words)

    return run


def _finish(numbers: _Numbers, file_id: str, owner: str, matrix: bytes | None) -> Operation:
    def run(conn: sqlite3.Connection) -> None:
        file = _check(conn, numbers, file_id)
        sql = "UPDATE index_files SET state = 'gone' WHERE store = ? AND file_id = ? AND state = 'whole'"
        conn.execute(sql, (numbers.store, file_id))
        if matrix is not None:
            conn.execute("INSERT INTO index_vectors (file, owner, vectors) VALUES (?, ?, ?)", (file, owner, matrix))
        conn.execute("UPDATE index_files SET state = 'whole' WHERE seq = ?", (file,))
        _revise(conn, numbers.store)

    return run


def _remove(owner: str, vector_store_id: str, file_id: str | None) -> Operation:
    """Hide the file or store. The row of an emptied store is kept: words of files not yet erased have its number."""

    def run(conn: sqlite3.Connection) -> None:
        store = _store(conn, owner, vector_store_id)
        if store is None:
            return
        sql, values = "UPDATE index_files SET state = 'gone' WHERE store = ?", [store]
        if file_id is None:
            conn.execute(sql, values)
        else:
            conn.execute(f"{sql} AND file_id = ?", (*values, file_id))
        _revise(conn, store)

    return run


def _erase(file: int, more: list[bool]) -> Operation:
    """Erase one slice of an incomplete file, and the file with its last slice; `more` is set to whether any is left."""

    def run(conn: sqlite3.Connection) -> None:
        more[0] = False
        sql = "SELECT store, form, refolded FROM index_files WHERE seq = ? AND state <> 'whole'"
        found = conn.execute(sql, (file,)).fetchone()
        if found is None:
            return
        store, form, refolded = found
        bounds = (file << 20, (file + 1) << 20)
        sql = "SELECT seq, text FROM index_chunks WHERE seq >= ? AND seq < ? ORDER BY seq LIMIT ?"
        rows = conn.execute(sql, (*bounds, _SLICE)).fetchall()
        sql = "INSERT INTO index_words (index_words, rowid, store, text) VALUES ('delete', ?, ?, ?)"
        conn.executemany(sql, stored_words(store, rows, form=form, refolded=refolded))
        conn.executemany("DELETE FROM index_chunks WHERE seq = ?", [(seq,) for seq, _ in rows])
        more[0] = len(rows) == _SLICE
        if not more[0]:
            conn.execute("DELETE FROM index_vectors WHERE file = ?", (file,))
            conn.execute("DELETE FROM index_files WHERE seq = ?", (file,))
            sql = "DELETE FROM index_stores WHERE seq = ?1 AND NOT EXISTS (SELECT 1 FROM index_files WHERE store = ?1)"
            conn.execute(sql, (store,))

    return run
