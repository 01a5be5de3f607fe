"""Keeps the vectors of a store in memory, as one matrix for each model, from the first search until the store changes.

Invariants: search is exact: every vector is compared. A matrix is used only with the revision of the store that it was
made for. All matrices together stay under a limit of bytes; the least recently used ones are dropped first. The methods
are called from several reader threads.

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

from wire.filters import Attributes

__all__ = ["STORED", "File", "Matrices", "Shelf", "nearest"]

STORED: Final = np.float16
"""Half the space on disk; changes the fourth digit of the cosine."""

_MAX_BYTES: Final = 1 << 30
_BLOCK: Final = 1024

Numbers = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class File:
    """One completely indexed file. `seq` is its number in the index; row i of its vectors belongs to chunk i."""

    seq: int
    file_id: str
    model: str | None
    count: int
    attributes: Attributes


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
        """Bytes of the matrices."""
        return sum(each.vectors.nbytes + 2 * each.owners.nbytes for each in self.matrices.values())


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
    sql = "SELECT seq, file_id, model, chunks, attributes FROM index_files WHERE store = ? AND state = 'whole'"
    found = conn.execute(sql, (store,)).fetchall()
    return {
        seq: File(seq, file_id, model, count, orjson.loads(attributes))
        for seq, file_id, model, count, attributes in found
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
