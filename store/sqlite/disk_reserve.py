"""Reserves disk space for deletions on a full disk, as a file next to the database.

Invariants: the file has its full size unless the disk has no space for it. It releases its space to one batch of
changes that free space, and reclaims what is left immediately. SQLite needs space to delete: it writes changed pages to
its log before the space of the old pages is free.
"""

import logging
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

__all__ = ["DISK_RESERVE_BYTES", "DiskReserve", "reserve_path"]

logger = logging.getLogger("threadhold.store")

DISK_RESERVE_BYTES: Final = 16 * 1024 * 1024
"""Four times the usual size of SQLite's log: enough to delete a large thread and copy the log into the file."""

_SHARE: Final = 8
"""The file takes at most this fraction (one in so many) of the disk's bytes, so it is smaller on a small disk."""

_SUFFIX: Final = ".reserve"
_RETRY_S: Final = 5.0
_BLOCK: Final = 64 * 1024


class DiskReserve:
    """The reserve file. Every method blocks, and none raises if the disk fails."""

    def __init__(self, path: Path, max_bytes: int = DISK_RESERVE_BYTES) -> None:
        """With `max_bytes` 0, no file is made, but an existing one is used."""
        self._path = path
        self._database = path.with_name(path.name.removesuffix(_SUFFIX))
        self._log = path.with_name(f"{self._database.name}-wal")
        self._max_bytes = max_bytes
        self._held = 0
        self._looked_at = float("-inf")
        with suppress(OSError):
            self._held = path.stat().st_size

    def refill(self) -> None:
        """Grow the file to its full size if the disk has space. Cheap: it checks at most once in a few seconds."""
        if self._held >= self._max_bytes or time.monotonic() - self._looked_at < _RETRY_S:
            return
        self._looked_at = time.monotonic()
        with suppress(OSError):
            disk = shutil.disk_usage(self._path.parent)
            # At most half of the free space: current writers need space, too.
            self._grow(min(self._max_bytes, disk.total // _SHARE, self._held + disk.free // 2))

    def has_space(self, connection: sqlite3.Connection, size: int) -> bool:
        """Return whether the disk has space for `size` more bytes of rows and for writing the log into the file.

        The log must never hold more than the disk has space for, because then nothing could be deleted. Rows that fit
        into the file's free pages, and into a log that can restart, need no space.
        """
        if not self._max_bytes:
            return True
        try:
            if size + os.stat(self._log).st_size < self._max_bytes // 2:
                return True  # the reserve is large enough
            page_bytes = connection.execute("PRAGMA page_size").fetchone()[0]
            unused = connection.execute("PRAGMA freelist_count").fetchone()[0] * page_bytes
            growth = max(0, size - unused) + self.growth(connection)
            return bool(growth == 0 or growth + size <= shutil.disk_usage(self._path.parent).free)
        except OSError:
            return True

    def growth(self, connection: sqlite3.Connection) -> int:
        """Return how many bytes the file grows by when the log is written into it."""
        pages, page_bytes = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
        return max(0, int(pages * page_bytes) - os.stat(self._database).st_size)

    def release_in_portions(self) -> Iterator[int]:
        """Release half of the file, then the rest; yield how many bytes have been released so far.

        The caller retries after each portion. When the iteration ends, the file reclaims what space it can.
        """
        before = self._held
        try:
            for left in (before // 2, 0):
                with suppress(OSError):
                    os.truncate(self._path, left)
                    self._held = left
                    yield before - left
        finally:
            self._restore(before)

    def _restore(self, size: int) -> None:
        step = size - self._held
        while step > 0:  # all of it, or as much as there is
            try:
                self._grow(min(size, self._held + step))
                step = min(step, size - self._held)
            except OSError:
                step = step // 2 if step > _BLOCK else 0

    def _grow(self, size: int) -> None:
        if size <= self._held:
            return
        opened = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _allocate(opened, self._held, size - self._held)
            self._held = size
        except OSError:
            os.ftruncate(opened, self._held)
            raise
        finally:
            os.close(opened)


def reserve_path(database: Path) -> Path:
    """Return the path of a database's reserve file."""
    return database.with_name(f"{database.name}{_SUFFIX}")


def _allocate(file: int, start: int, size: int) -> None:
    """Reserve disk space, not only length. Raises OSError."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, start, size)
        return
    os.lseek(file, start, os.SEEK_SET)  # macOS and Windows; not zeros, which some file systems do not store
    while size > 0:
        size -= os.write(file, os.urandom(min(size, _BLOCK)))
