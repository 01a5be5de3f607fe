"""Removes what belonged to deleted threads and vector stores, in short commits.

Invariants: the commit that deletes an object hides all that belongs to it, see `Table.visible`. The rest is removed
afterwards, so that deleting 100,000 messages blocks nobody and needs little space. A crash only postpones it.
"""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable
from contextvars import Context
from typing import Final

from store.engine import Engine
from store.parts import remove_parts
from store.ports import Kind
from watch.context import act_for
from wire.errors import StoreError

__all__ = ["Remains"]

log = logging.getLogger("threadhold.store")

_SLICE_S: Final = 0.01
"""How long a commit that removes parts takes, about."""

_AT_ONCE: Final = 100
"""Deleted objects whose parts are removed in turn."""

_RETRY_S: Final = 5.0


class Remains:
    """What deleted objects have left, and the task that removes it. `stop` it before the engine is closed."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._removing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._again = False

    def wake(self) -> None:
        """Start the removal where it does not run. Called when a deletion is queued, and at the start."""
        self._again = True
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work(), name="remains", context=Context())

    async def remove(self) -> None:
        """Remove all that objects have left that were deleted before now. Raises StoreError."""
        await self._engine.pending.wait_for_all()
        async with self._removing:
            sql = "SELECT kind, id, owner FROM remains LIMIT ?"
            while found := await self._engine.read(lambda conn: conn.execute(sql, (_AT_ONCE,)).fetchall()):
                for kind, id, owner in found:
                    await asyncio.create_task(self._remove_slice(kind, id, owner), context=Context())

    def stop(self) -> None:
        """Stop removing; what is left is removed after the next start."""
        if self._task is not None:
            self._task.cancel()

    async def stopped(self) -> None:
        """Wait until the task has ended."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _work(self) -> None:
        while self._again:
            self._again = False
            try:
                await self.remove()
            except StoreError as error:
                log.error("parts of deleted objects could not be removed, next try in %g s: %s", _RETRY_S, error)
                self._again = True
                await asyncio.sleep(_RETRY_S)

    async def _remove_slice(self, kind: Kind, id: str, owner: str) -> None:
        """In the owner's own turn: whoever deletes much waits for it, and nobody else does."""
        act_for(owner)
        await self._engine.queue([_slice(kind, id)], touches=frozenset(), relieves=lambda: True)


def _slice(kind: Kind, id: str) -> Callable[[sqlite3.Connection], None]:
    def run(conn: sqlite3.Connection) -> None:
        if remove_parts(conn, kind, id, until=time.perf_counter() + _SLICE_S):
            conn.execute("DELETE FROM remains WHERE kind = ? AND id = ?", (kind, id))

    return run
