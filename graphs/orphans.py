"""Runs that no task executes: left by a crash or a shutdown, waiting for outputs, overdue, or broken.

Each is processed under its own lock, from its rows alone, by the process that holds it. The store's compare-and-set
decides conflicts.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Final
from weakref import WeakValueDictionary

from graphs.active_run import ActiveRun
from graphs.admission import QueuedRun
from graphs.cancellation import UNANNOUNCED, announced
from graphs.execution import Execution
from graphs.recovery import Plan, load_rows, make_active_run, plan_recovery, restore_run
from graphs.run_context import RunContexts
from graphs.run_memory import exchange_memory, object_memory
from graphs.run_stops import Stop
from store.ports import Append, Hold, Patch, Processes, RunRow, Store, Unfinished
from telemetry.repeated_warnings import RepeatedWarning
from wire.errors import HeldByOther, MissingRow, StatusConflict, StoreError

__all__ = ["OrphanedRuns"]

logger = logging.getLogger("threadhold.runs")

_UNENDED: Final = RepeatedWarning(
    logger, "runs could not be continued or ended because of errors of the store, and are tried again: %d"
)
_SWEEP_S: Final = 1.0
_STARTABLE: Final = frozenset({"queued", "in_progress"})


class OrphanedRuns:
    """Continues runs that were left, and ends those that must end."""

    def __init__(
        self,
        store: Store,
        execution: Execution,
        contexts: RunContexts,
        clock: Callable[[], int],
        *,
        expiry_s: int,
        processes: Processes,
    ) -> None:
        self._store = store
        self._execution = execution
        self._contexts = contexts
        self._clock = clock
        self._expiry_s = expiry_s
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._run_queue = processes.run_queue
        self._woken = asyncio.Event()
        processes.notifications.subscribe("runs", self._woken.set)
        execution.resume_queued = self.resume_queued

    def lock(self, run_id: str) -> asyncio.Lock:
        """Return the lock that must be held to change a run that no task executes."""
        lock = self._locks.get(run_id)
        if lock is None:
            lock = self._locks[run_id] = asyncio.Lock()
        return lock

    async def claim(self, id: str, owner: str, only_if: frozenset[str]) -> RunRow | None:
        """Make this process the holder of a run with one of these statuses, and return its row.

        None if the run has another status or is gone, or if another process holds it. Raises StoreError.
        """
        try:
            await self._store.commit([Hold("run", id, owner, only_if)], durable=False)
        except (MissingRow, StatusConflict, HeldByOther):
            return None
        return await self._store.get("run", id, owner)

    async def queue_orphans(self) -> None:
        """Queue every run that is to be executed and that no live process holds; those that wait for the client keep
        waiting. Stop the runs of this process that another one has cancelled, deleted or taken over."""
        executed, queued = self._execution.active_runs(), self._execution.admission.queued()
        listed = set()
        for run in await self._run_queue.runs():
            listed.add(run.id)
            active = self._execution.get(run.id)
            if active is None:
                if run.id not in self._execution.broken:  # the sweep ends it
                    await self._end_alone(run, self._queue_or_cancel(run))
            elif run.status == "cancelling" and active.run["status"] != "cancelling":
                active.cancel_as_stored()
        for active in executed:
            if active.run_id not in listed and not active.ending:
                row = await self._store.get("run", active.run_id, active.owner)
                active.stop_for("deleted" if row is None else "lost")
        for run_id in queued:
            if run_id not in listed:
                self._execution.admission.remove(run_id)
        self._execution.start_queued()

    async def _queue_or_cancel(self, run: Unfinished) -> None:
        if run.status != "cancelling":
            if self._execution.open:
                admission = self._execution.admission
                needs = admission.weight_of(run.size), admission.unread_memory + object_memory(run.size), run.size
                admission.enqueue(QueuedRun(run.id, run.owner, run.thread_id, run.created_at, *needs))
            return
        async with self.lock(run.id):
            if self._execution.get(run.id) is None:
                await self.finish(run.id, run.owner, "cancelling", "cancelled")

    async def queue_orphans_forever(self) -> None:
        """Queue orphaned runs whenever other processes have committed changes of runs."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            try:
                await self.queue_orphans()
            except Exception as error:  # the work is retried after every error
                logger.error(
                    "the runs of other processes could not be read, next try in %g s: %s",
                    _SWEEP_S,
                    error,
                    exc_info=not isinstance(error, StoreError),
                )
                self._woken.set()
                await asyncio.sleep(_SWEEP_S)

    async def resume_queued(self, run: QueuedRun) -> bool:
        """Continue a run that was admitted; returns False if it has ended or moved meanwhile. Raises StoreError."""
        async with self.lock(run.run_id):
            row = await self.claim(run.run_id, run.owner, _STARTABLE)
            if row is None:
                return False
            active = make_active_run(self._store, row, self._clock, self._contexts.metrics)
            active.weight, active.memory, active.size, active.number = run.weight, run.memory, run.size, run.number
            self._execution.start_run(active, self._resume(active, row), is_admitted=True)
            return True

    async def _resume(self, active: ActiveRun, row: RunRow) -> None:
        await load_rows(active, row)
        context = await self._contexts.reload(active, row, await self._contexts.toolset(row))
        used = exchange_memory(row.private.get("exchange_bytes", 0))
        active.resize(active.history_memory + used, False)
        if row.body["started_at"] is None:
            active.restore()  # it was only queued: it has no rows
            plan = Plan(given={}, resumed=False)
        else:
            logger.info("run %s is continued", row.id)
            plan = await plan_recovery(self._execution.graph, active, row)
        reserved = Patch("run", row.id, row.owner, private={"next_event": active.log.ceiling})
        numbered = active.log.number(plan.events)
        # Synced before anything is sent: after a second crash, no number must be assigned again.
        await self._store.commit([reserved, *plan.changes, Append(row.id, numbered)], durable=True)
        active.log.publish(numbered)
        await self._execution.drive(active, plan.given, context, resumed=plan.resumed)

    async def _row(self, run: Unfinished) -> RunRow | None:
        return await self._store.get("run", run.id, run.owner, thread_id=run.thread_id)

    async def sweep(self) -> None:
        """Once a second, forever: expire overdue runs, and end those whose end could not be stored."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            try:
                # This does not depend on the system clock.
                for active in self._execution.executing_longer_than(self._expiry_s):
                    active.stop_for("expired")
                for run in await self._store.unfinished(due_before=self._clock()):
                    await self._end_alone(run, self._expire(run))
                if self._execution.broken:
                    await self._end_broken()
                self._execution.start_queued()  # retries the runs that could not start because of a store error
            except StoreError as error:
                logger.error("overdue runs could not be ended, next try in %s s: %s", _SWEEP_S, error)

    async def _expire(self, run: Unfinished) -> None:
        active = self._execution.get(run.id)
        if active is not None:
            active.stop_for("expired")
            return
        async with self.lock(run.id):
            if self._execution.get(run.id) is None:
                stop: Stop = "cancelled" if run.status == "cancelling" else "expired"
                await self.finish(run.id, run.owner, run.status, stop)

    async def _end_broken(self) -> None:
        """End the runs that are broken now; one that breaks meanwhile is ended in the next sweep."""
        broken = dict(self._execution.broken)
        for run in await self._store.unfinished():
            if run.id in broken and not await self._end_alone(run, self._end_as_failed(run, broken[run.id])):
                del broken[run.id]  # the next sweep tries again
        for run_id in broken:
            self._execution.broken.pop(run_id, None)

    async def _end_as_failed(self, run: Unfinished, error: BaseException) -> None:
        if self._execution.get(run.id) is not None:
            return
        async with self.lock(run.id):
            if (row := await self._row(run)) is not None:
                active = await restore_run(self._store, row, self._clock, self._contexts.metrics)
                await active.failed(error)

    async def _end_alone(self, run: Unfinished, work: Coroutine[object, object, None]) -> bool:
        """Return whether this work on a run succeeded. An error of the store is logged, and prevents no other work."""
        try:
            await work
        except StoreError as error:
            _UNENDED.add()
            logger.info("run %s could not be continued or ended: %s", run.id, error)
            return False
        return True

    async def finish(self, run_id: str, owner: str, status: str, stop: Stop) -> None:
        """End a run that no task executes, if it still has this status and no other process holds it. Raises
        StoreError."""
        row = await self.claim(run_id, owner, frozenset({status}))
        if row is None:
            return
        active = await restore_run(self._store, row, self._clock, self._contexts.metrics)
        if row.private.get(UNANNOUNCED):
            active.commit_progress(announced(active.recorder, active.owner))
        active.stop = stop
        await active.stopped()
        active.log.close()
        self._execution.admission.remove(run_id)
