"""Searches the index on a reader's connection: words by BM25, meaning by cosine, combined into one list.

Invariants: one search is one read transaction. A chunk of a file occurs once, even if several stores have the file.
Files that are incomplete or excluded by the filters do not take up positions in either list.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import orjson

from store.ports import Chunk, Found, Hit, Query
from store.ranking import fuse
from store.sqlite.fulltext import MatchQueryBuilder
from store.sqlite.matrices import File, LoadedStore, Matrices
from store.sqlite.readers import check_time
from store.sqlite.reindexing import is_outdated
from wire.filters import Attributes, Filter, matches

__all__ = ["IndexSearch"]

_DEPTH: Final = 100
"""Minimum hits of each list that are fused."""

_WEIGHT: Final = 0.5
"""Share of meaning in the ranking; explained in `docs/decisions/search-ranking.md`."""

ChunkPosition = tuple[int, int]
"""A file's number in the index, and a chunk's index in it."""


@dataclass(frozen=True, slots=True)
class _Store:
    seq: int
    id: str
    loaded: LoadedStore


class IndexSearch:
    """Reads the index; keeps matrices and word counts between searches. Called from several reader threads."""

    def __init__(self) -> None:
        self._matrices = Matrices()
        self._match_queries = MatchQueryBuilder()

    def close(self) -> None:
        """Close what is kept between searches."""
        self._match_queries.close()

    def drop_deleted(self, conn: sqlite3.Connection) -> None:
        """Let go of what is kept of stores that are not there any more."""
        self._matrices.drop_deleted(conn)

    def clear_counts(self) -> None:
        """Drop cached word counts, because passages were rewritten."""
        self._match_queries.clear_counts()

    def search(self, conn: sqlite3.Connection, owner: str, vector_store_ids: Sequence[str], query: Query) -> Found:
        """See `store.ports.Vectors.search`."""
        with ExitStack() as in_use:
            stores = [
                _Store(seq, id, in_use.enter_context(self._matrices.loaded(conn, owner, seq, revision)))
                for seq, id, revision in _stores(conn, owner, vector_store_ids)
            ]
            files = {file.seq: (store, file) for store in stores for file in store.loaded.files.values()}
            allowed = None
            if query.filters is not None:
                allowed = frozenset(_allowed(conn, stores, query.filters))
            weight = _WEIGHT if query.weight is None else query.weight
            depth = max(_DEPTH, 2 * query.limit)
            meaning = self._by_meaning(conn, stores, query, depth, allowed) if weight else []
            words = self._by_words(conn, stores, query, depth, allowed) if weight < 1 or not meaning else []
            if not meaning or not words:
                weight = float(bool(meaning))
            hits = list(_hits(conn, fuse(words, meaning, weight), files, query))
        reached = (query.model, len(query.vector)) if query.vector is not None else None
        unreached = (file.file_id for _, file in files.values() if (file.model, file.dimensions) != reached)
        return Found(hits, frozenset(unreached))

    def chunks(self, conn: sqlite3.Connection, owner: str, vector_store_id: str, file_id: str) -> list[Chunk]:
        """See `store.ports.Vectors.chunks`."""
        sql = "SELECT seq FROM index_files WHERE store = ? AND file_id = ? AND state = 'whole'"
        for store, _, _ in _stores(conn, owner, [vector_store_id]):
            found = conn.execute(sql, (store, file_id)).fetchone()
            if found is not None:
                return _chunks(conn, found[0] << 20, (found[0] + 1) << 20)
        return []

    def models(self, conn: sqlite3.Connection, owner: str, vector_store_id: str) -> frozenset[str | None]:
        """See `store.ports.Vectors.models`."""
        sql = "SELECT DISTINCT model FROM index_files WHERE store = ? AND state = 'whole'"
        stores = _stores(conn, owner, [vector_store_id])
        return frozenset(model for store, _, _ in stores for (model,) in conn.execute(sql, (store,)))

    def _by_meaning(
        self,
        conn: sqlite3.Connection,
        stores: Sequence[_Store],
        query: Query,
        depth: int,
        allowed: frozenset[int] | None,
    ) -> list[ChunkPosition]:
        if query.vector is None or query.model is None:
            return []
        found: list[tuple[float, ChunkPosition]] = []
        for store in stores:
            near = self._matrices.nearest(conn, store.loaded, query.model, query.vector, depth, allowed)
            found += [(-cosine, (file, number)) for file, number, cosine in near]
        return [position for _, position in sorted(found)[:depth]]

    def _by_words(
        self,
        conn: sqlite3.Connection,
        stores: Sequence[_Store],
        query: Query,
        depth: int,
        allowed: frozenset[int] | None,
    ) -> list[ChunkPosition]:
        whole = frozenset(seq for store in stores for seq in store.loaded.files)
        total = sum(file.count for store in stores for file in store.loaded.files.values())
        numbers = [store.seq for store in stores]
        if not total:
            return []
        outdated = is_outdated(conn, numbers)
        expression = self._match_queries.build(conn, query.text, stores=numbers, total=total, outdated=outdated)
        if expression is None:
            return []
        sql, values = "SELECT rowid FROM index_words WHERE index_words MATCH ?", [expression]
        hidden = [] if allowed is not None else _hidden(conn, numbers)
        if allowed is not None or hidden:
            sql += f" AND (rowid >> 20) {'NOT IN' if hidden else 'IN'} (SELECT value FROM json_each(?))"
            values.append(orjson.dumps(hidden or sorted(allowed or ())).decode())
        found = conn.execute(f"{sql} ORDER BY rank LIMIT ?", (*values, depth))
        # The index keeps no text, so words are deleted by folding the passage again. A Python with a newer Unicode
        # version folds newly assigned characters differently, and can leave words without a passage.
        return [(seq >> 20, seq & 0xFFFFF) for (seq,) in found if seq >> 20 in whole]


def _allowed(conn: sqlite3.Connection, stores: Sequence[_Store], wanted: Filter) -> Iterator[int]:
    """Yield the files that a filter allows. One file's attributes are in memory at a time, because those of all can be
    large."""
    sql = "SELECT seq, attributes FROM index_files WHERE store = ? AND state = 'whole'"
    for store in stores:
        for seq, attributes in conn.execute(sql, (store.seq,)):
            check_time()
            if matches(wanted, orjson.loads(attributes)):
                yield seq


def _attributes(conn: sqlite3.Connection, file: int) -> Attributes:
    (written,) = conn.execute("SELECT attributes FROM index_files WHERE seq = ?", (file,)).fetchone()
    attributes: Attributes = orjson.loads(written)
    return attributes


def _stores(conn: sqlite3.Connection, owner: str, ids: Sequence[str]) -> list[tuple[int, str, int]]:
    sql = """SELECT seq, vector_store_id, revision FROM index_stores
             WHERE vector_store_id IN (SELECT value FROM json_each(?)) AND owner = ? AND hidden = 0 ORDER BY seq"""
    return conn.execute(sql, (orjson.dumps(list(ids)).decode(), owner)).fetchall()


def _hidden(conn: sqlite3.Connection, stores: Sequence[int]) -> list[int]:
    """Return the files that are being added or removed."""
    sql = "SELECT seq FROM index_files WHERE store = ? AND state <> 'whole'"
    return [seq for store in stores for (seq,) in conn.execute(sql, (store,))]


def _chunks(conn: sqlite3.Connection, start: int, stop: int) -> list[Chunk]:
    sql = "SELECT seq, text, start, stop FROM index_chunks WHERE seq >= ? AND seq < ? ORDER BY seq"
    return [Chunk(seq & 0xFFFFF, text, first, last) for seq, text, first, last in conn.execute(sql, (start, stop))]


def _hits(
    conn: sqlite3.Connection,
    ranked: Sequence[tuple[ChunkPosition, float]],
    files: dict[int, tuple[_Store, File]],
    query: Query,
) -> Iterator[Hit]:
    seen: set[tuple[str, int]] = set()
    for (seq, number), score in ranked:
        if len(seen) == query.limit or score < query.threshold:
            return
        store, file = files[seq]
        if (file.file_id, number) in seen:
            continue
        seen.add((file.file_id, number))
        at = (seq << 20) + number
        (chunk,) = _chunks(conn, at, at + 1)
        yield Hit(store.id, file.file_id, chunk, score, _attributes(conn, seq))
