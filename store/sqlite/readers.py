"""Reads concurrently with the writer, in a few threads; each call has a read-only connection to itself.

Invariants: no reader ever writes, not even a checkpoint of the WAL. Owners are scheduled fairly: a read waits only for
a thread, never for all reads that another owner has asked for. Reads that can be long leave threads free for all other
reads. A read whose caller stops waiting before it starts is not done.
"""

import asyncio
import math
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from typing import Concatenate, Final, ParamSpec, TypeVar

from fairness.fair_limits import FairLimit
from store.sqlite.failures import failed
from telemetry.context import current_owner
from wire.errors import InvalidRequest, StoreFailed, ThreadholdError

__all__ = ["Readers", "check_time", "untimed"]

P = ParamSpec("P")
R = TypeVar("R")

_KEPT_FREE: Final = 2
"""Threads that long reads leave free for others."""

_PORTION: Final = 4
"""How many times as many threads one owner can use as it leaves free for others: four of five."""

_LONG_S: Final = 10.0
_STEPS: Final = 10_000
"""SQLite instructions between two checks of the time: about a millisecond."""


class Readers:
    """Calls functions with a read-only connection, as many at a time as there are connections. Each call is a
    transaction, so all its statements see the same commits."""

    def __init__(self, connections: Sequence[sqlite3.Connection]) -> None:
        self._executor = ThreadPoolExecutor(len(connections), "threadhold-reader")
        self._free: SimpleQueue[sqlite3.Connection] = SimpleQueue()  # never empty: as many threads as connections
        for connection in connections:
            self._free.put(connection)
        self._under_way: set[Future[None]] = set()
        self._closed = False
        self._threads = FairLimit(len(connections), portion=_PORTION)
        self._long = FairLimit(max(1, len(connections) - _KEPT_FREE), portion=1)

    async def run(self, read: Callable[Concatenate[sqlite3.Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Return `read(connection, …)`, called on a reader thread when the current owner is next.

        Raises StoreFailed if the database fails.
        """
        return await self._run(current_owner(), lambda connection: read(connection, *args, **kwargs))

    async def run_long(
        self,
        owner: str,
        read: Callable[Concatenate[sqlite3.Connection, P], R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """Return `read(connection, …)` as `run` does, when the owner is next. Use it for reads whose cost the
        owner controls. A read can call `check_time`; SQLite's own work is interrupted when the time is up.

        Raises InvalidRequest after `_LONG_S` seconds of work, StoreFailed if the database fails.
        """
        await self._long.acquire(owner)
        work = _within_time(lambda connection: read(connection, *args, **kwargs))
        return await self._run(owner, work, lambda: self._long.release(owner))

    def close(self, end: float) -> None:
        """Finish the reads in progress until `end` (`time.monotonic`), then close the connections. A connection whose
        read takes longer stays open."""
        self._closed = True
        self._executor.shutdown(wait=False)
        wait(self._under_way, max(0.0, end - time.monotonic()))
        while not self._free.empty():
            self._free.get().close()

    async def _run(
        self, owner: str, read: Callable[[sqlite3.Connection], R], done: Callable[[], None] = lambda: None
    ) -> R:
        """Read on a thread when the owner is next. `done` is called on the event loop, in any case."""

        def free() -> None:
            self._threads.release(owner)
            done()

        try:
            await self._threads.acquire(owner)
        except BaseException:
            done()
            raise
        try:
            future = self._submit(read, free)  # the thread's slot is free only when the thread is
        except BaseException:
            free()
            raise
        try:
            return await future
        except sqlite3.Error as error:
            raise failed("The store could not read", error) from error
        finally:
            del future  # its error refers to this frame, so they would form a cycle

    def _submit(self, read: Callable[[sqlite3.Connection], R], done: Callable[[], None]) -> "asyncio.Future[R]":
        """Start a read in a thread; `done` is called on the event loop when the thread is free.

        `asyncio.wrap_future` is not used, because its futures form a cycle that holds each result until the garbage
        collector runs.
        """
        if self._closed:
            raise StoreFailed("The store is closed.")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()

        def work() -> None:
            value, error = self._call(read)
            with suppress(RuntimeError):  # the loop is closed, so nothing awaits the result
                loop.call_soon_threadsafe(_set_result, future, value, error, done)

        started = self._executor.submit(work)
        self._under_way.add(started)
        started.add_done_callback(self._under_way.discard)
        return future

    def _call(self, read: Callable[[sqlite3.Connection], R]) -> tuple[R | None, BaseException | None]:
        connection = self._free.get()
        try:
            with _snapshot(connection):
                return read(connection), None
        except (sqlite3.Error, ThreadholdError) as error:
            return None, error.with_traceback(None)  # its frames hold what was read
        except BaseException as error:
            return None, error
        finally:
            self._free.put(connection)


@contextmanager
def _snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Let all statements of the block see the same commits, so a row that one of them finds exists for the others."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:  # SQLite itself ends the transaction after some errors
            connection.execute("ROLLBACK")


def _set_result(
    future: "asyncio.Future[R]", value: R | None, error: BaseException | None, done: Callable[[], None]
) -> None:
    done()
    if future.done():  # its waiter was cancelled
        return
    if error is None:
        future.set_result(value)  # type: ignore[arg-type]
    else:
        future.set_exception(error)


_ENDS: Final = threading.local()


def check_time() -> None:
    """Raise InvalidRequest if a long read on this thread has taken too long. Costs well below a microsecond."""
    end: float | None = getattr(_ENDS, "at", None)
    if end is not None and time.monotonic() > end:
        raise _too_long()


@contextmanager
def untimed() -> Iterator[None]:
    """Do not count the time of the block, for work that is limited otherwise, and whose result is kept."""
    end: float | None = getattr(_ENDS, "at", None)
    since = time.monotonic()
    if end is not None:
        _ENDS.at = math.inf
    try:
        yield
    finally:
        if end is not None:
            _ENDS.at = end + time.monotonic() - since


def _within_time(call: Callable[[sqlite3.Connection], R]) -> Callable[[sqlite3.Connection], R]:
    def work(connection: sqlite3.Connection) -> R:
        _ENDS.at = time.monotonic() + _LONG_S
        connection.set_progress_handler(lambda: time.monotonic() > _ENDS.at, _STEPS)
        try:
            return call(connection)
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT:
                raise _too_long() from error
            raise
        finally:
            connection.set_progress_handler(None, 0)
            _ENDS.at = None

    return work


def _too_long() -> InvalidRequest:
    return InvalidRequest(
        f"The request needs more than the {_LONG_S:g} seconds of reading that are allowed. Search fewer or smaller "
        "vector stores, use shorter filters, or ask for fewer objects at a time.",
        code="request_too_slow",
    )
