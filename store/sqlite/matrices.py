"""Compares a query's vector with those of a store: in memory if the store's matrix fits, otherwise from the disk.

Invariants: search is exact: every vector is compared, with the same result from memory and from the disk. What is kept
is used only with the revision of the store that it was made for. What is kept, loaded or in use stays under a limit of
bytes: owners who hold more than the one who needs memory give theirs up, and a matrix that still does not fit is not
loaded. The methods are called from several reader threads.

Exact search in numpy is used instead of sqlite-vec, which needs a Python with loadable extensions (pyenv's and macOS's
have none). It compares 100,000 vectors in less time.
"""

import sqlite3
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Final

import orjson

from store.sqlite.readers import untimed
from store.sqlite.vector_slices import Numbers, block_rows, read_blocks

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["File", "LoadedStore", "Matrices"]

_MAX_BYTES: Final = 1 << 30
_STORE_BYTES: Final = 2_048
_FILE_BYTES: Final = 512
"""Memory that a store and each of its files take besides the vectors, rounded up."""

_IDLE_S: Final = 600.0
"""A store that has not been searched for this long can be dropped in favour of any owner."""


@dataclass(frozen=True, slots=True)
class File:
    """One completely indexed file. `seq` is its number in the index."""

    seq: int
    file_id: str
    model: str | None
    dimensions: int | None
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class _Layout:
    """The files whose vectors are compared together, and the first row of each. The rows of a file are its chunks."""

    files: Sequence[File]
    starts: "NDArray[np.int64]"
    rows: int
    dimensions: int

    @property
    def nbytes(self) -> int:
        """Bytes of all vectors in memory."""
        return 4 * self.rows * self.dimensions


@dataclass(frozen=True, slots=True, eq=False)
class _Matrix:
    layout: _Layout
    vectors: Numbers


_Model = tuple[str, int]
"""A model's name, and the length of its vectors."""


@dataclass(eq=False, slots=True)
class LoadedStore:
    """One store at one revision. `size` are its bytes in memory, `users` the searches that use it at the moment."""

    owner: str
    revision: int
    files: Mapping[int, File]
    before: dict[_Model, _Matrix] = field(default_factory=dict)
    """The matrices of an earlier revision. Files never change, so their rows are copied."""
    layouts: dict[_Model, _Layout] = field(default_factory=dict)
    matrices: dict[_Model, _Matrix] = field(default_factory=dict)
    size: int = 0
    users: int = 0
    used_at: float = 0.0
    is_kept: bool = True
    lock: threading.Lock = field(default_factory=threading.Lock)

    def layout(self, model: _Model) -> _Layout:
        """Return the files that have vectors of this model."""
        if model not in self.layouts:
            import numpy as np

            files = [each for each in self.files.values() if (each.model, each.dimensions) == model and each.count]
            counts = np.array([each.count for each in files], dtype=np.int64)
            self.layouts[model] = _Layout(files, np.cumsum(counts) - counts, int(counts.sum()), model[1])
        return self.layouts[model]


class Matrices:
    """The loaded stores, the least recently searched first."""

    def __init__(self, max_bytes: int = _MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._loaded: OrderedDict[int, LoadedStore] = OrderedDict()
        self._held: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Bytes that are kept, loaded or in use."""
        return self._held.total()

    @contextmanager
    def loaded(self, conn: sqlite3.Connection, owner: str, store: int, revision: int) -> Iterator[LoadedStore]:
        """Use the store at this revision in the block; `conn` must be in a transaction that sees the revision."""
        with self._lock:
            loaded = self._take(store, revision)
        if loaded is None:
            files = _files(conn, store)
            with self._lock:
                loaded = self._take(store, revision) or self._put(store, LoadedStore(owner, revision, files, users=1))
        try:
            yield loaded
        finally:
            with self._lock:
                loaded.users -= 1
                loaded.used_at = time.monotonic()
                if not loaded.is_kept and not loaded.users:
                    self._grow(loaded, -loaded.size)

    def nearest(
        self,
        conn: sqlite3.Connection,
        loaded: LoadedStore,
        model: str,
        query: Sequence[float],
        limit: int,
        allowed: frozenset[int] | None,
    ) -> list[tuple[int, int, float]]:
        """Return (file's `seq`, chunk's index, cosine) of the nearest chunks of `allowed` files, nearest first."""
        import numpy as np

        vector = np.asarray(query, dtype=np.float32)
        vector /= max(float(np.linalg.norm(vector)), 1e-12)
        layout = loaded.layout((model, len(vector)))
        if not layout.rows:
            return []
        matrix = self._matrix(conn, loaded, (model, len(vector)))
        blocks = (
            read_blocks(conn, [each.seq for each in layout.files], layout.dimensions)
            if matrix is None
            else _cut(matrix.vectors)
        )
        return _best(layout, _cosines(blocks, vector), limit, allowed)

    def drop_deleted(self, conn: sqlite3.Connection) -> None:
        """Drop the stores that are deleted, or have no files any more."""
        with self._lock:
            kept = list(self._loaded)
            sql = """SELECT seq FROM index_stores WHERE seq IN (SELECT value FROM json_each(?)) AND hidden = 0
                     AND EXISTS (SELECT 1 FROM index_files WHERE store = index_stores.seq AND state = 'whole')"""
            there = {seq for (seq,) in conn.execute(sql, (orjson.dumps(kept).decode(),))}
            for store in kept:
                if store not in there:
                    self._drop(store)

    def _matrix(self, conn: sqlite3.Connection, loaded: LoadedStore, model: _Model) -> _Matrix | None:
        """Return the vectors that this model made, loaded on first use; None if they do not fit into memory."""
        with untimed(), loaded.lock:  # a search that waits for another one's load must not fail for that
            if model not in loaded.matrices:
                layout, before = loaded.layout(model), loaded.before.pop(model, None)
                try:
                    if not self._reserve(loaded, layout.nbytes):  # no time limit: at most `_max_bytes` are loaded
                        # There is no memory for both, so the former is not copied.
                        self._release(loaded, before)
                        before = None
                        if not self._reserve(loaded, layout.nbytes):
                            return None
                    try:
                        loaded.matrices[model] = _load(conn, layout, before)
                    except BaseException:
                        self._release(loaded, layout)
                        raise
                finally:
                    self._release(loaded, before)
            return loaded.matrices[model]

    # --- memory; only with the lock -----------------------------------------------------------------------------------

    def _take(self, store: int, revision: int) -> LoadedStore | None:
        known = self._loaded.get(store)
        if known is None or known.revision != revision:
            return None
        self._loaded.move_to_end(store)
        known.users += 1
        return known

    def _put(self, store: int, loaded: LoadedStore) -> LoadedStore:
        """Keep a loaded store instead of an older one. One that is older itself, or does not fit, is used but not
        kept."""
        known = self._loaded.get(store)
        loaded.is_kept = known is None or known.revision < loaded.revision
        size = _STORE_BYTES + _FILE_BYTES * len(loaded.files)
        if known is not None and loaded.is_kept:
            loaded.before = {**known.before, **known.matrices}
            size += sum(each.layout.nbytes for each in loaded.before.values())
            self._drop(store)
        loaded.is_kept = loaded.is_kept and self._evict(loaded.owner, size)
        self._grow(loaded, size)
        if loaded.is_kept:
            self._loaded[store] = loaded
        return loaded

    def _drop(self, store: int) -> None:
        loaded = self._loaded.pop(store)
        loaded.is_kept = False
        if not loaded.users:
            self._grow(loaded, -loaded.size)

    def _grow(self, loaded: LoadedStore, size: int) -> None:
        loaded.size += size
        self._held[loaded.owner] += size

    def _evict(self, owner: str, size: int) -> bool:
        """Drop loaded stores until `size` more bytes fit; return whether they do."""
        while size <= self._max_bytes and self.size + size > self._max_bytes:
            store = self._evictable(owner, size)
            if store is None:
                return False
            self._drop(store)
        return size <= self._max_bytes

    def _evictable(self, owner: str, size: int) -> int | None:
        """Return an unused store: one not searched for long, or one of the owner who would hold the most."""
        unused = [(store, loaded) for store, loaded in self._loaded.items() if not loaded.users]
        since = time.monotonic() - _IDLE_S
        idle = next((store for store, loaded in unused if loaded.used_at < since), None)
        if idle is not None:
            return idle
        held = {each: self._held[each] + size * (each == owner) for each in (owner, *self._held)}
        largest = max(held, key=held.__getitem__)  # `owner` in case of a tie
        return next((store for store, loaded in unused if loaded.owner == largest), None)

    def _reserve(self, loaded: LoadedStore, size: int) -> bool:
        with self._lock:
            fits = loaded.is_kept and self._evict(loaded.owner, size)
            if fits:
                self._grow(loaded, size)
            return fits

    def _release(self, loaded: LoadedStore, what: "_Matrix | _Layout | None") -> None:
        if what is not None:
            with self._lock:
                self._grow(loaded, -(what.layout if isinstance(what, _Matrix) else what).nbytes)


def _best(layout: _Layout, scores: Numbers, limit: int, allowed: frozenset[int] | None) -> list[tuple[int, int, float]]:
    import numpy as np

    if allowed is not None:
        excluded = [each.seq not in allowed for each in layout.files]
        scores[np.repeat(excluded, [each.count for each in layout.files])] = -np.inf
    limit = min(limit, len(scores))
    best = np.argpartition(scores, -limit)[-limit:]
    best = best[np.lexsort((best, -scores[best]))]
    best = best[scores[best] > -np.inf]
    files = np.searchsorted(layout.starts, best, side="right") - 1
    return [
        (layout.files[file].seq, int(row - layout.starts[file]), float(scores[row]))
        for file, row in zip(files, best, strict=True)
    ]


def _cosines(blocks: Iterator[Numbers], query: Numbers) -> Numbers:
    import numpy as np

    return np.concatenate([block @ query for block in blocks])


def _cut(vectors: Numbers) -> Iterator[Numbers]:
    rows = block_rows(vectors.shape[1])
    for start in range(0, len(vectors), rows):
        yield vectors[start : start + rows]


def _files(conn: sqlite3.Connection, store: int) -> dict[int, File]:
    sql = """SELECT seq, file_id, model, dimensions, chunks FROM index_files
             WHERE store = ? AND state = 'whole' ORDER BY file_id"""
    models: dict[str | None, str | None] = {}  # one string for all files of a model
    return {
        seq: File(seq, file_id, models.setdefault(model, model), dimensions, count)
        for seq, file_id, model, dimensions, count in conn.execute(sql, (store,))
    }


def _load(conn: sqlite3.Connection, layout: _Layout, before: _Matrix | None) -> _Matrix:
    import numpy as np

    known = {}
    if before is not None:
        known = dict(zip((each.seq for each in before.layout.files), before.layout.starts.tolist(), strict=True))
    vectors = np.empty((layout.rows, layout.dimensions), dtype=np.float32)
    at = 0
    for is_known, group in groupby(layout.files, lambda each: each.seq in known):
        if before is not None and is_known:
            for file in group:
                start = known[file.seq]
                vectors[at : at + file.count] = before.vectors[start : start + file.count]
                at += file.count
            continue
        for block in read_blocks(conn, [each.seq for each in group], layout.dimensions):
            vectors[at : at + len(block)] = block
            at += len(block)
    return _Matrix(layout, vectors)
