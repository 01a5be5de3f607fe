"""Runs that nobody executes: left by a crash or a stop, waiting for outputs, overdue, or broken.

Each is looked at under its own lock, from its rows alone; compare-and-set in the store has the last word.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final
from weakref import WeakValueDictionary

from graphs.execution import Execution
from graphs.live import Live, Stop
from graphs.recovery import load_rows, make_live, plan_recovery, revive
from graphs.surroundings import Surroundings
from store.ports import Append, Patch, Row, Store
from wire.errors import StoreError

__all__ = ["IdleRuns"]

logger = logging.getLogger("threadhold.runs")

_SWEEP_S: Final = 1.0


class IdleRuns:
    """Takes runs up again, and ends those that must end."""

    def __init__(
        self, store: Store, execution: Execution, surroundings: Surroundings, clock: Callable[[], int], *, expiry_s: int
    ) -> None:
        self._store = store
        self._execution = execution
        self._surroundings = surroundings
        self._clock = clock
        self._expiry_s = expiry_s
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def lock(self, run_id: str) -> asyncio.Lock:
        """Return the lock under which a run that nobody executes is changed."""
        lock = self._locks.get(run_id)
        if lock is None:
            lock = self._locks[run_id] = asyncio.Lock()
        return lock

    async def take_up(self) -> None:
        """Go on with every run that another process left. Runs that wait for the client go on waiting."""
        for row in await self._store.unfinished():
            if row.body["status"] in ("queued", "in_progress"):
                live = make_live(self._store, row, self._clock, self._surroundings.figures)
                self._execution.begin(live, self._resume(live, row))
            elif row.body["status"] == "cancelling":
                await self.finish(row, "cancelled")

    async def _resume(self, live: Live, row: Row) -> None:
        logger.info("run %s is taken up again", row.id)
        await load_rows(live, row)
        context = await self._surroundings.again(live, row)
        plan = await plan_recovery(self._execution.graph, live, row)
        reserved = Patch("run", row.id, row.owner, private={"next_event": live.log.ceiling})
        numbered = live.log.number(plan.events)
        # Synced before anything is sent: a second crash must not give a number out again.
        await self._store.commit([reserved, *plan.changes, Append(row.id, numbered)], durable=True)
        live.log.publish(numbered)
        await self._execution.drive(live, plan.given, context, resumed=plan.resumed)

    async def sweep(self) -> None:
        """Once a second, forever: expire what is overdue, and end what could not be ended when it should have been."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            try:
                for live in self._execution.lasting(self._expiry_s):  # whatever the clock was set to
                    live.halt("expired")
                for row in await self._store.unfinished(due_before=self._clock()):
                    await self._expire(row)
                if self._execution.broken:
                    await self._end_broken()
            except StoreError as error:
                logger.error("overdue runs could not be ended, next try in %s s: %s", _SWEEP_S, error)

    async def _expire(self, row: Row) -> None:
        live = self._execution.get(row.id)
        if live is not None:
            live.halt("expired")
            return
        async with self.lock(row.id):
            fresh = await self._store.get("run", row.id, row.owner, thread_id=row.thread_id)
            unchanged = fresh is not None and fresh.body["status"] == row.body["status"]
            if fresh is not None and unchanged and self._execution.get(row.id) is None:
                await self.finish(fresh, "cancelled" if fresh.body["status"] == "cancelling" else "expired")

    async def _end_broken(self) -> None:
        """End the runs that broke by now; one that breaks meanwhile is seen to next time."""
        broken = dict(self._execution.broken)
        for row in await self._store.unfinished():
            if row.id in broken and self._execution.get(row.id) is None:
                async with self.lock(row.id):
                    live = await revive(self._store, row, self._clock, self._surroundings.figures)
                    await live.failed(broken[row.id])
        for run_id in broken:
            del self._execution.broken[run_id]

    async def finish(self, row: Row, stop: Stop) -> None:
        """End a run that nobody executes. Raises StoreError."""
        live = await revive(self._store, row, self._clock, self._surroundings.figures)
        live.stop = stop
        await live.stopped()
        live.log.close()
