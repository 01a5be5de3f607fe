"""Removes what belonged to deleted threads and vector stores, in short commits.

Invariants: the commit that deletes an object hides everything that belongs to it (see `Table.visible`). The rows are
removed later, so deleting 100,000 messages delays no other write and needs little space. A crash only postpones the
removal.
"""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable
from contextvars import Context
from typing import Final

from store.ports import Kind
from store.sqlite.database import Engine
from store.sqlite.owned_parts import remove_parts
from telemetry.background import restart_on_error
from telemetry.context import set_current_owner
from wire.errors import StoreError

__all__ = ["DeferredDeletes"]

log = logging.getLogger("threadhold.store")

_SLICE_S: Final = 0.01
"""Approximate duration of a commit that removes parts."""

_AT_ONCE: Final = 100
"""Maximum deleted objects that one query reads."""

_RETRY_S: Final = 5.0


class DeferredDeletes:
    """The parts of deleted objects, and the task that removes them. Call `stop` before the engine is closed."""

    def __init__(self, engine: Engine, *, retry_s: float = _RETRY_S) -> None:
        self._engine = engine
        self._retry_s = retry_s
        self._removing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._wanted = self._done = 0
        self._is_stopped = False

    def wake(self) -> None:
        """Start the removal if it is not running. Called when a deletion is queued, and at startup."""
        self._wanted += 1
        if not self._is_stopped and (self._task is None or self._task.done()):
            work = restart_on_error(self._work, retry_s=self._retry_s)
            self._task = asyncio.create_task(work, name="deferred deletes", context=Context())

    async def remove(self) -> None:
        """Remove all parts of objects that were deleted before this call. Raises StoreError."""
        await self._engine.pending.wait_for_all()
        async with self._removing:
            sql = "SELECT kind, id, owner FROM remains LIMIT ?"
            while found := await self._engine.read(lambda conn: conn.execute(sql, (_AT_ONCE,)).fetchall()):
                for kind, id, owner in found:
                    await asyncio.create_task(self._remove_slice(kind, id, owner), context=Context())

    def stop(self) -> None:
        """Stop the removal for good; the rest is removed after the next start."""
        self._is_stopped = True
        if self._task is not None:
            self._task.cancel()

    async def stopped(self) -> None:
        """Wait until the task has ended."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _work(self) -> None:
        """Remove until nothing more is wanted. After an unexpected error, the next try repeats what was not done."""
        while self._done < self._wanted:
            wanted = self._wanted
            try:
                await self.remove()
            except StoreError as error:
                log.error("parts of deleted objects could not be removed; retrying in %g s: %s", self._retry_s, error)
                await asyncio.sleep(self._retry_s)
            else:
                self._done = wanted

    async def _remove_slice(self, kind: Kind, id: str, owner: str) -> None:
        """Remove some parts when it is the owner's turn: large deletions delay only their own owner."""
        set_current_owner(owner)
        await self._engine.queue([_slice(kind, id)], touched=frozenset(), frees_space=lambda: True)


def _slice(kind: Kind, id: str) -> Callable[[sqlite3.Connection], None]:
    def run(conn: sqlite3.Connection) -> None:
        if remove_parts(conn, kind, id, until=time.perf_counter() + _SLICE_S):
            conn.execute("DELETE FROM remains WHERE kind = ? AND id = ?", (kind, id))

    return run
