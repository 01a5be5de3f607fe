"""Commits changes in one thread, which alone uses the writing connection.

Invariants: only one connection writes, one batch at a time. Waiting changes are committed together, up to a limit of
bytes and time. Owners get equal shares of the thread's time, and one owner's changes keep their order. The thread
survives a batch that fails. The event loop is woken once per batch.
"""

import sqlite3
import threading
import time
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Final

from store.ports import StoreMetrics
from store.sqlite.commit_queues import CommitQueues
from store.sqlite.disk_reserve import DiskReserve
from store.sqlite.registration import Fence
from store.sqlite.transactions import Commit, Outcomes, Transactions
from wire.errors import StoreFailed

__all__ = ["Writer"]

_MAX_BATCH: Final = 256
"""Maximum commits in one transaction, so that the first of them does not wait for a thousand others."""

_MAX_BATCH_BYTES: Final = 2 * 1024 * 1024
"""Approximate bytes of a transaction, for the same reason: about 50 ms of work."""


class Writer:
    """Uses the writing connection exclusively from its start to its end; the caller that opened it closes it."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        loop: AbstractEventLoop,
        deliver: Callable[[Outcomes], None],
        fence: Fence,
        busy_timeout_s: float,
        synced: bool = True,
        reserve: DiskReserve | None = None,
    ) -> None:
        """`deliver` is called on the event loop, once for each batch. See `Transactions` for the rest."""
        self._transactions = Transactions(
            connection, fence=fence, busy_timeout_s=busy_timeout_s, synced=synced, reserve=reserve
        )
        self._loop = loop
        self._deliver = deliver
        self._queues = CommitQueues()
        self._under_way = False
        self._called = False
        self._ended = False
        self._draining = False
        self._ending = threading.Lock()
        self._unrun: list[Commit] = []
        """The commits that a batch did not get to in its time."""
        self._jobs: SimpleQueue[list[Commit] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="threadhold-writer", daemon=True)

    def start(self) -> None:
        """Start the thread, and wait until it runs."""
        self._thread.start()

    def put(self, commit: Commit) -> None:
        """Queue a commit; never waits. Called on the loop, as is `drain`."""
        self._queues.put(commit)
        if not self._under_way and not self._called:
            self._called = True
            self._loop.call_soon(self._next)

    def drain(self) -> None:
        """Pass all waiting commits to the thread, because the loop may not run again."""
        with self._ending:
            self._draining = True
        self._queue_again()
        while self._queues:
            self._send(self._take_batch())

    @property
    def metrics(self) -> StoreMetrics:
        """The metrics of all batches so far."""
        return self._transactions.metrics

    @property
    def waiting(self) -> int:
        """The number of queued commits."""
        return len(self._queues)

    @property
    def is_running(self) -> bool:
        """Whether the thread accepts commits."""
        return not self._ended

    def stop(self, end: float) -> bool:
        """Commit what was drained, and end, waiting until `end` (`time.monotonic`). Returns whether it has ended."""
        self._jobs.put(None)
        self._thread.join(max(0.0, end - time.monotonic()))
        return not self._thread.is_alive()

    # --- on the loop ----------------------------------------------------------------------------------------------

    def _next(self) -> None:
        """Pass the next batch to the thread, if there is one and the thread is idle."""
        self._called = False
        if not self._under_way and self._queues:
            self._under_way = True
            self._send(self._take_batch())

    def _take_batch(self) -> list[Commit]:
        return self._queues.take(_MAX_BATCH, _MAX_BATCH_BYTES)

    def _send(self, batch: list[Commit]) -> None:
        with self._ending:
            if not self._ended:
                self._jobs.put(batch)
                return
        self._finish_batch(_stopped(batch))

    def _queue_again(self) -> None:
        """Queue again the commits that a batch did not run."""
        unrun, self._unrun = self._unrun, []
        self._queues.put_back(unrun)

    def _finish_batch(self, outcomes: Outcomes) -> None:
        self._under_way = False
        self._queue_again()
        self._queues.charge(commit for commit, _ in outcomes)
        self._deliver(outcomes)
        self._next()

    # --- in the thread --------------------------------------------------------------------------------------------

    def _work(self) -> None:
        batch: list[Commit] | None = None
        try:
            while (batch := self._jobs.get()) is not None:
                while batch:
                    outcomes = self._transactions.run(batch)
                    batch = self._rest_of(batch, outcomes)
                    self._report(outcomes)
        finally:
            # Nothing is left unless a defect ended the loop. Then no caller must wait forever.
            with self._ending:
                self._ended = True
            for left in (batch, *self._rest()):
                if left:
                    self._report(_stopped(left))

    def _rest_of(self, batch: list[Commit], outcomes: Outcomes) -> list[Commit]:
        """Return the commits without an outcome if the thread continues with them; otherwise the loop queues them
        again."""
        done = {commit for commit, _ in outcomes}
        unrun = [commit for commit in batch if commit not in done]
        with self._ending:
            if self._draining:
                return unrun
            self._unrun += unrun
        return []

    def _rest(self) -> Iterator[list[Commit] | None]:
        with suppress(Empty):
            while True:
                yield self._jobs.get_nowait()

    def _report(self, outcomes: Outcomes) -> None:
        with suppress(RuntimeError):  # the loop is closed, so nothing awaits the outcomes
            self._loop.call_soon_threadsafe(self._finish_batch, outcomes)


def _stopped(batch: list[Commit]) -> Outcomes:
    return [(commit, StoreFailed("The store's writer has stopped.")) for commit in batch]
