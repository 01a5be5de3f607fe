"""Keeps the vectors of a store in memory, as one matrix for each model, from the first search until the store changes.

Invariants: search is exact: every vector is compared. A matrix is used only with the revision of the store that it was
made for. What is kept stays under a limit of bytes: the least recently searched stores are dropped first, and deleted
ones at the next cleanup. Besides the vectors, each file takes a small fixed size. The methods are called from several
reader threads.

Exact search in numpy is used instead of sqlite-vec, which needs a Python with loadable extensions (pyenv's and macOS's
have none). It compares 100,000 vectors in less time.
"""

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

__all__ = ["STORED", "File", "Matrices", "Shelf", "nearest"]

STORED: Final = np.float16
"""Half the space on disk; changes the fourth digit of the cosine."""

_MAX_BYTES: Final = 1 << 30
_SHELF_BYTES: Final = 2_048
_FILE_BYTES: Final = 512
"""What a store and each of its files take in memory beside the vectors, rounded up."""
_BLOCK: Final = 1024

Numbers = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class File:
    """One completely indexed file. `seq` is its number in the index; row i of its vectors belongs to chunk i."""

    seq: int
    file_id: str
    model: str | None
    count: int


@dataclass(slots=True)
class Matrix:
    """The vectors of all files of one model, with the file and chunk of each row."""

    vectors: Numbers
    owners: NDArray[np.int64]
    numbers: NDArray[np.int64]
    starts: Mapping[int, int]
    """The first row of each file, by its `seq`."""


@dataclass(slots=True)
class Shelf:
    """One store at one revision."""

    revision: int
    files: Mapping[int, File]
    before: Mapping[str, Matrix] = field(default_factory=dict)
    """The matrices of an earlier revision. Files never change, so their rows are copied."""
    matrices: dict[str, Matrix] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def matrix(self, conn: sqlite3.Connection, model: str) -> Matrix | None:
        """Return the vectors that this model made, loaded on first use; None if there are none."""
        with self.lock:
            if model not in self.matrices:
                files = [each for each in self.files.values() if each.model == model and each.count]
                if not files:
                    return None
                self.matrices[model] = _load(conn, files, self.before.get(model))
                self.before = {}
            return self.matrices[model]

    @property
    def size(self) -> int:
        """Bytes in memory."""
        matrices = {id(each): each for each in (*list(self.before.values()), *list(self.matrices.values()))}.values()
        vectors = sum(each.vectors.nbytes + 2 * each.owners.nbytes for each in matrices)
        return _SHELF_BYTES + _FILE_BYTES * len(self.files) + vectors


class Matrices:
    """The shelves, by store."""

    def __init__(self, max_bytes: int = _MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._shelves: OrderedDict[int, Shelf] = OrderedDict()
        self._lock = threading.Lock()

    def shelf(self, conn: sqlite3.Connection, store: int, revision: int) -> Shelf:
        """Return the store at this revision; `conn` must be in a transaction that sees the revision."""
        with self._lock:
            self._trim()
            known = self._shelves.get(store)
            if known is not None and known.revision == revision:
                self._shelves.move_to_end(store)
                return known
            shelf = Shelf(revision, _files(conn, store), {} if known is None else known.matrices or known.before)
            if known is None or known.revision < revision:
                self._shelves[store] = shelf
                self._shelves.move_to_end(store)
            return shelf

    def drop_deleted(self, conn: sqlite3.Connection) -> None:
        """Drop the stores that are deleted, or have no files any more."""
        with self._lock:
            kept = list(self._shelves)
            sql = """SELECT seq FROM index_stores WHERE seq IN (SELECT value FROM json_each(?)) AND hidden = 0
                     AND EXISTS (SELECT 1 FROM index_files WHERE store = index_stores.seq AND state = 'whole')"""
            there = {seq for (seq,) in conn.execute(sql, (orjson.dumps(kept).decode(),))}
            for store in kept:
                if store not in there:
                    del self._shelves[store]

    def _trim(self) -> None:
        size = sum(shelf.size for shelf in self._shelves.values())
        while size > self._max_bytes and len(self._shelves) > 1:
            _, gone = self._shelves.popitem(last=False)
            size -= gone.size


def nearest(
    matrix: Matrix, query: Sequence[float], limit: int, allowed: frozenset[int] | None
) -> list[tuple[int, int, float]]:
    """Return (file's `seq`, chunk's index, cosine) of the nearest chunks of `allowed` files, nearest first."""
    vector = np.asarray(query, dtype=np.float32)
    vector /= max(float(np.linalg.norm(vector)), 1e-12)
    scores = _cosines(matrix.vectors, vector)
    if allowed is not None:
        scores[~np.isin(matrix.owners, list(allowed))] = -np.inf
    limit = min(limit, len(scores))
    best = np.argpartition(scores, -limit)[-limit:]
    best = best[np.lexsort((best, -scores[best]))]
    return [
        (int(matrix.owners[row]), int(matrix.numbers[row]), float(scores[row])) for row in best if scores[row] > -np.inf
    ]


def _cosines(vectors: Numbers, query: Numbers) -> Numbers:
    """Return all products, computed in blocks: OpenBLAS computes larger ones in several threads, which on a busy
    machine wait for each other much longer than the work takes."""
    return np.concatenate([vectors[at : at + _BLOCK] @ query for at in range(0, len(vectors), _BLOCK)])


def _files(conn: sqlite3.Connection, store: int) -> dict[int, File]:
    sql = "SELECT seq, file_id, model, chunks FROM index_files WHERE store = ? AND state = 'whole'"
    models: dict[str | None, str | None] = {}  # one string for all files of a model
    return {
        seq: File(seq, file_id, models.setdefault(model, model), count)
        for seq, file_id, model, count in conn.execute(sql, (store,))
    }


def _load(conn: sqlite3.Connection, files: Sequence[File], before: Matrix | None) -> Matrix:
    parts: list[NDArray[Any]] = []
    starts: dict[int, int] = {}
    count = 0
    for file in files:
        starts[file.seq] = count
        count += file.count
        start = None if before is None else before.starts.get(file.seq)
        if before is not None and start is not None:
            parts.append(before.vectors[start : start + file.count])
            continue
        (blob,) = conn.execute("SELECT vectors FROM index_vectors WHERE file = ?", (file.seq,)).fetchone()
        parts.append(np.frombuffer(blob, dtype=STORED).reshape(file.count, -1))
    vectors = np.concatenate(parts, dtype=np.float32)
    counts = [file.count for file in files]
    owners = np.repeat(np.array([file.seq for file in files], dtype=np.int64), counts)
    numbers = np.concatenate([np.arange(count, dtype=np.int64) for count in counts])
    return Matrix(vectors, owners, numbers, starts)
