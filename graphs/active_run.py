"""One run while this process executes it: its recorder, its log, and the task that drives its graph.

The task is the only writer of the run. To stop the task, call `stop_for` with a reason, which cancels it. The run's row
records whichever comes first, the graph's end or a stop (compare-and-set).
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Unpack

from langchain_core.runnables import RunnableConfig

from graphs.cancellation import announced, cancelled_instead
from graphs.log import BLOCK, RunLog
from graphs.machine.build import CompiledRun
from graphs.machine.log_lines import log_run
from graphs.machine.metrics import RunMetrics
from graphs.machine.state import GraphInput, RunContext
from graphs.machine.stream_parts import Call, MessageClosed, RunEnded, StreamPart, TextDeltas
from graphs.record import Recorded, Recorder
from graphs.run_memory import exchange_memory
from graphs.run_stops import UNWRITTEN, Stop, handed_over_error, last_error, lost_stop, shutdown_error
from graphs.run_usage import run_usage
from store.ports import Append, Change, DropCheckpoints, MessageRow, Patch, Row, RunProgress, StepRow, Store
from wire.errors import NotFound, StatusConflict, StoreError, StoreFailed
from wire.events import Event, NewEvent
from wire.runs import RequiredAction, Run, RunOutcome, WantedCall
from wire.status import ACTIVE, RunEnd

__all__ = ["ActiveRun"]

logger = logging.getLogger("threadhold.runs")

_RESERVE_BEFORE = BLOCK // 2
_READ_EVENTS = 1024
"""Event numbers that are kept free: more than one read of the upstream's answer uses."""
_SMALL_BYTES = 16 * 1024
"""An output up to this size is kept even if no memory is free: it is counted, and new runs wait until it is freed."""
_FLUSH_EVENTS = 256
_FLUSH_S = 0.25


@dataclass(slots=True)
class ActiveRun:
    """One run in execution."""

    owner: str
    recorder: Recorder
    log: RunLog
    store: Store
    metrics: RunMetrics
    stop: Stop | None = None
    task: asyncio.Task[None] | None = None
    """Set by the task's first step; a task that is cancelled before that never runs."""
    ending: bool = False
    """The last commit is queued; nothing can change the outcome any more."""
    checkpointed: bool = False
    """Whether checkpoints can exist that the end must drop."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    key_id: str = ""
    """The stored API key of the request that started the run."""
    weight: int = 1
    """The number of runs that it counts as (see `Admission.weight_of`)."""
    size: int = 0
    """The bytes of its object."""
    number: int = 0
    """The number of its start (see `Admission.admit`)."""
    memory: int = 0
    """Bytes that `graphs.admission` counts for the run."""
    history_memory: int = 0
    """The part of `memory` that the history and the run's object take."""
    resize: Callable[[int, bool], bool] = lambda _memory, _only_if_free: True
    """Changes the bytes that are counted for the run; the second argument: only if they are free."""
    begun_at: float = 0.0
    """When this process began to execute it, on the event loop's clock, which cannot be set."""
    restore_rows: "Callable[[ActiveRun], Awaitable[None]] | None" = None
    """Restores a run that was left from its rows; None once that is done. An end before that must restore it first."""
    _reserving: "asyncio.Future[list[Row]] | None" = None
    steps: list[StepRow] = field(default_factory=list)
    """The run's steps, as stored when this process took the run over."""
    messages: list[MessageRow] = field(default_factory=list)
    private: RunProgress = field(default_factory=lambda: RunProgress())
    """What the run's row keeps for the run's continuation; written when the run pauses."""
    _ended: RunEnded | None = None
    """The graph's end, if it has emitted one."""
    _held: MessageClosed | None = None
    _unstored: list[Event] = field(default_factory=list)
    _flushed_at: float = 0.0
    _begun_at: float = field(default_factory=time.monotonic)
    _first_at: float | None = None
    _error: BaseException | None = None
    _reported_tokens: int = 0

    @property
    def run(self) -> Run:
        """The run's wire object in its current state."""
        return self.recorder.run

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.recorder.run["id"]

    # --- writing --------------------------------------------------------------------------------------------------

    def restore(self) -> None:
        """Restore the recorder from `steps` and `messages`. Rows to be dropped must be removed from them before."""
        self.restore_rows = None
        self.recorder.restore(self.steps, self.messages)
        self._reported_tokens = self.recorder.usage["total_tokens"]

    def commit_progress(self, recorded: Recorded, *, durable: bool = False) -> "asyncio.Future[list[Row]]":
        """Queue progress: readers see it immediately; it is synced with the next answer or end (or `durable`)."""
        events = self.log.number(recorded.events)
        if self.task is None:
            self._reserve_used(recorded)
        commit = self._write([*recorded.changes, *self._flushed(events)], durable=durable)
        self.log.publish(events)
        self._reserve()
        return commit

    def _publish_deltas(self, deltas: Sequence[NewEvent]) -> None:
        """Publish deltas immediately, and store them in batches. This is the hot path.

        Nothing waits for the store: after a crash, the lost deltas are generated again."""
        events = self.log.number(deltas)
        self.log.publish(events)
        self._unstored.extend(events)
        now = asyncio.get_running_loop().time()
        if len(self._unstored) >= _FLUSH_EVENTS or now - self._flushed_at > _FLUSH_S:
            self._write(self._flushed(()))
            self._reserve()

    def _flushed(self, events: Sequence[Event]) -> list[Change]:
        """Return the append of the events that wait to be stored, followed by `events`."""
        waiting = [*self._unstored, *events]
        self._unstored.clear()
        self._flushed_at = asyncio.get_running_loop().time()
        return [Append(self.run_id, waiting)]

    def _write(self, changes: Sequence[Change], *, durable: bool = False) -> "asyncio.Future[list[Row]]":
        commit = self.store.commit(changes, durable=durable)
        commit.add_done_callback(partial(self._written, self.log.next - 1 - len(self._unstored)))
        return commit

    async def commit_end(self, recorded: Recorded, *more: Change) -> None:
        """Commit a pause or an end, synced, and publish its events only then. If another process has cancelled the run
        meanwhile, commit that end instead. Raises StoreError."""
        self.ending = True
        unstored = [*self._unstored]
        try:
            await self._commit_last(recorded, *more)
        except StatusConflict as conflict:
            if conflict.status != "cancelling" or self.run["status"] == "cancelled":
                raise
            self.log.release_numbers(len(recorded.events))
            self._unstored = unstored
            await self._commit_last(cancelled_instead(self.recorder, recorded), *self._dropped())
        self._report()

    async def _commit_last(self, recorded: Recorded, *more: Change) -> None:
        events = self.log.number(recorded.events)
        *before, move = recorded.changes
        assert isinstance(move, Patch), "the last change of a pause or an end is the run's status"
        # One patch for each row in a commit: the numbers go with the status. The graph has what was submitted.
        done = {"submitted": None} if self.checkpointed else {}
        move = replace(move, private={"next_event": self.log.next, **done, **self.private})
        counted = [] if self.run["status"] in ACTIVE else [run_usage(self.recorder, self.owner, self.key_id)]
        changes = [*before, move, *self._flushed(events), *more, *counted]
        await self.store.commit(changes, durable=True)  # it takes place even if this wait is cancelled
        self.log.publish(events)

    def _dropped(self) -> Sequence[Change]:
        return (DropCheckpoints(self.run_id),) if self.checkpointed else ()

    def _report(self) -> None:
        """Count how the run ended or paused here, and log it."""
        tokens, self._reported_tokens = self._reported_tokens, self.recorder.usage["total_tokens"]
        self.metrics.on_tokens(self.key_id, self._reported_tokens - tokens)
        took_s = time.monotonic() - self._begun_at
        first_s = None if self._first_at is None else self._first_at - self._begun_at
        self.metrics.runs[self.run["status"],] += 1
        self.metrics.run_seconds.add(took_s)
        if first_s is not None:
            self.metrics.first_token_seconds.add(first_s)
        log_run(self.run, owner=self.owner, took_s=took_s, first_s=first_s, error=self._error)

    async def end(self, status: RunEnd, **fields: Unpack[RunOutcome]) -> None:
        """End the run with this status."""
        if self.restore_rows is not None:
            self.ending = True  # nothing stops the end
            await self.restore_rows(self)
        recorded = Recorded()
        if status in ("completed", "incomplete"):
            recorded = self._last_close()
        elif self._held is not None:  # the reply is complete, so its tokens count
            self.recorder.count_usage(self._held.usage)
        recorded.extend(self.recorder.transition(status, **fields))
        await self.commit_end(recorded, *self._dropped())

    def _last_close(self) -> Recorded:
        """Return the close of the last message. It is held back so that it shares a commit with the run's end: after a
        crash, no reply whose message is completed is generated again."""
        held, self._held = self._held, None
        return Recorded() if held is None else self.recorder.record(held)

    def _written(self, number: int, commit: "asyncio.Future[list[Row]]") -> None:
        """Note that a commit with the events up to `number` has ended."""
        if self.stop is not None or commit.cancelled():
            return
        if (error := commit.exception()) is None:
            self.log.drop_stored(number)
        else:
            if isinstance(error, StatusConflict) and error.status == "cancelling":
                self.cancel_as_stored()
                return
            stop = lost_stop(error) or "unwritten"
            if stop == "unwritten":
                logger.error("run %s: a commit failed, so the run is stopped: %s", self.run_id, error)
            self.stop_for(stop)

    def _reserve_used(self, recorded: Recorded) -> None:
        """Store the used numbers with the run's change: without a task, it has no block of numbers."""
        change = recorded.changes[-1]
        assert isinstance(change, Patch), "the last change of a run that no task executes is the run's own"
        recorded.changes[-1] = replace(change, private={**change.private, "next_event": self.log.next})

    def _reserve(self) -> None:
        """Reserve the next block of event numbers in the run's row before the current one is used up."""
        if self.log.ceiling - self.log.next > _RESERVE_BEFORE:
            return
        self.log.ceiling += BLOCK
        patch = Patch("run", self.run_id, self.owner, private={"next_event": self.log.ceiling})
        self._reserving = self._write([patch])

    def stop_for(self, stop: Stop) -> None:
        """Stop the task, unless its last commit is already queued. The first reason stays."""
        if self.stop is None:
            self.stop = stop
        if self.task is not None and not self.ending:
            self.task.cancel()

    def cancel_as_stored(self) -> None:
        """Act on a cancellation that another process has committed."""
        if not self.ending and self.stop is None:
            self.commit_progress(announced(self.recorder, self.owner))
            self.stop_for("cancelled")

    # --- driving --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Move a queued run to `in_progress`."""
        if self.run["status"] == "queued" and self.stop is None:
            self.commit_progress(self.recorder.transition("in_progress"))

    async def drive(self, graph: CompiledRun, given: GraphInput, config: RunnableConfig, context: RunContext) -> None:
        """Execute the graph until it pauses, ends or fails, and commit a pause or an end."""
        updates: Any = graph.astream(  # an async generator, contrary to its type
            given,
            config,
            context=context,
            stream_mode="updates",
            durability="sync" if self.checkpointed else None,
        )
        try:
            async for update in updates:
                if "__interrupt__" in update:
                    await self._pause(**update["__interrupt__"][0].value)
                    return
        finally:
            await updates.aclose()
        reason = self._ended.reason if self._ended is not None else None
        if reason is None:
            await self.end("completed")
        else:
            await self.end("incomplete", incomplete_details={"reason": reason})

    def on_part(self, part: StreamPart) -> None:
        """Record a part that a node emits. Parts of a run that is being stopped are ignored."""
        if self.stop is not None:
            return
        if isinstance(part, TextDeltas):
            self._publish_deltas(self.recorder.text_deltas(part.texts))
            return
        if isinstance(part, RunEnded):
            self._ended = part
            return
        recorded = self._last_close()
        if isinstance(part, MessageClosed):
            self._held = part
        else:
            recorded.extend(self.recorder.record(part))
            if recorded.changes:
                self.commit_progress(recorded)
            elif recorded.events:
                self._publish_deltas(recorded.events)

    def reserve(self, exchange_bytes: int) -> bool:
        """Count memory for an output. Returns False if the output is large and no memory is free."""
        memory = self.memory + exchange_memory(exchange_bytes)
        return self.resize(memory, exchange_bytes > _SMALL_BYTES)

    def note_output(self) -> None:
        """Record the time of the model's first output. Parts cannot show it: some are the server's own notices."""
        if self._first_at is None:
            self._first_at = time.monotonic()

    async def backpressure(self) -> None:
        """Wait before an event number is used that a crash could assign again."""
        reserving = self._reserving
        if reserving is None:
            return
        if self.log.ceiling - self.log.next <= BLOCK + _READ_EVENTS:
            await asyncio.wait((reserving,))
        if reserving.done():
            self._reserving = None

    async def _pause(self, calls: Sequence[Call], exchange_bytes: int = 0) -> None:
        wanted: list[WantedCall] = [
            {"id": call["id"], "type": "function", "function": {"name": call["name"], "arguments": call["arguments"]}}
            for call in calls
        ]
        self.private = {
            "exchange_bytes": exchange_bytes,
            "memory": self.history_memory,
            "cached_tokens": self.recorder.cached_tokens,
        }
        action: RequiredAction = {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": wanted}}
        await self.commit_end(self.recorder.transition("requires_action", required_action=action))

    async def stopped(self) -> None:
        """Write what the stop means for the run. Called once the graph is closed."""
        match self.stop:
            case "cancelled":
                await self.end("cancelled")
            case "expired":
                await self.end("expired")
            case "shutdown":
                if (rest := self.recorder.flush()).changes:
                    self.commit_progress(rest)
                self.log.close(shutdown_error(self.run_id, self.log.next - 1))
            case "unwritten":
                # Rows and log lack the last output: the run is ended from what they have, once the store takes writes.
                raise StoreFailed(UNWRITTEN)
            case "deleted":
                with suppress(StoreError):
                    await self.store.commit([run_usage(self.recorder, self.owner, self.key_id)], durable=True)
                self.log.close(NotFound(f"Thread {self.run['thread_id']} was deleted while its run was active."))
            case "lost":
                self.log.close(handed_over_error(self.run_id, self.log.next - 1))
            case "refused" | None:
                pass

    async def failed(self, error: BaseException) -> None:
        """End the run as failed."""
        self._error = error
        await self.end("failed", last_error=last_error(error))
