"""Reading beside the writer: a few threads, each call with a read-only connection of its own.

Law: no SQLite call on the event loop, and no reader ever writes, not even a checkpoint of the WAL.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Concatenate, ParamSpec, TypeVar

from wire.errors import StoreFailed

__all__ = ["Readers"]

P = ParamSpec("P")
R = TypeVar("R")


class Readers:
    """Runs functions of a read-only connection, as many at a time as there are connections."""

    def __init__(self, connections: Sequence[sqlite3.Connection]) -> None:
        self._connections = connections
        self._free: SimpleQueue[sqlite3.Connection] = SimpleQueue()
        for connection in connections:
            self._free.put(connection)
        self._pool = ThreadPoolExecutor(len(connections), "threadhold-reader")
        self._closed = False

    async def run(self, read: Callable[Concatenate[sqlite3.Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Return `read(connection, …)`, called on a reader thread. Raises StoreFailed when the database fails."""
        if self._closed:
            raise StoreFailed("The store is closed.")
        try:
            return await asyncio.wrap_future(
                self._pool.submit(self._call, lambda connection: read(connection, *args, **kwargs))
            )
        except sqlite3.Error as error:
            raise StoreFailed(f"The store could not read: {error}.") from error

    def close(self) -> None:
        """Finish the reads under way, then close the connections; waits for the threads."""
        self._closed = True
        self._pool.shutdown(wait=True)
        for connection in self._connections:
            connection.close()

    def _call(self, read: Callable[[sqlite3.Connection], R]) -> R:
        connection = self._free.get()  # never waits: there are as many as threads
        try:
            return read(connection)
        finally:
            self._free.put(connection)
