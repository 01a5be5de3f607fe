"""Tracks commits in progress, and makes reads wait for them.

Invariant: a read sees every earlier commit that touches the same thread, and waits for no other. An owner's commits are
made in order, and only its owner's commits touch an object, so it is enough to wait for the latest commit that touches
the thread. Everything here runs on the event loop; nothing blocks or locks.
"""

import asyncio
from collections.abc import Iterable
from typing import Final

from store.ports import (
    Append,
    Change,
    CountUsage,
    Delete,
    DropCheckpoints,
    Hold,
    Insert,
    Notify,
    Patch,
    RequireHeld,
    RequireNewest,
    RequireNoActiveRun,
    RequireRow,
    RequireUnchanged,
    Retract,
    Row,
)
from store.sqlite.transactions import Commit
from wire.errors import StoreFailed

__all__ = ["Pending", "unknown_thread"]

_MAX_THREADS: Final = 50_000
"""Objects whose thread is remembered, about 10 MB. An older one counts as unknown, which is slower but never wrong."""

_MAX_WAIT_S: Final = 60.0


def unknown_thread(owner: str) -> str:
    """Return what a change touches whose thread is unknown here: every read of a thread of its owner waits for it."""
    return f"*{owner}"


class Pending:
    """The commits in progress, by what they touch, and the threads of known objects."""

    def __init__(self) -> None:
        self._youngest: dict[str, Commit] = {}
        self._order: dict[Commit, int] = {}
        self._count = 0
        self._threads: dict[str, str] = {}

    def remember_thread(self, row: Row) -> None:
        """Remember the thread of an object."""
        if row.thread_id is not None and row.id not in self._threads:
            if len(self._threads) >= _MAX_THREADS:
                del self._threads[next(iter(self._threads))]
            self._threads[row.id] = row.thread_id

    def touched_by(self, changes: Iterable[Change]) -> frozenset[str]:
        """Return the ids of the objects, runs and threads that the changes touch."""
        touched: set[str] = set()
        for change in changes:
            match change:
                case Insert(row):
                    self.remember_thread(row)
                    touched.add(row.id)
                    if row.thread_id is not None:
                        touched.add(row.thread_id)
                case Patch(kind, id) | Delete(kind, id) | Hold(kind, id):
                    touched.add(id)
                    if kind in ("message", "item", "run", "step"):
                        touched.add(self._threads.get(id) or unknown_thread(change.owner))
                case Append(run_id) | Retract(run_id) | DropCheckpoints(run_id):
                    # Logs and checkpoints are read by the run's id only.
                    touched.add(run_id)
                case RequireNoActiveRun() | RequireNewest() | RequireRow() | RequireHeld() | RequireUnchanged():
                    pass
                case Notify() | CountUsage():
                    pass
        return frozenset(touched)

    def add(self, commit: Commit) -> None:
        """Add a commit that is being queued."""
        self._count += 1
        self._order[commit] = self._count
        for part in commit.touched:
            self._youngest[part] = commit

    def remove(self, commit: Commit) -> None:
        """Remove a commit that has ended, and wake the reads that wait for it."""
        del self._order[commit]
        for part in commit.touched:
            if self._youngest.get(part) is commit:
                del self._youngest[part]
        if commit.finished is not None and not commit.finished.done():
            commit.finished.set_result(None)

    def owner_of(self, parts: Iterable[str]) -> str | None:
        """Return the owner of the commits in progress that touch one of `parts`; None if there are none."""
        return next((commit.owner for part in parts if (commit := self._youngest.get(part)) is not None), None)

    async def wait_for(self, *parts: str | None) -> None:
        """Wait until nothing that was queued before now touches any of `parts`. Raises StoreFailed after a minute."""
        if self._order:
            await self._wait(
                commit for part in parts if part is not None and (commit := self._youngest.get(part)) is not None
            )

    async def wait_for_all(self) -> None:
        """Wait until everything that was queued before now is committed. Raises StoreFailed after a minute."""
        if self._order:
            await self._wait(self._order)

    def thread_of(self, id: str) -> str | None:
        """Return the thread of an object, if it is known."""
        return self._threads.get(id)

    async def _wait(self, commits: Iterable[Commit]) -> None:
        latest = {commit.owner: commit for commit in sorted(commits, key=self._order.__getitem__)}
        if not latest:
            return
        loop = asyncio.get_running_loop()
        for commit in latest.values():
            if commit.finished is None:
                commit.finished = loop.create_future()
        finished = [commit.finished for commit in latest.values() if commit.finished is not None]
        _, unfinished = await asyncio.wait(finished, timeout=_MAX_WAIT_S)
        if unfinished:
            raise StoreFailed(f"The store did not commit within {_MAX_WAIT_S:.0f} s.")
