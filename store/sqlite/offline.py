"""Reads the database file next to the server that has it open, for commands that do not take its lock.

Invariant: nothing in it is changed. Reads within one `snapshot` see the state of one moment, however long they take and
whatever the server writes meanwhile; only the write-ahead log grows in that time.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from sqlite_utils import Database

from store.sqlite.disk_reserve import DiskReserve, reserve_path
from store.sqlite.lock import is_locked
from store.sqlite.migrations import MIGRATIONS, STEPS
from wire.errors import StoreFailed

__all__ = ["check_schema", "in_use", "open_read_only", "snapshot"]

_BUSY_S: Final = 10.0


def in_use(database: str | Path) -> bool:
    """Return whether a process, most likely a server, has the file open for writing."""
    return is_locked(_resolve(database))


@contextmanager
def open_read_only(
    database: str | Path, *, any_schema: bool = False, untouched: bool = False
) -> Iterator[sqlite3.Connection]:
    """Open the file for reading. Blocks.

    Args:
        any_schema: Accept a file that an older version has written, without migrating it.
        untouched: Create no `-shm` next to a file that no process has open; only for short reads.

    Raises:
        StoreFailed: the file does not exist, is not a database of ours, or cannot be read; also for errors of SQLite
            in the block.
    """
    path = _resolve(database)
    if not path.is_file():
        raise StoreFailed(f"There is no database `{path}`: check DATA_DIR and DATABASE_URL, and the working directory.")
    quiet = untouched and not path.with_name(path.name + "-wal").exists()
    uri = f"{path.as_uri()}?mode=ro{'&immutable=1' if quiet else ''}"
    try:
        with closing(_connect(uri, path)) as connection:
            check_schema(connection, path, any_schema=any_schema)
            yield connection
    except sqlite3.Error as error:
        raise StoreFailed(f"The database `{path}` could not be read: {error}.") from error


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Make all reads in the block see the state of one moment."""
    connection.execute("BEGIN")
    try:
        connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()  # BEGIN alone takes no snapshot
        yield
    finally:
        if connection.in_transaction:  # SQLite itself ends the transaction after some errors
            connection.execute("ROLLBACK")


def _connect(uri: str, path: Path) -> sqlite3.Connection:
    """Open the file. On a full disk, the `-shm` that a reader creates gets its space from the reserve."""
    try:
        return _open_readable(uri)
    except sqlite3.OperationalError:
        if not is_locked(path):  # a running server has created it, and uses the reserve itself
            for _ in DiskReserve(reserve_path(path), 0).release_in_portions():
                with suppress(sqlite3.OperationalError):
                    return _open_readable(uri)
        raise


def _open_readable(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_S, isolation_level=None)
    try:
        connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _resolve(database: str | Path) -> Path:
    return Path(database).expanduser().resolve()


def check_schema(connection: sqlite3.Connection, path: Path, *, any_schema: bool) -> None:
    """Raise StoreFailed unless the file has this code's schema; with `any_schema`, an older one is accepted, too."""
    applied = {step.name for step in MIGRATIONS.applied(Database(connection))}
    if not applied:
        raise StoreFailed(f"The file `{path}` is not a Threadhold database.")
    if newer := sorted(applied - set(STEPS)):
        raise StoreFailed(
            f"The database `{path}` was written by a newer threadhold (it has the schema step `{newer[-1]}`, the "
            f"newest here is `{STEPS[-1]}`): use that version."
        )
    if not any_schema and (older := [step for step in STEPS if step not in applied]):
        raise StoreFailed(
            f"The database `{path}` was written by an older threadhold (it lacks the schema step `{older[0]}`): start "
            "the server once, which brings it up to date."
        )
