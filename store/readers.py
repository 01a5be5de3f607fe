"""Reading beside the writer: a few threads, each with a read-only connection of its own.

Invariants: no reader ever writes, not even a checkpoint of the WAL. Reads that are requested in one iteration of the
event loop share one hop to a thread, which costs several times as much as a point read. Reads that can be long run
alone, owners take turns at them, and they leave threads free for all other reads.
"""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from store.failures import failed
from watch.shares import Shares
from wire.errors import InvalidRequest, StoreFailed, ThreadholdError

__all__ = ["Readers", "check_time"]

P = ParamSpec("P")
R = TypeVar("R")

_MOST: Final = 8
"""Reads of one hop; more go to the other threads."""

_KEPT_FREE: Final = 2
"""Threads that long reads leave free for others."""

_LONG_S: Final = 10.0
_STEPS: Final = 10_000
"""SQLite instructions between two checks of the time: about a millisecond."""


class Readers:
    """Runs functions of a read-only connection, as many at a time as there are connections.

    An executor does the same, and takes as long for a hop as the reads of a turn do.
    """

    def __init__(self, connections: Sequence[sqlite3.Connection]) -> None:
        self._hops: SimpleQueue[_Hop | None] = SimpleQueue()
        self._asked: list[_Read] = []
        self._closed = False
        self._closing = threading.Lock()
        self._long = Shares(max(1, len(connections) - _KEPT_FREE), portion=1)
        self._threads = [
            (threading.Thread(target=self._work, args=(one,), name=f"threadhold-reader-{number}", daemon=True), one)
            for number, one in enumerate(connections)
        ]
        for thread, _ in self._threads:
            thread.start()

    async def run(self, read: Callable[Concatenate[sqlite3.Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Return `read(connection, …)`, called on a reader thread. Raises StoreFailed when the database fails."""
        if self._closed:
            raise StoreFailed("The store is closed.")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        if not self._asked:
            loop.call_soon(self._submit, loop)
        self._asked.append(_Read(lambda connection: read(connection, *args, **kwargs), future))
        return await _result(future)

    async def run_long(
        self,
        owner: str,
        read: Callable[Concatenate[sqlite3.Connection, P], R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """Return `read(connection, …)` as `run` does, when it is the owner's turn. Use it for reads whose cost the
        owner controls. A read can call `check_time`; SQLite's own work is interrupted when the time is up.

        Raises InvalidRequest after `_LONG_S` seconds of work, StoreFailed when the database fails.
        """
        await self._long.acquire(owner)
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        work = _within_time(lambda connection: read(connection, *args, **kwargs))
        # The slot is free only when the thread is, even if nobody waits for the result any more.
        self._send(future.get_loop(), (_Read(work, future, lambda: self._long.release(owner)),))
        return await _result(future)

    def close(self, end: float) -> None:
        """Finish the reads under way until `end` (`time.monotonic`), then close the connections; one whose read takes
        longer stays open."""
        with self._closing:
            self._closed = True
            for _ in self._threads:
                self._hops.put(None)
        for thread, connection in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
            if not thread.is_alive():
                connection.close()

    def _submit(self, loop: asyncio.AbstractEventLoop) -> None:
        asked, self._asked = self._asked, []
        for start in range(0, len(asked), _MOST):
            self._send(loop, asked[start : start + _MOST])

    def _send(self, loop: asyncio.AbstractEventLoop, reads: Sequence["_Read"]) -> None:
        with self._closing:
            if not self._closed:
                self._hops.put((loop, reads))
                return
        _settle(reads, [(None, StoreFailed("The store is closed."))] * len(reads))

    def _work(self, connection: sqlite3.Connection) -> None:
        while (hop := self._hops.get()) is not None:
            loop, reads = hop
            outcomes: Outcomes | BaseException
            try:
                outcomes = [_outcome(read.call, connection) for read in reads]
            except BaseException as broken:
                outcomes = broken
            with suppress(RuntimeError):  # the loop is closed, and nobody waits any more
                loop.call_soon_threadsafe(self._back, loop, reads, outcomes)
            del hop, reads, outcomes  # what was read is not kept until the next one

    def _back(
        self, loop: asyncio.AbstractEventLoop, reads: Sequence["_Read"], outcomes: "Outcomes | BaseException"
    ) -> None:
        """Hand out what a hop brought. A read that broke it (a defect, text that is no Unicode) may harm no other and
        leave nobody waiting: each goes again by itself."""
        if not isinstance(outcomes, BaseException):
            _settle(reads, outcomes)
        elif len(reads) == 1:
            _settle(reads, [(None, outcomes)])
        else:
            for read in reads:
                self._send(loop, (read,))


@dataclass(frozen=True, slots=True)
class _Read:
    """A read, the future of its waiter, and what the event loop calls when its thread is free."""

    call: Callable[[sqlite3.Connection], Any]
    future: "asyncio.Future[Any]"
    done: Callable[[], None] | None = None


Outcomes = list[tuple[Any, BaseException | None]]
_Hop = tuple[asyncio.AbstractEventLoop, Sequence[_Read]]


_ENDS: Final = threading.local()


def check_time() -> None:
    """Raise InvalidRequest if a long read on this thread has taken too long. Costs well below a microsecond."""
    end: float | None = getattr(_ENDS, "at", None)
    if end is not None and time.monotonic() > end:
        raise _too_long()


def _within_time(call: Callable[[sqlite3.Connection], R]) -> Callable[[sqlite3.Connection], R]:
    def work(connection: sqlite3.Connection) -> R:
        end = _ENDS.at = time.monotonic() + _LONG_S
        connection.set_progress_handler(lambda: time.monotonic() > end, _STEPS)
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


async def _result(future: "asyncio.Future[R]") -> R:
    try:
        return await future
    except sqlite3.Error as error:
        raise failed("The store could not read", error) from error


def _outcome(call: Callable[[sqlite3.Connection], Any], connection: sqlite3.Connection) -> tuple[Any, Exception | None]:
    try:
        return call(connection), None
    except (sqlite3.Error, ThreadholdError) as error:
        return None, error.with_traceback(None)  # the exception's frames hold what was read


def _settle(reads: Sequence[_Read], outcomes: Outcomes) -> None:
    for read, (value, error) in zip(reads, outcomes, strict=True):
        if read.done is not None:
            read.done()
        if read.future.done():
            continue
        if error is None:
            read.future.set_result(value)
        else:
            read.future.set_exception(error)
