"""One process for one database file: a lock file beside it, held through the operating system.

Law: whoever holds it is alive. The system lets go of it when the process ends, however it ends.
"""

import os
import sys
from pathlib import Path

from wire.errors import StoreFailed

__all__ = ["FileLock"]


class FileLock:
    """The exclusive right to open `database`, from construction to `release`."""

    def __init__(self, database: Path) -> None:
        """Take the lock. Raises StoreFailed when another process (or another store in this one) has it."""
        path = database.with_name(database.name + ".lock")
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _take(self._fd)
        except OSError as error:
            os.close(self._fd)
            raise StoreFailed(
                f"The database `{database}` is in use by another process: stop that one first, or set another "
                "`DATABASE_URL`."
            ) from error

    def release(self) -> None:
        """Let go. The lock file stays: removing it would let two processes hold two files of one name."""
        os.close(self._fd)


if sys.platform == "win32":
    import msvcrt

    def _take(fd: int) -> None:
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _take(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
