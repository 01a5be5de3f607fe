"""The stored form of a file's vectors: rows of a few vectors each, in half precision.

Invariants: a row's number is that of its first chunk. Reading takes the memory of one block, whatever a file has.
Vectors are stored with length 1, so their product with a query's is the cosine.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from store.ports import Chunk
from store.sqlite.readers import check_time

if TYPE_CHECKING:  # functions import it: a server without embeddings does not need it
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["FILE_BITS", "Numbers", "block_rows", "pack", "read_blocks"]

FILE_BITS: Final = 20
"""A chunk's number is its file's number, shifted by so many bits, plus its index."""

_STORED: Final = "float16"
"""Half the space on disk; changes the fourth digit of the cosine."""

_BLOCK_ROWS: Final = 1024
_BLOCK_BYTES: Final = 3 * 512 * 1024
"""Maximum vectors that are compared at a time, and their bytes. OpenBLAS computes products of more numbers in several
threads, which on a busy machine wait for each other much longer than the work takes."""

Numbers: TypeAlias = "NDArray[np.float32]"


def pack(chunks: Sequence[Chunk]) -> bytes:
    """Return the chunks' vectors as a row stores them. Every chunk has one, and all have the same length."""
    import numpy as np

    block = np.array([chunk.vector for chunk in chunks], dtype=np.float32)
    block /= np.maximum(np.linalg.norm(block, axis=1, keepdims=True), 1e-12)
    return block.astype(_STORED).tobytes()


def block_rows(dimensions: int) -> int:
    """Return how many vectors are compared at a time."""
    return max(1, min(_BLOCK_ROWS, _BLOCK_BYTES // (4 * dimensions)))


def read_blocks(conn: sqlite3.Connection, files: Sequence[int], dimensions: int) -> Iterator[Numbers]:
    """Yield the vectors of the files, in order, in blocks of `block_rows`. A block is valid until the next one.

    Raises InvalidRequest if a long read takes too long.
    """
    import numpy as np

    rows = block_rows(dimensions)
    halves = np.empty((rows, dimensions), dtype=_STORED)
    bits = np.empty((rows, dimensions), dtype=np.int32)  # reused: new memory costs more time than the comparison
    filled = 0
    for file in files:
        for stored in _read(conn, file, 2 * dimensions):
            part = np.frombuffer(stored, dtype=_STORED).reshape(-1, dimensions)
            while len(part):
                count = min(len(part), rows - filled)
                halves[filled : filled + count] = part[:count]
                part, filled = part[count:], filled + count
                if filled == rows:
                    check_time()
                    yield _widen(halves, bits)
                    filled = 0
    if filled:
        yield _widen(halves[:filled], bits[:filled])


def _read(conn: sqlite3.Connection, file: int, vector_bytes: int) -> Iterator[bytes]:
    sql = "SELECT vectors FROM index_vector_slices WHERE seq >= ? AND seq < ? ORDER BY seq"
    is_sliced = False
    for (stored,) in conn.execute(sql, (file << FILE_BITS, (file + 1) << FILE_BITS)):
        is_sliced = True
        yield stored
    if is_sliced or conn.execute("SELECT 1 FROM index_vectors WHERE file = ?", (file,)).fetchone() is None:
        return
    # Before the schema step m011, all vectors of a file were one row, of up to 1 GB.
    with conn.blobopen("index_vectors", "vectors", file, readonly=True) as blob:
        while stored := blob.read(max(1, _BLOCK_BYTES // vector_bytes) * vector_bytes):
            yield stored


def _widen(halves: "NDArray[np.float16]", bits: "NDArray[np.int32]") -> Numbers:
    """Return the numbers in single precision, in the memory of `bits`.

    It takes a fifth of the time of numpy's `astype`, with the same result: the bits of sign, exponent and mantissa are
    moved to their places, and the difference of the exponents' biases (127 - 15) is multiplied in. Infinity and NaN,
    which vectors of length 1 do not have, would become finite.
    """
    import numpy as np

    np.copyto(bits, halves.view(np.int16))
    bits <<= 13
    bits &= np.int32(-0x7000_2000)
    numbers = bits.view(np.float32)
    numbers *= np.float32(2.0**112)
    return numbers
