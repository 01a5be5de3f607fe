"""The one thread that writes. Whatever waits is committed together, in the order in which it was asked for.

Law: one connection writes, ever. A commit that is refused leaves nothing and harms no other. A batch that fails as a
whole (disk full, file locked) keeps nothing, tells every commit in it, and the thread lives on. A batch is synced to
disk when one of its commits is durable. The event loop is woken once for a batch.
"""

import logging
import sqlite3
import threading
import time
from asyncio import AbstractEventLoop, Future
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Final

from store.changes import Operation
from store.failures import failed
from store.figures import StoreFigures
from store.ports import Row
from wire.errors import StoreError, StoreFailed, StoreLocked

__all__ = ["Commit", "Writer"]

log = logging.getLogger("threadhold.store")

_MAX_BATCH: Final = 256
"""Commits in one transaction at most, so that the first of them does not wait for a thousand others."""

_MOMENT_MS: Final = 250  # for a lock that has outlasted our patience already

_REFUSED = (StoreError, sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError, OverflowError)
"""What is the commit's own fault (a value too large, …); any other sqlite3.Error is the database's."""

Outcome = list[Row] | StoreError


@dataclass(slots=True, eq=False)
class Commit:
    """Operations that stand or fall together, and who waits for them.

    `saves` is the run whose checkpoint this writes, `renews` whether it is a whole one; `ends` names runs whose
    checkpoints it drops, `moves` runs that it changes.
    """

    operations: Sequence[Operation]
    durable: bool
    touches: frozenset[str]
    future: "Future[list[Row]]"
    moves: frozenset[str] = frozenset()
    ends: frozenset[str] = frozenset()
    saves: str | None = None
    renews: bool = False
    settled: "Future[None] | None" = field(default=None)
    """Made by the first reader that has to wait; the caller's own future may be cancelled, this one is not."""


class Writer:
    """Has the writing connection to itself from the start of its thread to its end; whoever opened it closes it."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        loop: AbstractEventLoop,
        deliver: Callable[[list[tuple[Commit, Outcome]]], None],
        busy_timeout_s: float,
        synced: bool = True,
    ) -> None:
        """`deliver` is called on the loop, once a batch. Without `synced` nothing ever waits for the disk.

        A foreign lock is waited for `busy_timeout_s`; after one that stayed longer, only a moment for each batch until
        it is gone: commits that follow from each other must not wait that long one after the other.
        """
        self.figures = StoreFigures()
        self._conn = connection
        self._loop = loop
        self._deliver = deliver
        self._synced = synced
        self._level = ""
        self._patience_ms = int(busy_timeout_s * 1000)
        self._waits_ms = self._patience_ms
        self._queue: SimpleQueue[Commit | None] = SimpleQueue()
        self._unsaved: set[str] = set()
        self._thread = threading.Thread(target=self._work, name="threadhold-writer", daemon=True)

    def start(self) -> None:
        """Start the thread; it waits for the thread to be up."""
        self._thread.start()

    def put(self, commit: Commit) -> None:
        """Queue a commit; never waits."""
        self._queue.put(commit)

    @property
    def waiting(self) -> int:
        """How many commits are queued."""
        return self._queue.qsize()

    @property
    def alive(self) -> bool:
        """Whether there is somebody to take commits."""
        return self._thread.is_alive()

    def stop(self, limit_s: float) -> bool:
        """Commit what is queued and end, waiting up to `limit_s`. Return whether it did."""
        self._queue.put(None)
        self._thread.join(limit_s)
        return not self._thread.is_alive()

    def _work(self) -> None:
        batch: list[Commit] = []
        try:
            last = False
            while not last:
                batch, last = self._take()
                if batch:
                    self._hand_over(self._commit(batch))
                    batch = []
        finally:
            # Empty unless a defect ended the loop: then nobody may be left waiting for ever.
            left = batch + self._rest()
            if left:
                self._hand_over([(commit, StoreFailed("The store's writer has stopped.")) for commit in left])

    def _take(self) -> tuple[list[Commit], bool]:
        """Wait for a commit, then take all that wait with it; tell whether to stop afterwards."""
        first = self._queue.get()
        if first is None:
            return [], True
        batch = [first]
        while len(batch) < _MAX_BATCH:
            try:
                more = self._queue.get_nowait()
            except Empty:
                break
            if more is None:
                return batch, True
            batch.append(more)
        return batch, False

    def _rest(self) -> list[Commit]:
        left = []
        while not self._queue.empty():
            commit = self._queue.get_nowait()
            if commit is not None:
                left.append(commit)
        return left

    def _hand_over(self, outcomes: list[tuple[Commit, Outcome]]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._deliver, outcomes)

    def _commit(self, batch: list[Commit]) -> list[tuple[Commit, Outcome]]:
        unsaved, begun_at = set(self._unsaved), time.perf_counter()
        try:
            self._sync(any(commit.durable for commit in batch))
            outcomes = self._together(batch)
            if outcomes is None:
                self._unsaved = set(unsaved)
                outcomes = self._apart(batch)
            if self._conn.in_transaction:
                self._conn.execute("COMMIT")
            self._wait(self._patience_ms)
        except sqlite3.Error as error:
            self._roll_back()
            told = failed("The store could not commit", error)
            if isinstance(told, StoreLocked):
                self._wait(min(self._patience_ms, _MOMENT_MS))
            self._unsaved = unsaved | {commit.saves for commit in batch if commit.saves is not None}
            self.figures.failed += 1
            log.error("a batch of %d commits failed: %s", len(batch), error)
            return [(commit, told) for commit in batch]
        self.figures.batch_commits.add(len(batch))
        self.figures.batch_seconds.add(time.perf_counter() - begun_at)
        return outcomes

    def _wait(self, for_ms: int) -> None:
        if for_ms != self._waits_ms:
            self._conn.execute(f"PRAGMA busy_timeout = {for_ms}")
            self._waits_ms = for_ms

    def _sync(self, durable: bool) -> None:
        level = ("FULL" if durable else "NORMAL") if self._synced else "OFF"
        if level != self._level:
            self._conn.execute(f"PRAGMA synchronous = {level}")
            self._level = level

    def _roll_back(self) -> None:
        # SQLite may have rolled back by itself (disk full, I/O error): then there is nothing left to do.
        if self._conn.in_transaction:
            self._conn.execute("ROLLBACK")

    def _together(self, batch: list[Commit]) -> list[tuple[Commit, Outcome]] | None:
        """Run a batch as one; None, and nothing kept, where one of several is refused. Nearly none ever is, and two
        statements more for each commit are a third of all."""
        self._conn.execute("BEGIN IMMEDIATE")
        try:
            return [(commit, self._run(commit)) for commit in batch]
        except _REFUSED as error:
            self._roll_back()
            return [(batch[0], self._refuse(batch[0], error))] if len(batch) == 1 else None

    def _apart(self, batch: list[Commit]) -> list[tuple[Commit, Outcome]]:
        """Run a batch with a savepoint for each commit."""
        self._conn.execute("BEGIN IMMEDIATE")
        outcomes: list[tuple[Commit, Outcome]] = []
        for commit in batch:
            self._conn.execute("SAVEPOINT one")
            try:
                outcomes.append((commit, self._run(commit)))
            except _REFUSED as error:
                self._conn.execute("ROLLBACK TO one")
                outcomes.append((commit, self._refuse(commit, error)))
            self._conn.execute("RELEASE one")
        return outcomes

    def _run(self, commit: Commit) -> list[Row]:
        self._check_saved(commit)
        rows = [row for operation in commit.operations if (row := operation(self._conn)) is not None]
        self._unsaved -= commit.ends
        if commit.renews and commit.saves is not None:
            self._unsaved.discard(commit.saves)
        return rows

    def _refuse(self, commit: Commit, error: Exception) -> StoreError:
        if commit.saves is not None:
            self._unsaved.add(commit.saves)
        self.figures.refused += 1
        return error if isinstance(error, StoreError) else StoreFailed(f"The store cannot keep this: {error}.")

    def _check_saved(self, commit: Commit) -> None:
        """Refuse to acknowledge a run whose checkpoint, which nobody awaited, was lost; it may only be ended."""
        if commit.durable and (lost := self._unsaved & commit.moves - commit.ends):
            raise StoreFailed(f"The checkpoint of the run '{min(lost)}' could not be stored.")
