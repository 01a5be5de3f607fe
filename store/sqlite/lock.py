"""Ensures that one process opens a database file, with a lock file next to it; or several that agreed to share it.

Invariant: the process that holds the lock is alive: the operating system releases the lock when the process ends,
however it ends.
"""

import os
import sys
import time
from pathlib import Path
from typing import Final

from wire.errors import StoreFailed

__all__ = ["FileLock", "is_locked"]

_LOOK_S: Final = 0.02


class FileLock:
    """The right to open `database`, from construction to `release`; exclusive unless it `is_shared` with others."""

    def __init__(self, database: Path, *, is_shared: bool = False) -> None:
        """Take the lock. Raises StoreFailed if another process, or another store in this process, has it, unless all of
        them share it."""
        path = database.with_name(database.name + ".lock")
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                _take(self._fd, is_shared=is_shared)
            except OSError:
                time.sleep(_LOOK_S)  # `is_locked` can hold it for a moment
                _take(self._fd, is_shared=is_shared)
        except OSError as error:
            os.close(self._fd)
            raise StoreFailed(
                f"The database `{database}` is in use by another process: stop that one first, or set another "
                "`DATABASE_URL`."
            ) from error

    def release(self) -> None:
        """Release the lock. The lock file is kept: if it was removed, two processes could lock two files in turn."""
        os.close(self._fd)


def is_locked(database: Path) -> bool:
    """Return whether a process has the lock. Creates no file; takes the lock itself for a moment."""
    try:
        fd = os.open(database.with_name(database.name + ".lock"), os.O_RDWR)
    except OSError:  # it was never locked, or we have no access
        return False
    try:
        _take(fd)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


if sys.platform == "win32":
    import msvcrt

    def _take(fd: int, *, is_shared: bool = False) -> None:
        if is_shared:
            raise OSError("Windows has no shared locks.")
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _take(fd: int, *, is_shared: bool = False) -> None:
        fcntl.flock(fd, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
