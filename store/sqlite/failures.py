"""Translates failures of SQLite to the store's errors: full, locked by another program, or other."""

import sqlite3

from store.os_errors import os_failure
from wire.errors import StoreFailed, StoreFull, StoreLocked

__all__ = ["failed"]


def failed(what: str, error: sqlite3.Error | OSError | MemoryError) -> StoreFailed:
    """Return the store's error with the message "`what`: reason"."""
    if isinstance(error, MemoryError):
        return StoreFailed(f"{what}: the memory is full.")
    if isinstance(error, OSError):
        return os_failure(what, error)
    kind: type[StoreFailed]
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:  # the other bits of an extended code are details
        case sqlite3.SQLITE_FULL:
            kind = StoreFull
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            kind = StoreLocked
        case _:
            kind = StoreFailed
    return kind(f"{what}: {error}.")
