"""Reading beside the writer: a few threads, each with a read-only connection of its own.

Laws: no SQLite call on the event loop; no reader ever writes, not even a checkpoint of the WAL; reads that are asked
for in one turn of the event loop share one hop to a thread, which costs several times what a point read does.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from store.failures import failed
from wire.errors import StoreFailed, ThreadholdError

__all__ = ["Readers"]

P = ParamSpec("P")
R = TypeVar("R")

_MOST: Final = 8
"""Reads of one hop; more go to the other threads."""


class Readers:
    """Runs functions of a read-only connection, as many at a time as there are connections."""

    def __init__(self, connections: Sequence[sqlite3.Connection]) -> None:
        self._connections = connections
        self._free: SimpleQueue[sqlite3.Connection] = SimpleQueue()
        for connection in connections:
            self._free.put(connection)
        self._pool = ThreadPoolExecutor(len(connections), "threadhold-reader")
        self._asked: list[_Read] = []
        self._closed = False

    async def run(self, read: Callable[Concatenate[sqlite3.Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Return `read(connection, …)`, called on a reader thread. Raises StoreFailed when the database fails."""
        if self._closed:
            raise StoreFailed("The store is closed.")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        if not self._asked:
            loop.call_soon(self._submit, loop)
        self._asked.append(_Read(lambda connection: read(connection, *args, **kwargs), future))
        try:
            return await future
        except sqlite3.Error as error:
            raise failed("The store could not read", error) from error

    def close(self) -> None:
        """Finish the reads under way, then close the connections; waits for the threads."""
        self._closed = True
        self._pool.shutdown(wait=True)
        for connection in self._connections:
            connection.close()

    def _submit(self, loop: asyncio.AbstractEventLoop) -> None:
        asked, self._asked = self._asked, []
        for start in range(0, len(asked), _MOST):
            self._send(loop, asked[start : start + _MOST])

    def _send(self, loop: asyncio.AbstractEventLoop, reads: Sequence["_Read"]) -> None:
        try:
            hop = self._pool.submit(self._serve, reads)
        except RuntimeError:  # closed in the meantime
            closed = StoreFailed("The store is closed.")
            _settle(reads, [(None, closed)] * len(reads))
        else:
            hop.add_done_callback(lambda done: loop.call_soon_threadsafe(self._back, loop, reads, done))

    def _back(self, loop: asyncio.AbstractEventLoop, reads: Sequence["_Read"], hop: "Hop") -> None:
        """Hand out what a hop brought. A read that broke it (a defect, text that is no Unicode) may harm no other and
        leave nobody waiting: each goes again by itself."""
        broken = hop.exception()
        if broken is None:
            _settle(reads, hop.result())
        elif len(reads) == 1:
            _settle(reads, [(None, broken)])
        else:
            for read in reads:
                self._send(loop, (read,))

    def _serve(self, reads: Sequence["_Read"]) -> "Outcomes":
        connection = self._free.get()  # never waits: there are as many as threads
        try:
            return [_outcome(read.call, connection) for read in reads]
        finally:
            self._free.put(connection)


@dataclass(frozen=True, slots=True)
class _Read:
    """What was asked for, and who waits for it."""

    call: Callable[[sqlite3.Connection], Any]
    future: "asyncio.Future[Any]"


Outcomes = list[tuple[Any, BaseException | None]]
Hop = Future[Outcomes]


def _outcome(call: Callable[[sqlite3.Connection], Any], connection: sqlite3.Connection) -> tuple[Any, Exception | None]:
    try:
        return call(connection), None
    except (sqlite3.Error, ThreadholdError) as error:
        return None, error


def _settle(reads: Sequence[_Read], outcomes: Outcomes) -> None:
    for read, (value, error) in zip(reads, outcomes, strict=True):
        if read.future.done():
            continue
        if error is None:
            read.future.set_result(value)
        else:
            read.future.set_exception(error)
