"""Starts new runs: drafts their rows, reads the history, and launches or queues them.

Invariants: a run starts with the thread as it is in the run's commit; if entries were added or deleted since they were
read, the start is repeated. Nothing is committed of a run that is refused. The model call starts before the commit is
synced, and is stopped if the commit is refused.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from typing import Final

import orjson

from fairness.fair_limits import FairLimit
from graphs.active_run import ActiveRun
from graphs.admission import QueuedRun
from graphs.drafts import Draft, RunChoices, SpecRun, draft_run, draft_thread
from graphs.execution import Execution
from graphs.history import FIRST_PAGE, History, cut_from, history_of
from graphs.history_memory import count_history_memory
from graphs.log import RunLog
from graphs.machine.state import GraphInput, RunContext
from graphs.record import Recorder
from graphs.run_context import RunContexts
from graphs.start_errors import busy, no_assistant, refused, require_slot, start_with_slot
from graphs.started import StartedRun
from retrieval.attachments import Attachments, searched_stores
from store.ports import Append, AssistantRow, Change, Notify, RequireNewest, Row, Store
from wire.errors import InvalidRequest, NotFound, StaleRow, StoreError, ThreadBusy, Unavailable
from wire.events import NewEvent
from wire.runs import RunCreate, ThreadRunCreate

__all__ = ["RunStarter"]

logger = logging.getLogger("threadhold.runs")

_TRIES: Final = 20
"""Maximum attempts at a start. An attempt fails if entries are added or deleted between its read and its commit."""


class RunStarter:
    """Starts runs. `now` returns Unix seconds."""

    def __init__(
        self,
        store: Store,
        attachments: Attachments,
        contexts: RunContexts,
        execution: Execution,
        *,
        now: Callable[[], int],
        expiry_s: int,
    ) -> None:
        self._store = store
        self._attachments = attachments
        self._contexts = contexts
        self._execution = execution
        self._now = now
        self._expiry_s = expiry_s
        self._start_slots = FairLimit(0, minimum=1)

    # --- new runs -------------------------------------------------------------------------------------------------

    async def start(
        self, owner: str, thread_id: str, request: RunCreate | SpecRun, choices: RunChoices, *, replaces: str
    ) -> StartedRun:
        """See `Runner.start`."""
        for _ in range(_TRIES):
            with suppress(StaleRow):
                start = partial(self._try_to_start, owner, thread_id, request, replaces, choices)
                return await start_with_slot(self._start_slots, owner, start)
        raise InvalidRequest(f"{thread_id} was changed during all {_TRIES} attempts to start a run on it. Try again.")

    async def _try_to_start(
        self,
        owner: str,
        thread_id: str,
        request: RunCreate | SpecRun,
        cut: str,
        choices: RunChoices,
        *,
        has_slot: bool = False,
    ) -> StartedRun:
        """Start a run on the thread as it is now, up to the message `cut`.

        Raises:
            StaleRow: a message was added or deleted meanwhile, so the model would not get the current thread.
            StartDeferred: the start needs a slot and has none.
        """
        self.require_accepting(owner)
        assistant_id = None if isinstance(request, SpecRun) else request.assistant_id
        found = await self._store.run_start(owner, thread_id, assistant_id, FIRST_PAGE.limit)
        thread, active, first = found.thread, found.active, found.newest
        if thread is None:
            raise NotFound(f"No thread found with id '{thread_id}'.")
        _require_assistant(found.assistant, assistant_id, has_slot=has_slot)
        if active is not None:
            raise busy(ThreadBusy(thread_id, active.id))
        guards: list[Change] = [RequireNewest(thread_id, owner, first.rows[0].id if first.rows else None)]
        if cut:
            first, gone = await cut_from(self._store, owner, thread_id, cut)
            guards += gone
        draft = draft_run(request, found.assistant, owner, thread_id, choices, now=self._now(), expiry_s=self._expiry_s)
        await self._contexts.check(request, draft.run)
        with count_history_memory(self._execution.admission, owner, first, has_slot=has_slot) as read:
            history = await self._contexts.history(draft.run, owner, first=first, newer=draft.entries)
            async with self._attachments.of_messages(owner, thread_id, draft.messages) as attached:
                draft.row.private["vector_store_ids"] = searched_stores(draft.run, thread.body, attached)
                return await self._launch_new(draft, history, read, *guards, *attached)

    async def create_and_start(self, owner: str, request: ThreadRunCreate | SpecRun, choices: RunChoices) -> StartedRun:
        """See `Runner.create_and_start`."""
        return await start_with_slot(self._start_slots, owner, partial(self._create_and_start, owner, request, choices))

    async def _create_and_start(
        self, owner: str, request: ThreadRunCreate | SpecRun, choices: RunChoices, *, has_slot: bool = False
    ) -> StartedRun:
        self.require_accepting(owner)
        assistant: AssistantRow | None = None
        if not isinstance(request, SpecRun):
            assistant = await self._store.get("assistant", request.assistant_id, owner)
            _require_assistant(assistant, request.assistant_id, has_slot=has_slot)
        draft = draft_thread(request, assistant, owner, choices, now=self._now(), expiry_s=self._expiry_s)
        await self._contexts.check(request, draft.run)
        assert draft.thread is not None, "drafted with one"
        async with self._attachments.of_new_thread(draft.thread, draft.messages) as attached:
            draft.row.private["vector_store_ids"] = searched_stores(draft.run, draft.thread.body)
            return await self._launch_new(draft, history_of(draft.entries), ExitStack(), *attached)

    async def _launch_new(self, draft: Draft, history: History, read: ExitStack, *guards: Change) -> StartedRun:
        """Start a drafted run, or queue it. Until then, `read` counts the memory of its history."""
        toolset = await self._contexts.toolset(draft.row)
        # A copy: the writer encodes the row later, while the run's body keeps changing.
        shows_contents = draft.row.private.get("contents", False)
        recorder = Recorder(draft.run.copy(), draft.row.owner, self._now, shows_contents=shows_contents)
        active = ActiveRun(draft.row.owner, recorder, RunLog(0), self._store, self._contexts.metrics)
        active.key_id = draft.row.private.get("key_id", "")
        events = draft.events()
        queued = draft.run
        active.size = len(orjson.dumps(draft.run))
        active.weight = self._execution.admission.weight_of(active.size)
        active.memory = active.history_memory = await self._contexts.memory(active, history)
        read.close()  # from now on, the history counts as memory of the run itself
        needs = draft.row.owner, active.weight, active.memory
        if not self._execution.admission.is_free(*needs):
            draft.row.private["next_event"] = len(events)
            with refused(), self._execution.admission.reserve_place(*needs):
                return await self.enqueue(active, [*guards, *draft.changes(held=False)], events)
        draft.row.private["next_event"] = active.log.ceiling
        # No reader sees the row while it is `queued`, so it is stored with the status that follows.
        events += recorder.transition("in_progress").events
        row = replace(draft.row, body=recorder.run.copy())
        if toolset.not_offered:
            logger.info("run %s: this server cannot offer %s", draft.row.id, ", ".join(toolset.not_offered))
        context = self._contexts.context(active, draft.row.private, toolset, history)
        with refused():
            changes = [*guards, *replace(draft, row=row).changes(held=True)]
            started = await self.launch(active, changes, events, ({}, False), context)
            return replace(started, run=queued)

    # --- launching ------------------------------------------------------------------------------------------------

    async def launch(
        self,
        active: ActiveRun,
        changes: Sequence[Change],
        events: Sequence[NewEvent],
        given: tuple[GraphInput, bool],
        context: RunContext,
    ) -> StartedRun:
        """Queue the commit, start the model call without waiting for it, and return when the commit is synced.

        `given` is the graph's input, and whether it resumes. Raises StoreError, after the call is stopped.
        """
        after = active.log.next - 1
        numbered = active.log.number(events)
        run = active.run.copy()
        # If the commit is refused, the model call is stopped, even if the client's request is gone.
        changed = [*changes, Append(active.run_id, numbered)]
        commit = self._store.commit(changed, durable=True, on_failure=lambda: active.stop_for("refused"))
        active.log.publish(numbered)
        work = self._execution.drive(active, given[0], context, resumed=given[1], commit=commit)
        self._execution.start_run(active, work)
        try:
            await asyncio.shield(commit)
        except StoreError:
            await active.ended.wait()
            raise
        return StartedRun(run, after)

    async def enqueue(self, active: ActiveRun, changes: Sequence[Change], events: Sequence[NewEvent]) -> StartedRun:
        """Commit a queued run durably, then queue it. Its history is read when it leaves the queue."""
        after = active.log.next - 1
        run = active.run.copy()
        needs = active.weight, active.memory, active.size
        queued = QueuedRun(active.run_id, active.owner, run["thread_id"], run["created_at"], *needs)

        def enqueue(done: "asyncio.Future[list[Row]]") -> None:
            if done.exception() is None:
                self._execution.admission.enqueue(queued)
                self._execution.start_queued()

        appended = Append(active.run_id, active.log.number(events))
        commit = self._store.commit([*changes, appended, Notify("runs")], durable=True)
        commit.add_done_callback(enqueue)  # even if the client's request is gone
        await asyncio.shield(commit)
        return StartedRun(run, after)

    def require_accepting(self, owner: str | None = None) -> None:
        """Raise if the server is shutting down, or if a new run of this `owner` can neither start nor be queued."""
        if owner is not None:
            self._execution.admission.check(owner)
        if not self._execution.open:
            raise Unavailable("The server is shutting down; try again in a moment.", headers={"Retry-After": "5"})


def _require_assistant(assistant: AssistantRow | None, assistant_id: str | None, *, has_slot: bool) -> None:
    """Raise if the assistant that a run needs does not exist; StartDeferred if it needs a slot and has none."""
    if assistant is not None:
        require_slot(assistant.body, has_slot=has_slot)
    elif assistant_id is not None:
        raise no_assistant(assistant_id)
