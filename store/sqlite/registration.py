"""Registers this process in the file, and fences it: its number is the token that every commit carries.

Invariants: `processes` lists the live processes. A process that is declared dead leaves the list, in a transaction, so
each of its later transactions finds it missing and is refused. A number is never used by two processes that live at a
time.
"""

import sqlite3
import time
from typing import Final

__all__ = ["NOBODY", "Fence", "machine_time", "register"]


NOBODY: Final = 0
"""The number of a process that is not registered: all of its commits are refused."""


def machine_time() -> float:
    """Return seconds of a clock that all processes of the machine share, that is never set, and that runs during sleep.

    SQLite's log needs shared memory, so all processes of a file run on one machine. The clock restarts with it.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def register(conn: sqlite3.Connection, *, is_single_process: bool) -> int:
    """Add this process to the list, and return its number. Blocks.

    A process that `is_single_process`, which its lock proves, continues under the number of the last one: all others
    are dead, and opening a file whose disk is full needs no write.
    """
    if is_single_process:
        known = [id for (id,) in conn.execute("SELECT id FROM processes ORDER BY id DESC")]
        if len(known) > 1:
            conn.execute("DELETE FROM processes WHERE id <> ?", known[:1])
        if known:
            return int(known[0])
    added = conn.execute("INSERT INTO processes (beat_at) VALUES (?)", (machine_time(),)).lastrowid
    assert added is not None, "an INSERT has a row number"
    return added


class Fence:
    """The number of this process, and the check of it in each transaction."""

    def __init__(self, process: int) -> None:
        self.process = process
        """Changes when the process registers again."""

    def admitted(self, conn: sqlite3.Connection) -> int | None:
        """Return the process whose commits this transaction accepts; None if it was declared dead."""
        process = self.process
        return process if conn.execute("SELECT 1 FROM processes WHERE id = ?", (process,)).fetchone() else None
