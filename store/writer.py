"""Commits changes: quick statements run on the event loop, and everything that waits runs in one thread.

Invariants: only one connection writes, one batch at a time. Waiting changes are committed together, up to a limit:
owners take turns, and one owner's changes keep their order. Few and small changes run on the loop, because a thread
releases the interpreter at every statement and has to wait for it again. Their commit, which waits for the disk, and
all other work run in the thread. The thread survives a batch that fails. The event loop is woken once per batch.
"""

import sqlite3
import threading
import time
from asyncio import AbstractEventLoop
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Final

from store.ballast import Ballast
from store.figures import StoreFigures
from store.quickness import Quickness
from store.transactions import Begun, Commit, Outcomes, Transactions
from wire.errors import StoreFailed

__all__ = ["Writer"]

_MAX_BATCH: Final = 256
"""Commits in one transaction at most, so that the first of them does not wait for a thousand others."""

_MAX_BATCH_BYTES: Final = 2 * 1024 * 1024
"""Approximate bytes of a transaction, for the same reason: about 50 ms of work."""

_QUICK: Final = 32
_QUICK_BYTES: Final = 128 * 1024
"""What runs on the loop, at most; 0.1 ms a commit, and as much for 50 KB. Where more waits, it is worth a thread."""

Job = list[Commit] | Begun


class Writer:
    """Has the writing connection to itself from its start to its end; whoever opened it closes it."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        loop: AbstractEventLoop,
        deliver: Callable[[Outcomes], None],
        quickness: Quickness,
        busy_timeout_s: float,
        synced: bool = True,
        ballast: Ballast | None = None,
    ) -> None:
        """`deliver` is called on the loop, once a batch. See `Transactions` for the rest."""
        self._transactions = Transactions(connection, busy_timeout_s=busy_timeout_s, synced=synced, ballast=ballast)
        self._loop = loop
        self._deliver = deliver
        self._quickness = quickness
        self._lines: OrderedDict[str, deque[Commit]] = OrderedDict()
        """Waiting changes by owner, the next owner first."""
        self._under_way = False
        self._called = False
        self._ended = False
        self._ending = threading.Lock()
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="threadhold-writer", daemon=True)

    def start(self) -> None:
        """Start the thread; it waits for the thread to be up."""
        self._thread.start()

    def put(self, commit: Commit) -> None:
        """Queue a commit; never waits. Called on the loop, as is `drain`."""
        self._lines.setdefault(commit.owner, deque()).append(commit)
        if not self._under_way and not self._called:
            self._called = True
            self._loop.call_soon(self._next)

    def drain(self) -> None:
        """Hand all that waits to the thread: the loop may not come to it any more."""
        while self._lines:
            self._send(self._taken())

    @property
    def figures(self) -> StoreFigures:
        """What was done so far."""
        return self._transactions.figures

    @property
    def waiting(self) -> int:
        """How many commits are queued."""
        return sum(map(len, self._lines.values()))

    @property
    def alive(self) -> bool:
        """Whether there is somebody to take commits."""
        return not self._ended

    @property
    def resting(self) -> sqlite3.Connection | None:
        """The connection, for a read on the loop, where it writes nothing just now and would wait for no lock. It need
        not read anew what was changed, as nobody else changes anything: 84 us where another connection takes 141."""
        return None if self._under_way else self._transactions.unwaiting

    def stop(self, end: float) -> bool:
        """Commit what was drained and end, waiting until `end` (`time.monotonic`). Return whether it did."""
        self._jobs.put(None)
        self._thread.join(max(0.0, end - time.monotonic()))
        return not self._thread.is_alive()

    # --- on the loop ----------------------------------------------------------------------------------------------

    def _next(self) -> None:
        """Begin the next batch, where there is one and none is under way."""
        self._called = False
        if not self._under_way and self._lines:
            self._under_way = True
            batch = self._taken()
            self._send(self._begun(batch) or batch)

    def _taken(self) -> list[Commit]:
        batch: list[Commit] = []
        size = 0
        while self._lines and len(batch) < _MAX_BATCH and size < _MAX_BATCH_BYTES:
            owner, line = self._lines.popitem(last=False)
            commit = line.popleft()
            if line:
                self._lines[owner] = line  # behind all others
            batch.append(commit)
            size += commit.counted_bytes
        return batch

    def _begun(self, batch: list[Commit]) -> Begun | None:
        if self._ended or len(batch) > _QUICK or not self._quickness.allows():
            return None
        size = 0
        for commit in batch:
            if commit.size is None or (size := size + commit.size) > _QUICK_BYTES:
                return None
        since = time.perf_counter()
        begun = self._transactions.begin(batch)
        self._quickness.took(since)
        return begun

    def _send(self, job: Job) -> None:
        with self._ending:
            if not self._ended:
                self._jobs.put(job)
                return
        if isinstance(job, Begun):
            self._transactions.give_up()
        self._back(_stopped(job))

    def _back(self, outcomes: Outcomes) -> None:
        self._under_way = False
        self._deliver(outcomes)
        self._next()

    # --- in the thread --------------------------------------------------------------------------------------------

    def _work(self) -> None:
        job: Job | None = None
        try:
            while (job := self._jobs.get()) is not None:
                self._hand_over(self._done(job))
                job = None
        finally:
            # Nothing is left unless a defect ended the loop: then nobody may be left waiting for ever.
            with self._ending:
                self._ended = True
            for left in (job, *self._rest()):
                if left is not None:
                    self._hand_over(_stopped(left))

    def _done(self, job: Job) -> Outcomes:
        return self._transactions.finish(job) if isinstance(job, Begun) else self._transactions.run(job)

    def _rest(self) -> Iterator[Job | None]:
        with suppress(Empty):
            while True:
                yield self._jobs.get_nowait()

    def _hand_over(self, outcomes: Outcomes) -> None:
        with suppress(RuntimeError):  # the loop is closed, and nobody waits any more
            self._loop.call_soon_threadsafe(self._back, outcomes)


def _stopped(job: Job) -> Outcomes:
    commits = [commit for commit, _ in job.outcomes] if isinstance(job, Begun) else job
    return [(commit, StoreFailed("The store's writer has stopped.")) for commit in commits]
