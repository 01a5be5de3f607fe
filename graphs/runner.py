"""Starts, continues, cancels and follows runs. Runs belong to the server, not to a connection.

Invariants: only a run's own task writes its rows and events. A status changes only along the table of statuses. A 2xx
answer means that the change is committed and synced; the model call starts before that. A reader that leaves stops
nothing.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextvars import Context
from types import TracebackType
from typing import Self, cast

from langgraph.types import Command

from chains.ports import ChatBackend
from graphs.admission import Limits
from graphs.cancellation import CANCELLABLE, cancel_elsewhere, cancelling, not_cancellable
from graphs.drafts import DEFAULTS, RunChoices, SpecRun
from graphs.execution import Execution
from graphs.history_memory import read_context_if_free, require_run
from graphs.machine.metrics import RunMetrics
from graphs.orphans import OrphanedRuns
from graphs.record import Recorded
from graphs.recovery import restore_run
from graphs.run_context import RunContexts
from graphs.started import StartedRun
from graphs.starts import RunStarter
from graphs.tool_outputs import check_outputs, not_waiting
from graphs.tools.resources import Resources
from retrieval.attachments import Attachments
from retrieval.images import Images
from store.ports import Delete, Hold, Notify, Patch, Processes, RunRow, Store
from store.single_process import single_process
from telemetry.background import log_errors, restart_on_error
from wire.errors import (
    MissingRow,
    NotFound,
    Problem,
    StatusConflict,
    StoreError,
)
from wire.events import Event
from wire.runs import Run, RunCreate, SubmittedOutput, ThreadRunCreate

__all__ = ["Runner", "StartedRun"]

logger = logging.getLogger("threadhold.runs")


class Runner:
    """The operations on runs. An async context manager: entering continues the runs that a crash or a stop left,
    leaving stops the runs that still execute. `clock` returns Unix seconds."""

    def __init__(
        self,
        store: Store,
        model: ChatBackend,
        resources: Resources,
        *,
        attachments: Attachments,
        pictures: Images | None = None,
        expiry_s: int = 600,
        max_tool_rounds: int = 20,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.time,
        processes: Processes | None = None,
    ) -> None:
        """`resources` are the tools'. `processes` are the other processes on the store; None: there are none."""
        processes = processes or single_process(store)
        self._store = store
        self._clock = clock
        self.contexts = RunContexts(store, model, resources, max_tool_rounds, pictures)
        self._execution = Execution(store, max_tool_rounds, limits, processes)
        self._orphans = OrphanedRuns(
            store, self._execution, self.contexts, self._now, expiry_s=expiry_s, processes=processes
        )
        self._starts = RunStarter(store, attachments, self.contexts, self._execution, now=self._now, expiry_s=expiry_s)
        self._watching: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await self._execution.start()
        await self._orphans.queue_orphans()
        watches = (self._orphans.sweep, self._orphans.queue_orphans_forever)
        self._watching = [self._execution.create_task(restart_on_error(watch)) for watch in watches]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._watching:
            task.cancel()
        await self._execution.stop()

    async def drain(self, limit_s: float) -> None:
        """Accept no new runs, wait up to `limit_s` for the executing ones, then stop the rest until the next start."""
        await self._execution.drain(limit_s)

    @property
    def metrics(self) -> RunMetrics:
        """The metrics of all runs so far."""
        return self.contexts.metrics

    @property
    def executing(self) -> int:
        """The number of runs that execute now."""
        return len(self._execution)

    @property
    def waiting(self) -> int:
        """The number of queued runs."""
        return len(self._execution.admission)

    # --- requests of clients --------------------------------------------------------------------------------------

    async def start(
        self,
        owner: str,
        thread_id: str,
        request: RunCreate | SpecRun,
        choices: RunChoices = DEFAULTS,
        *,
        replaces: str = "",
    ) -> StartedRun:
        """Start a run on a thread: of a stored assistant, or of a spec alone.

        The message `replaces` and all later entries are deleted in the run's commit: if the run is refused, they stay.
        Returns once the run is committed and synced; by then the model call has started, or the run is queued.
        Raises NotFound, InvalidRequest (busy thread, invalid tools), TooManyRequests if the queue is full, and
        Unavailable during shutdown.
        """
        return await self._starts.start(owner, thread_id, request, choices, replaces=replaces)

    async def create_and_start(
        self, owner: str, request: ThreadRunCreate | SpecRun, choices: RunChoices = DEFAULTS
    ) -> StartedRun:
        """Create a thread with its messages and items, and start a run on it, in one commit."""
        return await self._starts.create_and_start(owner, request, choices)

    async def submit(self, owner: str, thread_id: str, run_id: str, outputs: Sequence[SubmittedOutput]) -> StartedRun:
        """Give a waiting run all of its tool outputs, and continue it."""
        self._starts.require_accepting()
        async with self._orphans.lock(run_id):
            row = await require_run(self._store, owner, thread_id, run_id)
            if row.body["status"] == "requires_action" and (row.body["expires_at"] or 0) <= self._now():
                await self._orphans.finish(run_id, owner, "requires_action", "expired")
                row = await require_run(self._store, owner, thread_id, run_id)
            action = row.body["required_action"]
            if row.body["status"] != "requires_action" or action is None:
                raise not_waiting(row.body["status"])
            used = row.private.get("exchange_bytes", 0)
            given = check_outputs(action, outputs, used=used)
            active = await restore_run(self._store, row, self._now, self.metrics)
            toolset, admission = await self.contexts.toolset(row), self._execution.admission
            context = await read_context_if_free(admission, self.contexts, active, row, toolset, given)
            calls = action["submit_tool_outputs"]["tool_calls"]
            recorded = Recorded()
            if all(call["function"]["name"] in toolset.functions for call in calls):
                active.recorder.answer_all(given, recorded)
            recorded.extend(active.recorder.transition("queued"))
            next_event = active.log.next + len(recorded.events) if context is None else active.log.ceiling
            kept = Patch("run", run_id, owner, private={"submitted": given, "next_event": next_event})
            # The status comes first: if another request was faster, its compare-and-set refuses the whole commit.
            changes = [*recorded.changes[-1:], kept, *recorded.changes[:-1]]
            try:
                if context is None:  # queued regardless of the limits, because the run was accepted earlier
                    return await self._starts.enqueue(active, changes, recorded.events)
                changes.append(Hold("run", run_id, owner, frozenset({"queued"})))
                return await self._starts.launch(
                    active, changes, recorded.events, (Command(resume=given), True), context
                )
            except StatusConflict as conflict:
                raise not_waiting(conflict.status) from conflict

    async def cancel(self, owner: str, thread_id: str, run_id: str) -> Run:
        """Cancel a run; returns it as `cancelling` after the commit. The model call stops immediately."""
        active = self._execution.get(run_id)
        if active is not None and active.ending:
            await active.ended.wait()
        async with self._orphans.lock(run_id):
            row = await require_run(self._store, owner, thread_id, run_id)
            active = self._execution.get(run_id)
            status = active.run["status"] if active is not None else row.body["status"]
            stopping = active is not None and (active.ending or active.stop is not None)
            del row  # it can be large
            if stopping or status not in CANCELLABLE:
                raise not_cancellable(status)
            executed = active is not None
            if active is None:
                held = await self._orphans.claim(run_id, owner, CANCELLABLE)
                if held is None:
                    return await cancel_elsewhere(self._store, owner, run_id)
                active = await restore_run(self._store, held, self._now, self.metrics)
            commit = active.commit_progress(cancelling(active.recorder), durable=True)
            body = active.run.copy()
            active.stop_for("cancelled")
            await asyncio.shield(commit)
            if not executed:
                await active.stopped()
                active.log.close()
                self._execution.admission.remove(run_id)
            return body

    def create_start_task(
        self, work: Coroutine[object, object, StartedRun], context: Context | None = None
    ) -> "asyncio.Task[StartedRun]":
        """Run one of these operations in a task of the server, which ends even if its caller leaves."""
        return self._execution.create_start_task(work, context)

    def abandon(self, owner: str, thread_id: str, run_id: str) -> None:
        """Cancel a run that is no longer needed, in a task of the server; does nothing if it has ended."""

        async def cancel() -> None:
            try:
                await self.cancel(owner, thread_id, run_id)
            except (Problem, StoreError) as error:
                logger.info("run %s was abandoned, and not cancelled: %s", run_id, error.message)

        self._execution.create_task(log_errors(f"cancelling {run_id}", cancel))

    async def update_metadata(self, owner: str, thread_id: str, run_id: str, metadata: dict[str, str]) -> Run:
        """Replace a run's metadata, in any status."""
        async with self._orphans.lock(run_id):  # a run that leaves the queue is read from its row under this lock
            await require_run(self._store, owner, thread_id, run_id)
            if (active := self._execution.get(run_id)) is not None:
                active.run["metadata"] = metadata
            rows = await self._store.commit([Patch("run", run_id, owner, {"metadata": metadata})], durable=True)
        return cast("RunRow", rows[0]).body  # the row after the Patch of a run

    def note_message(self, run_id: str, message_id: str, metadata: dict[str, str]) -> None:
        """Pass on the metadata that was just given to a message that the run may be writing."""
        active = self._execution.get(run_id)
        if active is not None:
            active.recorder.note_message(message_id, metadata)

    async def delete_thread(self, owner: str, thread_id: str) -> None:
        """Delete a thread and its contents, and stop a run on it with its model call. Raises NotFound."""
        row = await self._store.active_run(thread_id, owner)
        active_id = None if row is None else row.id
        del row  # rows of runs can be large, and the deletion can wait
        async with self._orphans.lock(active_id or thread_id):
            if active_id is not None and (active := self._execution.get(active_id)) is not None:
                active.stop_for("deleted")
                await active.ended.wait()
            try:
                await self._store.commit([Delete("thread", thread_id, owner), Notify("runs")], durable=True)
            except MissingRow as missing:
                raise NotFound(f"No thread found with id '{thread_id}'.") from missing
            if active_id is not None:
                self._execution.admission.remove(active_id)

    def follow(self, run_id: str, *, after: int) -> AsyncIterator[list[Event]]:
        """Yield batches of the run's events with numbers above `after`; see `Execution.follow`."""
        return self._execution.follow(run_id, after=after)

    # --- details --------------------------------------------------------------------------------------------------

    def _now(self) -> int:
        return int(self._clock())
