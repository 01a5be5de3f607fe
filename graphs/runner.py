"""Starts, continues, cancels and follows runs. Runs belong to the server, not to a connection.

Invariants: only a run's own task writes its rows and events. A status changes only along the table of statuses. A 2xx
answer means that the change is committed and synced; the model call starts before that. A reader that leaves stops
nothing.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Final, Self, cast

import orjson
from langgraph.types import Command

from chains.ports import ChatBackend
from fairness.fair_limits import FairLimit
from graphs.active_run import ActiveRun
from graphs.admission import Limits, QueuedRun
from graphs.cancellation import CANCELLABLE, cancel_elsewhere, cancelling, not_cancellable
from graphs.drafts import DEFAULTS, Draft, RunChoices, draft_run, draft_thread
from graphs.execution import Execution
from graphs.history import FIRST_PAGE, History, cut_from
from graphs.log import RunLog
from graphs.machine.metrics import RunMetrics
from graphs.machine.state import GraphInput, RunContext
from graphs.orphans import OrphanedRuns
from graphs.reading import count_reading, must_get_run, read_if_free
from graphs.record import Recorded, Recorder
from graphs.recovery import restore_run
from graphs.run_context import RunContexts
from graphs.start_errors import busy, no_assistant, refused, require_slot, start_with_slot
from graphs.started import Started
from graphs.tool_outputs import check_outputs, not_waiting
from graphs.tools.resources import Resources
from retrieval.attachments import Attachments, searched_stores
from retrieval.images import Images
from store.ports import Append, Change, Delete, Hold, Patch, Processes, RequireNewest, Row, RunRow, Store, Wake
from store.single_process import single_process
from telemetry.background import contain, keep_running
from wire.errors import (
    Changed,
    InvalidRequest,
    Missing,
    NotFound,
    Problem,
    StatusConflict,
    StoreError,
    ThreadBusy,
    Unavailable,
)
from wire.events import Event, NewEvent
from wire.runs import Run, RunCreate, SubmittedOutput, ThreadRunCreate

__all__ = ["Runner", "Started"]

logger = logging.getLogger("threadhold.runs")

_TRIES: Final = 20
"""How often a start is repeated because messages were added between its read and its commit."""


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
        self._attachments = attachments
        self._expiry_s = expiry_s
        self._clock = clock
        self.contexts = RunContexts(store, model, resources, max_tool_rounds, pictures)
        self._start_slots = FairLimit(0, least=1)
        self._execution = Execution(store, max_tool_rounds, limits, processes)
        self._orphans = OrphanedRuns(
            store, self._execution, self.contexts, self._now, expiry_s=expiry_s, processes=processes
        )
        self._watching: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await self._execution.enter()
        await self._orphans.queue_orphans()
        watches = (self._orphans.sweep, self._orphans.queue_orphans_forever)
        self._watching = [self._execution.own(keep_running(watch)) for watch in watches]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._watching:
            task.cancel()
        await self._execution.leave()

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
        self, owner: str, thread_id: str, request: RunCreate, choices: RunChoices = DEFAULTS, *, replaces: str = ""
    ) -> Started:
        """Start a run on a thread.

        The message `replaces` and all later entries are deleted in the run's commit: if the run is refused, they stay.
        Returns once the run is committed and synced; by then the model call has started, or the run is queued.
        Raises NotFound, InvalidRequest (busy thread, invalid tools), TooManyRequests if the queue is full, and
        Unavailable during shutdown.
        """
        for _ in range(_TRIES):
            with suppress(Changed):
                start = partial(self._try_to_start, owner, thread_id, request, replaces, choices)
                return await start_with_slot(self._start_slots, owner, start)
        raise InvalidRequest(f"Messages keep being added to {thread_id}; try again once no more are added.")

    async def _try_to_start(
        self, owner: str, thread_id: str, request: RunCreate, cut: str, choices: RunChoices, *, has_slot: bool = False
    ) -> Started:
        """Start a run on the thread as it is now, up to the message `cut`.

        Raises Changed if a message was added or deleted meanwhile, as the model would not be shown the current thread;
        StartDeferred if it needs a slot and has none."""
        self._require_accepting(owner)
        found = await self._store.run_start(owner, thread_id, request.assistant_id, FIRST_PAGE.limit)
        assistant, thread, active, first = found.assistant, found.thread, found.active, found.newest
        if thread is None:
            raise NotFound(f"No thread found with id '{thread_id}'.")
        if assistant is None:
            raise no_assistant(request.assistant_id)
        require_slot(assistant.body, has_slot=has_slot)
        if active is not None:
            raise busy(ThreadBusy(thread_id, active.id))
        guards: list[Change] = [RequireNewest(thread_id, owner, first.rows[0].id if first.rows else None)]
        if cut:
            first, gone = await cut_from(self._store, owner, thread_id, cut)
            guards += gone
        draft = draft_run(request, assistant, owner, thread_id, choices, now=self._now(), expiry_s=self._expiry_s)
        await self.contexts.check(request, draft.run)
        with count_reading(self._execution.admission, owner, first, has_slot=has_slot) as read:
            history = await self.contexts.history(draft.run, owner, first=first)
            whole = history.and_then(row.body for row in draft.messages)
            async with self._attachments.of_messages(owner, thread_id, draft.messages) as attached:
                draft.row.private["vector_store_ids"] = searched_stores(assistant.body, thread.body, attached)
                return await self._launch_new(draft, whole, read, *guards, *attached)

    async def create_and_start(self, owner: str, request: ThreadRunCreate, choices: RunChoices = DEFAULTS) -> Started:
        """Create a thread with its messages and start a run on it, in one commit."""
        return await start_with_slot(self._start_slots, owner, partial(self._create_and_start, owner, request, choices))

    async def _create_and_start(
        self, owner: str, request: ThreadRunCreate, choices: RunChoices, *, has_slot: bool = False
    ) -> Started:
        self._require_accepting(owner)
        assistant = await self._store.get("assistant", request.assistant_id, owner)
        if assistant is None:
            raise no_assistant(request.assistant_id)
        require_slot(assistant.body, has_slot=has_slot)
        draft = draft_thread(request, assistant, owner, choices, now=self._now(), expiry_s=self._expiry_s)
        await self.contexts.check(request, draft.run)
        assert draft.thread is not None, "drafted with one"
        async with self._attachments.of_new_thread(draft.thread, draft.messages) as attached:
            draft.row.private["vector_store_ids"] = searched_stores(assistant.body, draft.thread.body)
            history = History([]).and_then(row.body for row in draft.messages)
            return await self._launch_new(draft, history, ExitStack(), *attached)

    async def submit(self, owner: str, thread_id: str, run_id: str, outputs: Sequence[SubmittedOutput]) -> Started:
        """Give a waiting run all of its tool outputs, and continue it."""
        self._require_accepting()
        async with self._orphans.lock(run_id):
            row = await must_get_run(self._store, owner, thread_id, run_id)
            if row.body["status"] == "requires_action" and (row.body["expires_at"] or 0) <= self._now():
                await self._orphans.finish(run_id, owner, "requires_action", "expired")
                row = await must_get_run(self._store, owner, thread_id, run_id)
            action = row.body["required_action"]
            if row.body["status"] != "requires_action" or action is None:
                raise not_waiting(row.body["status"])
            used = row.private.get("exchange_bytes", 0)
            given = check_outputs(action, outputs, used=used)
            active = await restore_run(self._store, row, self._now, self.metrics)
            toolset, admission = await self.contexts.toolset(row), self._execution.admission
            context = await read_if_free(admission, self.contexts, active, row, toolset, given)
            calls = action["submit_tool_outputs"]["tool_calls"]
            recorded = Recorded()
            if all(call["function"]["name"] in toolset.functions for call in calls):
                active.recorder.answer_all(given, recorded)
            recorded.extend(active.recorder.move("queued"))
            next_event = active.log.next + len(recorded.events) if context is None else active.log.ceiling
            kept = Patch("run", run_id, owner, private={"submitted": given, "next_event": next_event})
            # The status comes first: if another request was faster, its compare-and-set refuses the whole commit.
            changes = [*recorded.changes[-1:], kept, *recorded.changes[:-1]]
            try:
                if context is None:  # queued regardless of the limits, because the run was accepted earlier
                    return await self._enqueue(active, changes, recorded.events)
                changes.append(Hold("run", run_id, owner, frozenset({"queued"})))
                return await self._launch(active, changes, recorded.events, (Command(resume=given), True), context)
            except StatusConflict as conflict:
                raise not_waiting(conflict.status) from conflict

    async def cancel(self, owner: str, thread_id: str, run_id: str) -> Run:
        """Cancel a run; returns it as `cancelling` after the commit. The model call stops immediately."""
        active = self._execution.get(run_id)
        if active is not None and active.ending:
            await active.ended.wait()
        async with self._orphans.lock(run_id):
            row = await must_get_run(self._store, owner, thread_id, run_id)
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
                self._execution.admission.leave(run_id)
            return body

    def abandon(self, owner: str, thread_id: str, run_id: str) -> None:
        """Cancel a run that is no longer needed, in a task of the server; does nothing if it has ended."""

        async def cancel() -> None:
            try:
                await self.cancel(owner, thread_id, run_id)
            except (Problem, StoreError) as error:
                logger.info("run %s was abandoned, and not cancelled: %s", run_id, error.message)

        self._execution.own(contain(f"cancelling {run_id}", cancel))

    async def amend(self, owner: str, thread_id: str, run_id: str, metadata: dict[str, str]) -> Run:
        """Replace a run's metadata, in any status."""
        async with self._orphans.lock(run_id):  # a run that leaves the queue is read from its row under this lock
            await must_get_run(self._store, owner, thread_id, run_id)
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
                await self._store.commit([Delete("thread", thread_id, owner), Wake("runs")], durable=True)
            except Missing as missing:
                raise NotFound(f"No thread found with id '{thread_id}'.") from missing
            if active_id is not None:
                self._execution.admission.leave(active_id)

    def follow(self, run_id: str, *, after: int) -> AsyncIterator[list[Event]]:
        """Yield batches of the run's events with numbers above `after`; see `Execution.follow`."""
        return self._execution.follow(run_id, after=after)

    # --- starting -------------------------------------------------------------------------------------------------

    async def _launch_new(self, draft: Draft, history: History, read: ExitStack, *guards: Change) -> Started:
        """Start a drafted run, or queue it. Until then, `read` counts the memory of its history."""
        toolset = await self.contexts.toolset(draft.row)
        # A copy: the writer encodes the row later, while the run's body keeps changing.
        shows_contents = draft.row.private.get("contents", False)
        recorder = Recorder(draft.run.copy(), draft.row.owner, self._now, shows_contents=shows_contents)
        active = ActiveRun(draft.row.owner, recorder, RunLog(0), self._store, self.metrics)
        events = draft.events()
        queued = draft.run
        active.size = len(orjson.dumps(draft.run))
        active.weight = self._execution.admission.weigh(active.size)
        active.memory = active.history_memory = await self.contexts.memory(active, history)
        read.close()  # from now on, the history counts as memory of the run itself
        needs = draft.row.owner, active.weight, active.memory
        if not self._execution.admission.free(*needs):
            draft.row.private["next_event"] = len(events)
            with refused(), self._execution.admission.entering(*needs):
                return await self._enqueue(active, [*guards, *draft.changes(held=False)], events)
        draft.row.private["next_event"] = active.log.ceiling
        # No reader sees the row while it is `queued`, so it is stored with the status that follows.
        events += recorder.move("in_progress").events
        row = replace(draft.row, body=recorder.run.copy())
        if toolset.not_offered:
            logger.info("run %s: this server cannot offer %s", draft.row.id, ", ".join(toolset.not_offered))
        context = self.contexts.context(active, draft.row.private, toolset, history)
        with refused():
            changes = [*guards, *replace(draft, row=row).changes(held=True)]
            started = await self._launch(active, changes, events, ({}, False), context)
            return replace(started, run=queued)

    async def _launch(
        self,
        active: ActiveRun,
        changes: Sequence[Change],
        events: Sequence[NewEvent],
        given: tuple[GraphInput, bool],
        context: RunContext,
    ) -> Started:
        """Queue the commit, start the model call without waiting for it, and return when the commit is synced.

        `given` is the graph's input, and whether it resumes. Raises StoreError, after the call is stopped.
        """
        after = active.log.next - 1
        numbered = active.log.number(events)
        run = active.run.copy()
        # If the commit is refused, the model call is stopped, even if the client's request is gone.
        changed = [*changes, Append(active.run_id, numbered)]
        commit = self._store.commit(changed, durable=True, failed=lambda: active.stop_for("refused"))
        active.log.publish(numbered)
        work = self._execution.drive(active, given[0], context, resumed=given[1], commit=commit)
        self._execution.begin(active, work)
        try:
            await asyncio.shield(commit)
        except StoreError:
            await active.ended.wait()
            raise
        return Started(run, after)

    async def _enqueue(self, active: ActiveRun, changes: Sequence[Change], events: Sequence[NewEvent]) -> Started:
        """Commit a queued run, synced, and queue it; its history is read when it leaves the queue."""
        after = active.log.next - 1
        run = active.run.copy()
        needs = active.weight, active.memory, active.size
        queued = QueuedRun(active.run_id, active.owner, run["thread_id"], run["created_at"], *needs)

        def enqueue(done: "asyncio.Future[list[Row]]") -> None:
            if done.exception() is None:
                self._execution.admission.enqueue(queued)
                self._execution.start_queued()

        appended = Append(active.run_id, active.log.number(events))
        commit = self._store.commit([*changes, appended, Wake("runs")], durable=True)
        commit.add_done_callback(enqueue)  # even if the client's request is gone
        await asyncio.shield(commit)
        return Started(run, after)

    # --- details --------------------------------------------------------------------------------------------------

    def _require_accepting(self, owner: str | None = None) -> None:
        """Raise if the server is shutting down, or if a new run of this `owner` can neither start nor be queued."""
        if owner is not None:
            self._execution.admission.check(owner)
        if not self._execution.open:
            raise Unavailable("The server is shutting down; try again in a moment.", headers={"Retry-After": "5"})

    def _now(self) -> int:
        return int(self._clock())
