"""One open SQLite file: its lock, the writer thread, the readers, and the commits in progress.

Invariants: commits are made in the order of the requests, and a request never blocks. A read waits for the commits that
it must see, and for no others. While the file is open here, no other process opens it for writing, unless all of them
share it.
"""

import asyncio
import os
import sqlite3
import tempfile
import time
from asyncio import AbstractEventLoop, Future
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, TypeVar

from sqlite_utils import Database

from store.path_conflicts import find_path_conflict
from store.ports import Row, StoreMetrics
from store.sqlite.changes import Operation, write_unchanged_page
from store.sqlite.disk_reserve import DiskReserve, reserve_path
from store.sqlite.failures import failed
from store.sqlite.large_reads import LargeReads
from store.sqlite.lock import FileLock
from store.sqlite.migrations import migrate
from store.sqlite.pending import Pending
from store.sqlite.readers import Readers
from store.sqlite.registration import Fence, register
from store.sqlite.transactions import Commit, Outcomes, never
from store.sqlite.writer import Writer
from telemetry.context import current_owner
from wire.errors import LeaseLost, StoreError, StoreFailed, ThreadholdError

__all__ = ["Engine", "LargeRead", "Trace", "create_or_migrate"]

_READERS: Final = 5
_CLOSE_S: Final = 30.0
_MIGRATE_S: Final = 600.0
"""How long a process waits for another one that migrates the file."""
_LOOK_S: Final = 0.02
_SOON_S: Final = 0.001
"""How long a commit that is not awaited is held back, unless an awaited one comes. Otherwise it would compete for the
interpreter while the event that it stores is being sent."""

_SMALL_READ_BYTES: Final = 256 * 1024

_LARGE_READS: Final = 2
"""Concurrent reads of more than `_SMALL_READ_BYTES` per owner."""

Trace = Callable[[str], None]
"""Called with every SQL statement, with its values, on the thread that executes it."""

P = ParamSpec("P")
R = TypeVar("R")


class LargeRead(ThreadholdError):
    """A read would return more bytes than it is allowed to."""

    def __init__(self) -> None:
        super().__init__("The read is too large.")


class Engine:
    """The open file. Create it with `Engine.open`, end it with `close`. It belongs to the event loop that opened it."""

    def __init__(
        self,
        path: Path,
        *,
        loop: AbstractEventLoop,
        synced: bool,
        busy_timeout_s: float,
        trace: Trace | None,
        reserve_bytes: int = 0,
        is_shared: bool = False,
    ) -> None:
        """Open the file; blocks. If it raises, nothing is left open."""
        self.pending = Pending()
        self.lost = asyncio.Event()
        """Set when a commit was refused because this process was declared dead."""
        self._loop = loop
        self._closed = False
        self._held: list[Commit] = []
        wait_s = _MIGRATE_S if is_shared else busy_timeout_s
        with ExitStack() as undo:
            self._lock = FileLock(path, is_shared=is_shared)
            undo.callback(self._lock.release)
            # It contains secrets: only the user of this process has access, also to its -wal and -shm.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            reserve = DiskReserve(reserve_path(path), reserve_bytes)
            writing = undo.enter_context(closing(_open_writing(path, wait_s, trace, reserve)))
            writing.execute(f"PRAGMA busy_timeout = {round(busy_timeout_s * 1_000)}")
            self.fence = Fence(register(writing, is_single_process=not is_shared))
            reading = [
                undo.enter_context(closing(_connect(path, busy_timeout_s, trace, read_only=True)))
                for _ in range(_READERS)
            ]
            undo.pop_all()
        self._readers = Readers(reading)
        self.large_reads = LargeReads(_LARGE_READS)
        self._connection = writing
        self._writer = Writer(
            writing,
            loop=loop,
            deliver=self._deliver,
            fence=self.fence,
            busy_timeout_s=busy_timeout_s,
            synced=synced,
            reserve=reserve,
        )
        self._writer.start()

    @classmethod
    async def open(
        cls,
        path: Path | None,
        *,
        busy_timeout_s: float,
        trace: Trace | None,
        reserve_bytes: int = 0,
        is_shared: bool = False,
    ) -> "Engine":
        """Open a file; None opens a temporary one. Raises StoreFailed.

        `reserve_bytes` of the disk are reserved for changes that free space (see `store.sqlite.disk_reserve`). A file
        that `is_shared` can be open in several processes, all of which share it.
        """
        loop = asyncio.get_running_loop()

        def work() -> Engine:
            if path is None:
                return _Temporary(loop=loop, busy_timeout_s=busy_timeout_s, trace=trace)
            try:
                whole = path.expanduser().resolve()
                if (conflict := find_path_conflict("The database", whole)) is not None:
                    raise StoreFailed(conflict)
                whole.parent.mkdir(parents=True, exist_ok=True)
                return cls(
                    whole,
                    loop=loop,
                    synced=True,
                    busy_timeout_s=busy_timeout_s,
                    trace=trace,
                    reserve_bytes=reserve_bytes,
                    is_shared=is_shared,
                )
            except (OSError, sqlite3.Error) as error:
                raise failed(f"The database `{path}` could not be opened", error) from error

        return await asyncio.to_thread(work)

    def queue(
        self,
        operations: Sequence[Operation],
        *,
        touched: frozenset[str],
        durable: bool = False,
        size: int | None = None,
        changed_runs: frozenset[str] = frozenset(),
        ended_runs: frozenset[str] = frozenset(),
        checkpointed_run: str | None = None,
        completes_checkpoint: bool = False,
        on_failure: Callable[[], None] | None = None,
        frees_space: Callable[[], bool] = never,
        registers: bool = False,
        owner: str | None = None,
    ) -> "Future[list[Row]]":
        """Queue one commit; cancelling the future does not withdraw it. See `store.sqlite.transactions.Commit`.

        An owner's commits keep their order. Without an `owner`, the commit belongs to the owner of the commits in
        progress that touch the same objects, or to the current owner if there are none.

        Raises LeaseLost (through the future) if this process was declared dead, unless the commit `registers` it.
        """
        future: Future[list[Row]] = self._loop.create_future()
        if owner is None and (owner := self.pending.owner_of(touched)) is None:
            owner = current_owner()
        commit = Commit(
            operations,
            durable,
            touched,
            future,
            size,
            changed_runs,
            ended_runs,
            checkpointed_run,
            completes_checkpoint,
            on_failure,
            owner=owner,
            frees_space=frees_space,
            process=None if registers else self.fence.process,
        )
        if self._closed or not self._writer.is_running:
            _fail(commit, StoreFailed("The store is closed."))
            return future
        self.pending.add(commit)
        if not self._held and not durable:
            self._loop.call_later(_SOON_S, self._put)
        self._held.append(commit)
        if durable:
            self._put()
        return future

    async def probe(self) -> None:
        """Commit and sync an empty change that counts as growth, so that a full disk refuses it. Raises StoreError."""
        await self.queue([write_unchanged_page], touched=frozenset(), durable=True)

    def _put(self) -> None:
        held, self._held = self._held, []
        for commit in held:
            self._writer.put(commit)

    @property
    def metrics(self) -> StoreMetrics:
        """The metrics of the writer."""
        return self._writer.metrics

    @property
    def waiting(self) -> int:
        """The number of commits that wait for the writer."""
        return len(self._held) + self._writer.waiting

    async def read(self, read: Callable[Concatenate[sqlite3.Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Return `read(connection, …)`, called on a reader thread. First wait on `pending` for what it must see."""
        return await self._readers.run(read, *args, **kwargs)

    async def read_long(
        self, owner: str, read: Callable[Concatenate[sqlite3.Connection, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Return `read(connection, …)` as `read` does, but fairly by owner; see `Readers.run_long`."""
        return await self._readers.run_long(owner, read, *args, **kwargs)

    async def read_rows(self, owner: str, read: Callable[..., R], *args: object) -> R:
        """Return `read(connection, …)` of a few rows as `read` does. Large ones are limited in number per owner.

        `read` gets `maximum`, the number of bytes beyond which it raises `LargeRead`, or None.
        """
        with suppress(LargeRead):
            return await self.read(_read_small, read, *args)
        async with self.large_reads.slot(owner):  # outside `with`: the exception's frames hold what was read
            return await self.read(read, *args)

    async def close(self) -> None:
        """Commit what is queued, end the threads, close the file; within half a minute, even if cancelled."""
        if not self._closed:
            self._closed = True
            self._put()
            self._writer.drain()
            # It continues if the wait for it is cancelled.
            await asyncio.shield(self._loop.run_in_executor(None, self._close))

    def _close(self) -> None:
        end = time.monotonic() + _CLOSE_S
        stopped = self._writer.stop(end)
        self._readers.close(end)
        if not stopped:  # its connection is in use, so the file stays locked
            raise StoreFailed(f"The store's writer did not end within {_CLOSE_S:.0f} s.")
        # The writing connection closes last: it removes the WAL, which a read-only one cannot.
        self._connection.close()
        self._lock.release()

    def _deliver(self, outcomes: Outcomes) -> None:
        for commit, outcome in outcomes:
            self.pending.remove(commit)
            if isinstance(outcome, StoreError):
                if isinstance(outcome, LeaseLost) and commit.process == self.fence.process:
                    self.lost.set()
                _fail(commit, outcome)
                continue
            for row in outcome:
                self.pending.remember_thread(row)
            if not commit.future.done():
                commit.future.set_result(outcome)


def _read_small(connection: sqlite3.Connection, read: Callable[..., R], *args: object) -> R:
    """Return `read(connection, …, most=…)`. SQLite itself stops at a longer value, before it reads it."""
    usual = connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _SMALL_READ_BYTES)
    try:
        return read(connection, *args, maximum=_SMALL_READ_BYTES)
    except sqlite3.DataError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_TOOBIG:
            raise LargeRead from None
        raise
    finally:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, usual)


class _Temporary(Engine):
    """A file in a temporary folder that is removed when the store is closed; never synced."""

    def __init__(self, *, loop: AbstractEventLoop, busy_timeout_s: float, trace: Trace | None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="threadhold-")
        path = Path(self._folder.name).resolve() / "threadhold.db"
        super().__init__(path, loop=loop, synced=False, busy_timeout_s=busy_timeout_s, trace=trace)

    def _close(self) -> None:
        try:
            super()._close()
        finally:
            self._folder.cleanup()


def _open_writing(path: Path, busy_timeout_s: float, trace: Trace | None, reserve: DiskReserve) -> sqlite3.Connection:
    """Open the only connection that writes, and migrate the file; on a full disk, use the reserve's space."""
    try:
        connection = _prepared(path, busy_timeout_s, trace)
    except sqlite3.OperationalError:
        for _ in reserve.release_in_portions():
            with suppress(sqlite3.OperationalError):
                return _prepared(path, busy_timeout_s, trace)
        raise
    reserve.refill()
    return connection


def create_or_migrate(path: Path) -> None:
    """Create a file that no process has open, or migrate it. Blocks. Raises StoreFailed, OSError, sqlite3.Error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        _open_writing(path, _MIGRATE_S, None, DiskReserve(reserve_path(path), 0)).close()
    finally:
        lock.release()


def _prepared(path: Path, busy_timeout_s: float, trace: Trace | None) -> sqlite3.Connection:
    connection = _connect(path, busy_timeout_s, trace)
    try:
        # Journals of single statements stay in memory: a deletion then needs no other disk and no free space.
        connection.execute("PRAGMA temp_store = MEMORY")
        _use_wal(connection, until=time.monotonic() + busy_timeout_s)
        # Debian's SQLite overwrites deleted data with zeros, in the log, so a deletion would need as much space.
        connection.execute("PRAGMA secure_delete = FAST")
        migrate(Database(connection), str(path))
        # Checkpoints of runs that were deleted with their thread before their last checkpoint was committed.
        connection.execute("DELETE FROM checkpoints WHERE run_id NOT IN (SELECT id FROM runs)")
        connection.execute("DELETE FROM checkpoint_writes WHERE run_id NOT IN (SELECT id FROM runs)")
    except BaseException:
        connection.close()
        raise
    return connection


def _use_wal(connection: sqlite3.Connection, *, until: float) -> None:
    """Switch to a write-ahead log. SQLite itself does not wait here if another process has a lock on the file."""
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(_LOOK_S)


def _fail(commit: Commit, error: StoreError) -> None:
    if commit.on_failure is not None:
        commit.on_failure()
    if not commit.future.done():
        commit.future.set_exception(error)
        # Retrieved so that asyncio does not log an unretrieved exception of a commit that is not awaited.
        commit.future.exception()


def _connect(path: Path, busy_timeout_s: float, trace: Trace | None, *, read_only: bool = False) -> sqlite3.Connection:
    uri = path.as_uri() + ("?mode=ro" if read_only else "?mode=rw")
    connection = sqlite3.connect(
        uri, uri=True, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    connection.set_trace_callback(trace)
    return connection
