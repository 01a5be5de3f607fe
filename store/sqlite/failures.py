"""What the disk or SQLite refused, as the store's errors: full, locked by another program, or another failure."""

import errno
import sqlite3
from typing import Final

from wire.errors import StoreFailed, StoreFull, StoreLocked

__all__ = ["failed"]

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def failed(what: str, error: sqlite3.Error | OSError) -> StoreFailed:
    """Return the store's error for "`what`: why"."""
    if isinstance(error, OSError):
        kind = StoreFull if error.errno in _NO_ROOM else StoreFailed
        return kind(f"{what}: {error.strerror or error}.")
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:  # the rest of an extended code says where it happened
        case sqlite3.SQLITE_FULL:
            kind = StoreFull
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            kind = StoreLocked
        case _:
            kind = StoreFailed
    return kind(f"{what}: {error}.")
