"""The index in the store's SQLite file: `store.ports.Vectors` with FTS5 (words) and exact cosines (meaning).

Invariants: a file is added and removed in slices of a few chunks with their vectors, each in a commit of its own, so
that the writer thread is never busy for long, and memory does not depend on the size of a file. No search sees a file
before its last slice is added, or once its removal has begun. A search sees one state of the file (a read transaction).
Every statement compares the owner, or a number that was read with it.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Final

import orjson

from fairness.fair_limits import INDEXING
from fairness.work_blocks import split_into_blocks
from store.folding import FORM
from store.free_space import FreeSpace
from store.ports import Chunk, Found, Query
from store.sqlite.changes import Operation
from store.sqlite.database import Engine
from store.sqlite.erasing import erase
from store.sqlite.fulltext_rows import MAX_PASSAGES, fold_slice, insert_rows
from store.sqlite.reindexing import reindex
from store.sqlite.search import IndexSearch
from store.sqlite.vector_slices import FILE_BITS, pack
from wire.errors import MissingRow, StoreError
from wire.filters import Attributes

__all__ = ["SqliteVectors"]

_SLICE_WEIGHT: Final = 64 * 1024
"""Maximum characters and numbers of the chunks that are prepared together."""

_GROWTH: Final = 3
_GROWTH_OTHER: Final = 6
"""Bytes that the file grows by per byte of text in ASCII, and of other text: rough upper bounds."""

_MAX_CHUNKS: Final = 1 << FILE_BITS
"""Maximum chunks of a file."""


@dataclass(eq=False, slots=True)
class _Adding:
    """A file that is being added: what is known of it so far."""

    file_id: str
    owner: str
    model: str | None
    store: int = 0
    file: int | None = None
    """The numbers of store and file, known once the first commit has run."""
    dimensions: int | None = None
    """The length of the vectors, once the first chunk is known."""
    chunks: int = 0


class SqliteVectors:
    """See `store.ports.Vectors`, which documents each method."""

    def __init__(self, engine: Engine, free_space: FreeSpace | None = None) -> None:
        self._engine = engine
        self._free_space = free_space
        self._lookup = IndexSearch()
        self._adding: set[_Adding] = set()
        self._tidying = asyncio.Lock()

    async def add(
        self,
        owner: str,
        vector_store_id: str,
        file_id: str,
        chunks: Sequence[Chunk] | AsyncIterable[Sequence[Chunk]],
        *,
        model: str | None,
        attributes: Attributes | None = None,
        total: int | None = None,
    ) -> None:
        adding = _Adding(file_id, owner, model)
        self._adding.add(adding)
        try:
            await self._commit(_begin(adding, vector_store_id, attributes or {}, self._engine.fence.process))
            rest: Sequence[Chunk] = ()
            async for block in _blocks(chunks):
                slices = list(
                    split_into_blocks([*rest, *block], _weight, max_items=MAX_PASSAGES, max_length=_SLICE_WEIGHT)
                )
                rest = slices.pop() if slices else ()  # it can be filled from the next block
                await self._write(adding, slices, total)
            await self._write(adding, [rest], total)
            await self._commit(_finish(adding), durable=True)
        finally:
            self._adding.discard(adding)

    async def remove(self, owner: str, vector_store_id: str, file_id: str | None = None) -> None:
        await self._commit(_remove(owner, vector_store_id, file_id), durable=True, frees_space=True)

    async def set_attributes(self, owner: str, vector_store_id: str, file_id: str, attributes: Attributes) -> None:
        written = orjson.dumps(attributes).decode()

        def run(conn: sqlite3.Connection) -> None:
            store = _store(conn, owner, vector_store_id)
            sql = "UPDATE index_files SET attributes = ? WHERE store = ? AND file_id = ? AND state <> 'gone'"
            if store is None or not conn.execute(sql, (written, store, file_id)).rowcount:
                raise MissingRow("vector store file", file_id)
            _revise(conn, store)

        await self._commit(run, durable=True)

    async def purge(self) -> None:
        async with self._tidying:
            await self._engine.read(self._lookup.drop_deleted)
            mine = self._engine.fence.process
            theirs = "holder <> ? AND holder IN (SELECT id FROM processes)"
            sql = f"""SELECT seq, state FROM index_files
                      WHERE state <> 'whole' AND (state = 'gone' OR holder IS NULL OR NOT ({theirs})) ORDER BY seq"""
            for file, state in await self._engine.read(lambda conn: conn.execute(sql, (mine,)).fetchall()):
                if state == "gone" or all(adding.file not in (file, None) for adding in self._adding):
                    await erase(self._engine, file)

    async def refresh(self) -> AsyncIterator[int]:
        async for left in reindex(self._engine, self._lookup.clear_counts):
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

    async def _write(self, adding: _Adding, slices: Sequence[Sequence[Chunk]], total: int | None) -> None:
        """Write the next slices, if there is space for them and for what follows."""
        chunks = sum(map(len, slices))
        if not chunks:
            return
        size = sum(_growth(chunk) for each in slices for chunk in each)
        later = size * max(0, (total or 0) - adding.chunks - chunks) // chunks
        async with nullcontext() if self._free_space is None else self._free_space.claimed(size, announced=later):
            for each in slices:
                await self._write_slice(adding, each)

    async def _write_slice(self, adding: _Adding, chunks: Sequence[Chunk]) -> None:
        """Write chunks in one commit; in several if their folded text is long."""
        _check_chunks(adding, chunks)
        while chunks:
            count, operation = await INDEXING.run(adding.owner, _write, adding, chunks)
            await self._commit(operation)
            chunks = chunks[count:]

    async def _commit(self, operation: Operation, *, durable: bool = False, frees_space: bool = False) -> None:
        await self._engine.queue([operation], touched=frozenset(), durable=durable, frees_space=lambda: frees_space)


async def _blocks(chunks: Sequence[Chunk] | AsyncIterable[Sequence[Chunk]]) -> AsyncIterator[Sequence[Chunk]]:
    if isinstance(chunks, Sequence):
        yield chunks
        return
    async for block in chunks:
        yield block


def _length(chunk: Chunk) -> int:
    return 0 if chunk.vector is None else len(chunk.vector)


def _growth(chunk: Chunk) -> int:
    text = len(chunk.text.encode("utf-8", "surrogatepass"))
    return text * (_GROWTH if chunk.text.isascii() else _GROWTH_OTHER) + 4 * _length(chunk)


def _weight(chunk: Chunk) -> int:
    return len(chunk.text) + _length(chunk)


def _check_chunks(adding: _Adding, chunks: Sequence[Chunk]) -> None:
    """Count the chunks. Raises StoreError if they do not continue those before, or if their vectors differ in length.

    The first chunk of a file decides whether all have vectors, and of which length.
    """
    start = adding.chunks
    if [chunk.index for chunk in chunks] != list(range(start, start + len(chunks))):
        raise StoreError("The file's chunks are not numbered from 0 without gaps.")
    if start + len(chunks) > _MAX_CHUNKS:
        raise StoreError(f"The file has more than {_MAX_CHUNKS} chunks.")
    lengths = [None if adding.model is None or chunk.vector is None else len(chunk.vector) for chunk in chunks]
    if not start:
        adding.dimensions = lengths[0]
    other = next((length for length in lengths if length != adding.dimensions), adding.dimensions)
    if other != adding.dimensions:
        raise StoreError(
            f"The file's vectors differ in length: {other or 'none'} after {adding.dimensions or 'none'} numbers. All "
            "chunks need vectors of one length."
        )
    adding.chunks += len(chunks)


# --- operations on the writer's thread ----------------------------------------------------------------------------


def _store(conn: sqlite3.Connection, owner: str, vector_store_id: str) -> int | None:
    sql = "SELECT seq FROM index_stores WHERE vector_store_id = ? AND owner = ? AND hidden = 0"
    found = conn.execute(sql, (vector_store_id, owner)).fetchone()
    return None if found is None else found[0]


def _revise(conn: sqlite3.Connection, store: int) -> None:
    conn.execute("UPDATE index_stores SET revision = revision + 1 WHERE seq = ?", (store,))


def _begin(adding: _Adding, vector_store_id: str, attributes: Attributes, process: int) -> Operation:
    """Insert the row of a file that is being added, and set the numbers of file and store."""
    values = (adding.file_id, adding.owner, orjson.dumps(attributes).decode(), process)

    def run(conn: sqlite3.Connection) -> None:
        sql = "INSERT OR IGNORE INTO index_stores (vector_store_id, owner, revision) VALUES (?, ?, 0)"
        conn.execute(sql, (vector_store_id, adding.owner))
        store = _store(conn, adding.owner, vector_store_id)
        if store is None:  # deleted, while its files are still being removed
            raise MissingRow("vector store", vector_store_id)
        adding.store = store
        sql = """INSERT INTO index_files (store, form, state, file_id, owner, chunks, attributes, holder)
                 VALUES (?, ?, 'adding', ?, ?, 0, ?, ?)"""
        adding.file = conn.execute(sql, (adding.store, FORM, *values)).lastrowid

    return run


def _check(conn: sqlite3.Connection, adding: _Adding) -> int:
    sql = "SELECT seq FROM index_files WHERE seq = ? AND state = 'adding'"
    found: tuple[int] | None = conn.execute(sql, (adding.file,)).fetchone()
    if found is None:
        raise MissingRow("vector store file", adding.file_id)
    return found[0]


def _check_dimensions(conn: sqlite3.Connection, adding: _Adding) -> None:
    """Raise StoreError if the owner has vectors of this model that have another length."""
    if adding.dimensions is None:
        return
    for other in ("<", ">"):  # each is one step in the index, whatever the owner has
        sql = f"""SELECT dimensions FROM index_files
                  WHERE owner = ? AND model = ? AND dimensions {other} ? AND state = 'whole' LIMIT 1"""
        found = conn.execute(sql, (adding.owner, adding.model, adding.dimensions)).fetchone()
        if found is not None:
            raise StoreError(
                f"The vectors of `{adding.model}` have {adding.dimensions} numbers, but those that are stored have "
                f"{found[0]}: two models share that name. Give the new one another name, or remove the old files."
            )


def _write(adding: _Adding, chunks: Sequence[Chunk]) -> tuple[int, Operation]:
    """Return how many of the chunks one commit takes, and the operation that writes these."""
    first = (adding.file or 0) << FILE_BITS
    words = fold_slice(adding.store, ((first + chunk.index, chunk.text) for chunk in chunks), form=FORM)
    chunks = chunks[: len(words)]
    rows = [(first + chunk.index, adding.owner, chunk.start, chunk.end, chunk.text) for chunk in chunks]
    vectors = None if adding.dimensions is None else pack(chunks)

    def run(conn: sqlite3.Connection) -> None:
        _check(conn, adding)
        if not chunks[0].index:
            _check_dimensions(conn, adding)
        conn.executemany("INSERT INTO index_chunks (seq, owner, start, stop, text) VALUES (?, ?, ?, ?, ?)", rows)
        insert_rows(conn, words)
        if vectors is not None:
            sql = "INSERT INTO index_vector_slices (seq, owner, vectors) VALUES (?, ?, ?)"
            conn.execute(sql, (rows[0][0], adding.owner, vectors))

    return len(words), run


def _finish(adding: _Adding) -> Operation:
    model = None if adding.dimensions is None else adding.model

    def run(conn: sqlite3.Connection) -> None:
        file = _check(conn, adding)
        _check_dimensions(conn, adding)  # again: another file can have been completed meanwhile
        sql = "UPDATE index_files SET state = 'gone' WHERE store = ? AND file_id = ? AND state = 'whole'"
        conn.execute(sql, (adding.store, adding.file_id))
        sql = "UPDATE index_files SET state = 'whole', model = ?, dimensions = ?, chunks = ? WHERE seq = ?"
        conn.execute(sql, (model, adding.dimensions, adding.chunks, file))
        _revise(conn, adding.store)

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
