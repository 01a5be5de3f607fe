"""A batch of commits as one transaction on the writing connection.

Invariants: a commit of a process that was declared dead is refused. A commit that is refused leaves nothing behind and
affects no other commit. If a batch fails as a whole (disk full, file locked), nothing is stored and every commit in it
fails. A batch is synced to disk if one of its commits is
durable. On a full disk, commits that free space are retried with the reserve's space, without the rest of their batch.
"""

import logging
import math
import sqlite3
import time
from asyncio import Future
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from store.ports import Row, StoreMetrics
from store.sqlite.changes import Operation
from store.sqlite.disk_reserve import DiskReserve
from store.sqlite.failures import failed
from store.sqlite.log_limit import LogLimit
from store.sqlite.registration import Fence
from wire.errors import LeaseLost, StoreError, StoreFailed, StoreLocked

__all__ = ["Commit", "Outcomes", "Transactions", "never"]

log = logging.getLogger("threadhold.store")

_SHORT_WAIT_MS: Final = 250  # for a lock that has already lasted longer than the timeout

_REFUSED = (
    *(StoreError, sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError, OverflowError),
    MemoryError,
)
"""Errors of the commit itself (a value too large, …); any other sqlite3.Error is the database's."""


_WARN_S: Final = 60.0

_MAYBE_FULL: Final = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN})
"""What SQLite reports if there is no space. It treats a quota, and growth of its shared memory, as I/O errors."""


_BATCH_S: Final = 0.05
"""Seconds that a batch's statements can take: a small change can rewrite a large row. The rest of the batch is left to
later ones."""

_LONG_BYTES: Final = 8 * 1024
"""The size assumed for a commit that can touch any number of rows."""


def _full() -> sqlite3.OperationalError:
    """Return the error that SQLite raises on a full disk, for use before the disk is full."""
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    return error


def never() -> bool:
    """The default of `Commit.frees_space`."""
    return False


@dataclass(slots=True, eq=False)
class Commit:
    """Operations that are committed or refused together, and the future of their caller.

    `size` is what they write, in bytes; None if they can touch any number of rows. `checkpointed_run` is the run
    whose checkpoint this writes, `completes_checkpoint` whether the checkpoint is complete; `ended_runs` are runs whose
    checkpoints it drops, `changed_runs` are runs that it changes.
    """

    operations: Sequence[Operation]
    durable: bool
    touched: frozenset[str]
    future: "Future[list[Row]]"
    size: int | None = None
    changed_runs: frozenset[str] = frozenset()
    ended_runs: frozenset[str] = frozenset()
    checkpointed_run: str | None = None
    completes_checkpoint: bool = False
    on_failure: Callable[[], None] | None = None
    """Called on the event loop if the commit was not kept."""
    owner: str = ""
    """The owner of the changed objects. Owners are scheduled fairly, and each owner's commits keep their order."""
    frees_space: Callable[[], bool] = never
    """Whether it frees space or ends something; called only when the disk is full."""
    process: int | None = None
    """The number of this process when it made the commit; None if the commit registers it."""
    duration_s: float = 0.0
    """The time that it took, including its share of the transaction's overhead; set after it has run."""
    finished: "Future[None] | None" = field(default=None)
    """Made by the first read that has to wait. The caller's own future can be cancelled, this one is not."""

    @property
    def counted_bytes(self) -> int:
        """The bytes that it writes, or an assumed size if that is unknown."""
        return _LONG_BYTES if self.size is None else self.size


Outcomes = list[tuple[Commit, list[Row] | StoreError]]


class Transactions:
    """Runs batches, one after the other. The caller makes sure that calls do not overlap."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        fence: Fence,
        busy_timeout_s: float,
        synced: bool,
        reserve: DiskReserve | None = None,
    ) -> None:
        """Without `synced`, nothing ever waits for the disk. `fence` refuses the commits of a dead process.

        A batch waits for a foreign lock for `busy_timeout_s`. After a lock that lasted longer, each batch waits only
        for a moment until the lock is gone: consecutive commits must not each wait that long.
        """
        self.metrics = StoreMetrics()
        self._conn = connection
        self._fence = fence
        self._admitted: int | None = None
        """The process whose commits are accepted in the current transaction."""
        self._synced = synced
        self._reserve = reserve
        self._log_limit = LogLimit(connection)
        self._level = ""
        self._busy_timeout_ms = int(busy_timeout_s * 1000)
        self._waits_ms = self._busy_timeout_ms
        self._set_ms = self._busy_timeout_ms
        self._unsaved: set[str] = set()
        self._warned_at = float("-inf")

    def run(self, batch: Sequence[Commit]) -> Outcomes:
        """Run and commit a batch, or its first commits if they take long; waits for locks and for the disk.

        Outcomes are in the order of the batch; those of commits that have not been run are missing.
        """
        unsaved, begun_at = set(self._unsaved), time.perf_counter()
        try:
            if not self._has_disk_space(batch):
                raise _full()
            self._set(durable=any(commit.durable for commit in batch), wait_ms=self._waits_ms)
            outcomes = self._run_together(batch)
            if outcomes is None:
                self._unsaved = set(unsaved)
                outcomes = self._run_with_savepoints(batch)
            if self._conn.in_transaction:
                self._conn.execute("COMMIT")
        except (sqlite3.Error, MemoryError) as error:
            self._abort()
            self._unsaved = unsaved | {
                commit.checkpointed_run for commit in batch if commit.checkpointed_run is not None
            }
            return self._failed(batch, error)
        return self._kept(outcomes, begun_at)

    def _kept(self, outcomes: Outcomes, begun_at: float) -> Outcomes:
        self._waits_ms = self._busy_timeout_ms
        batch_s = time.perf_counter() - begun_at
        self.metrics.batch_commits.add(len(outcomes))
        self.metrics.batch_seconds.add(batch_s)
        statements_s = sum(commit.duration_s for commit, _ in outcomes) or 1.0
        for commit, _ in outcomes:
            commit.duration_s *= batch_s / statements_s
        if self._reserve is not None:
            self._reserve.refill()
        self._log_limit.enforce()
        return outcomes

    def _failed(self, batch: Sequence[Commit], error: sqlite3.Error | MemoryError) -> Outcomes:
        failure = failed("The store could not commit", error)
        if isinstance(failure, StoreLocked):
            self._waits_ms = min(self._busy_timeout_ms, _SHORT_WAIT_MS)
        if self._reserve is None or getattr(error, "sqlite_errorcode", 0) & 0xFF not in _MAYBE_FULL:
            return self._lost(batch, failure)
        freeing = [commit for commit in batch if commit.frees_space()]
        outcomes = self._write_with_reserve(freeing, self._reserve) if freeing else None
        if outcomes is None:
            return self._lost(batch, failure)
        if time.monotonic() - self._warned_at > _WARN_S:
            self._warned_at = time.monotonic()
            log.warning("the disk is full: changes that free space use the space that is reserved for them")
        others = [commit for commit in batch if commit not in freeing]
        return [*outcomes, *(self._lost(others, failure) if others else [])]

    def _write_with_reserve(self, batch: Sequence[Commit], reserve: DiskReserve) -> Outcomes | None:
        """Run commits that free space, using the reserve's space; None if that is not enough."""
        begun_at, unsaved = time.perf_counter(), set(self._unsaved)
        for space in reserve.release_in_portions():
            try:
                self._set(durable=any(commit.durable for commit in batch), wait_ms=_SHORT_WAIT_MS)
                if reserve.growth(self._conn) < space // 2:
                    self._rewind_log()  # otherwise it would take all of the space, and leave none for the batch
                outcomes = self._run_with_savepoints(batch, math.inf)
                self._conn.execute("COMMIT")
                if reserve.growth(self._conn) < space // 2:
                    self._rewind_log()  # the pages are written into the file while there is space for its growth
                break
            except (sqlite3.Error, OSError):
                self._abort()
                self._unsaved = set(unsaved)
        else:
            return None
        return self._kept(outcomes, begun_at)

    def _has_disk_space(self, batch: Sequence[Commit]) -> bool:
        if self._reserve is None:
            return True
        return self._reserve.has_space(self._conn, sum([commit.counted_bytes for commit in batch]))

    def _rewind_log(self) -> None:
        """Restart the log within the space that it has."""
        with suppress(sqlite3.Error):
            self._conn.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()

    def _lost(self, batch: Sequence[Commit], error: StoreError) -> Outcomes:
        self.metrics.failed += 1
        log.error("a batch of %d commits failed: %s", len(batch), error.message)
        return [(commit, error) for commit in batch]

    def _set(self, *, durable: bool, wait_ms: int) -> None:
        if wait_ms != self._set_ms:
            self._conn.execute(f"PRAGMA busy_timeout = {wait_ms}")
            self._set_ms = wait_ms
        level = ("FULL" if durable else "NORMAL") if self._synced else "OFF"
        if level != self._level:
            self._conn.execute(f"PRAGMA synchronous = {level}")
            self._level = level

    def _abort(self) -> None:
        with suppress(sqlite3.Error):  # then the next BEGIN fails, and reports it
            self._roll_back()

    def _roll_back(self) -> None:
        # SQLite can have rolled back by itself (disk full, I/O error).
        if self._conn.in_transaction:
            self._conn.execute("ROLLBACK")

    def _begin(self) -> None:
        self._conn.execute("BEGIN IMMEDIATE")
        self._admitted = self._fence.admitted(self._conn)

    def _run_together(self, batch: Sequence[Commit]) -> Outcomes | None:
        """Run a batch without savepoints, for `_BATCH_S`; return None, and keep nothing, if one of several commits is
        refused. That is rare, and two more statements for each commit would be a third of all."""
        self._begin()
        try:
            outcomes: Outcomes = []
            until = time.perf_counter() + _BATCH_S
            for commit in batch:
                outcomes.append((commit, self._run(commit)))
                if time.perf_counter() > until:
                    break
            return outcomes
        except _REFUSED as error:
            self._roll_back()
            return [(batch[0], self._refuse(batch[0], error))] if len(batch) == 1 else None

    def _run_with_savepoints(self, batch: Sequence[Commit], limit_s: float = _BATCH_S) -> Outcomes:
        """Run a batch, for `limit_s`, with a savepoint for each commit."""
        self._begin()
        outcomes: Outcomes = []
        until = time.perf_counter() + limit_s
        for commit in batch:
            self._conn.execute("SAVEPOINT one")
            try:
                outcomes.append((commit, self._run(commit)))
            except _REFUSED as error:
                self._conn.execute("ROLLBACK TO one")
                outcomes.append((commit, self._refuse(commit, error)))
            self._conn.execute("RELEASE one")
            if time.perf_counter() > until:
                break
        return outcomes

    def _run(self, commit: Commit) -> list[Row]:
        begun_at = time.perf_counter()
        try:
            return self._apply(commit)
        finally:
            commit.duration_s = time.perf_counter() - begun_at

    def _apply(self, commit: Commit) -> list[Row]:
        if commit.process != self._admitted and commit.process is not None:
            raise LeaseLost
        self._check_saved(commit)
        rows = [row for operation in commit.operations if (row := operation(self._conn)) is not None]
        self._unsaved -= commit.ended_runs
        if commit.completes_checkpoint and commit.checkpointed_run is not None:
            self._unsaved.discard(commit.checkpointed_run)
        return rows

    def _refuse(self, commit: Commit, error: Exception) -> StoreError:
        if commit.checkpointed_run is not None and not isinstance(error, LeaseLost):  # then the run is stopped
            self._unsaved.add(commit.checkpointed_run)
        self.metrics.refused += 1
        if isinstance(error, StoreError):
            return error
        reason = "the memory is full" if isinstance(error, MemoryError) else error
        return StoreFailed(f"The store cannot keep this: {reason}.")

    def _check_saved(self, commit: Commit) -> None:
        """Refuse to acknowledge a run whose checkpoint, which is not awaited, was lost; it can only be ended."""
        if commit.durable and (lost := self._unsaved & commit.changed_runs - commit.ended_runs):
            raise StoreFailed(f"The checkpoint of the run '{min(lost)}' could not be stored.")
