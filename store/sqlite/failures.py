"""Translates failures of the disk or SQLite to the store's errors: full, locked by another program, or other."""

import errno
import sqlite3
from pathlib import Path
from typing import Final

from wire.errors import StoreFailed, StoreFull, StoreLocked

__all__ = ["failed", "find_obstacle"]

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def failed(what: str, error: sqlite3.Error | OSError) -> StoreFailed:
    """Return the store's error with the message "`what`: reason"."""
    if isinstance(error, OSError):
        kind = StoreFull if error.errno in _NO_ROOM else StoreFailed
        return kind(f"{what}: {error.strerror or error}.")
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:  # the other bits of an extended code are details
        case sqlite3.SQLITE_FULL:
            kind = StoreFull
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            kind = StoreLocked
        case _:
            kind = StoreFailed
    return kind(f"{what}: {error}.")


def find_obstacle(what: str, path: Path, *, is_folder: bool = False) -> str | None:
    """Return what is wrong if a file is where a folder must be, or a folder where a file must be. Blocks.

    Raises OSError for a path that cannot be examined.
    """
    nearest = path
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if nearest.is_dir() == (is_folder or nearest != path):
        return None
    found, wanted = ("folder", "file") if nearest.is_dir() else ("file", "folder")
    advice = "Move it away, or set another DATA_DIR or DATABASE_URL."
    return f"{what} `{path}` cannot be used: `{nearest}` is a {found}, not a {wanted}. {advice}"
