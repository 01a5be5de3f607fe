"""Compacts the database file. Deleted data leaves space in it that only new rows fill."""

import sqlite3
from contextlib import closing
from pathlib import Path

from store.sqlite.lock import FileLock
from wire.errors import StoreFailed

__all__ = ["compact"]


def compact(database: Path | str) -> int:
    """Rewrite the file; returns by how many bytes it is smaller. Blocks, and needs as much free disk space meanwhile.

    Raises StoreFailed if a server has the file open, or the disk has no space; the file is then unchanged.
    """
    path = Path(database).expanduser().resolve()
    lock = FileLock(path)
    try:
        before = path.stat().st_size
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return before - path.stat().st_size
    except sqlite3.Error as error:
        raise StoreFailed(f"The database `{path}` could not be made smaller: {error}.") from error
    finally:
        lock.release()
