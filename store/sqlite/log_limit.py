"""Limits the size of SQLite's write-ahead log while reads overlap.

Invariant: a log that is longer than the limit is emptied as soon as the reads that use it have ended, even if new reads
have started meanwhile. SQLite itself restarts its log only when no read uses it. Here the writer waits for the reads:
it makes no commits meanwhile, so the log can be copied completely, and reads that start afterwards do not use it.

During a long read, such as a backup, an export or a read of many objects, the log grows until the read ends.
"""

import logging
import os
import sqlite3
import time
from contextlib import suppress
from typing import Final

__all__ = ["MAX_LOG_BYTES", "LogLimit"]

logger = logging.getLogger("threadhold.store")

MAX_LOG_BYTES: Final = 32 * 1024 * 1024
"""Eight times the length at which SQLite starts to copy its log into the database file."""

_WAIT_MS: Final = 250
"""How long commits wait for the reads that use the log."""

_FIRST_RETRY_S: Final = 1.0
_MAX_RETRY_S: Final = 30.0
_WARN_S: Final = 60.0


class LogLimit:
    """Limits the log of one writing connection. Its methods block."""

    def __init__(self, connection: sqlite3.Connection, max_bytes: int = MAX_LOG_BYTES) -> None:
        """`connection` must write to a database in a file."""
        self._connection = connection
        self._path = connection.execute("PRAGMA database_list").fetchone()[2] + "-wal"
        self._max_bytes = max_bytes
        self._next_try_at = float("-inf")
        self._retry_s = _FIRST_RETRY_S
        self._warned_at = float("-inf")

    def enforce(self) -> None:
        """Empty the log if it is too long. Call it between transactions.

        While reads use the log, the attempts become less frequent, and a warning is logged.
        """
        with suppress(OSError, sqlite3.Error):  # the log stays as it is
            size = os.stat(self._path).st_size
            now = time.monotonic()
            if size <= self._max_bytes or now < self._next_try_at:
                return
            if self._truncate():
                self._next_try_at, self._retry_s = float("-inf"), _FIRST_RETRY_S
                logger.info("the database's write-ahead log was emptied: it had %.0f MB", size / 1e6)
                return
            self._next_try_at = time.monotonic() + self._retry_s
            self._retry_s = min(2 * self._retry_s, _MAX_RETRY_S)
            if now - self._warned_at > _WARN_S:
                self._warned_at = now
                logger.warning(
                    "the database's write-ahead log has %.0f MB: reads in progress use it, such as a backup or an "
                    "export; it is emptied when they end",
                    size / 1e6,
                )

    def _truncate(self) -> bool:
        """Copy the log into the file and empty it, unless reads use the log for longer than the wait."""
        (usual,) = self._connection.execute("PRAGMA busy_timeout").fetchone()
        self._connection.execute(f"PRAGMA busy_timeout = {_WAIT_MS}")
        try:
            is_busy, _, _ = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return not is_busy
        finally:
            self._connection.execute(f"PRAGMA busy_timeout = {usual}")
