"""Continues a run that this process did not start.

Invariant: the ids stay the same, and nothing appears twice. What the newest checkpoint contains is completed from it.
A reply that it does not contain is discarded: its rows and events leave the store, one `threadhold.reset` event
informs the readers that have seen it, and the reply is generated again with the same ids. Event numbers continue above
any that was ever sent.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, cast, overload

from langgraph.types import Command, StateSnapshot

from chains.extra_fields import extra_fields
from graphs.active_run import ActiveRun
from graphs.log import RunLog
from graphs.machine.build import CompiledRun
from graphs.machine.deltas import NO_USAGE, call_id, reply_ids, text_parts
from graphs.machine.metrics import RunMetrics
from graphs.machine.state import GraphInput, Reply, RunState
from graphs.machine.stream_parts import (
    Call,
    CallDelta,
    CallsMade,
    CallsOpened,
    MessageClosed,
    MessageOpened,
    StreamPart,
)
from graphs.record import Recorder
from retrieval.grounding import Source
from store.ports import Change, Delete, ItemRow, Kind, MessageRow, PageQuery, Retract, Row, RunRow, StepRow, Store
from wire.events import NewEvent, own_data
from wire.items import reasoning_item_id

__all__ = ["Plan", "load_rows", "make_active_run", "plan_recovery", "restore_run"]

_PAGE = 100
_READ_EVENTS = 1000


@dataclass(slots=True)
class Plan:
    """How to continue: the graph's input, and what to write first."""

    given: GraphInput
    resumed: bool
    changes: list[Change] = field(default_factory=list)
    events: list[NewEvent] = field(default_factory=list)


def make_active_run(store: Store, row: RunRow, clock: Callable[[], int], metrics: RunMetrics) -> ActiveRun:
    """Return the run, ready to be continued. Its rows are read later, at the latest when it ends."""
    recorder = Recorder(row.body, row.owner, clock, shows_contents=row.private.get("contents", False))
    active = ActiveRun(row.owner, recorder, RunLog(row.private["next_event"]), store, metrics)
    active.checkpointed = True
    recorder.cached_tokens = row.private.get("cached_tokens", 0)
    active.key_id = row.private.get("key_id", "")
    active.restore_rows = partial(_restore_rows, row=row)
    return active


async def load_rows(active: ActiveRun, row: RunRow) -> None:
    """Read the run's steps and messages; the recorder is not restored from them yet.

    Also skip the numbers of events that the log has: older versions could end between the storing of a
    cancellation's event and of its number."""
    while stored := await active.store.events(row.id, after=active.log.next - 1, limit=_READ_EVENTS):
        active.log.skip(stored[-1].number + 1)
    active.steps = await _rows(active.store, "step", row)
    active.messages = await _rows(active.store, "message", row)


@overload
async def _rows(store: Store, kind: Literal["step"], run: RunRow) -> list[StepRow]: ...
@overload
async def _rows(store: Store, kind: Literal["message"], run: RunRow) -> list[MessageRow]: ...
@overload
async def _rows(store: Store, kind: Literal["item"], run: RunRow) -> list[ItemRow]: ...
async def _rows(store: Store, kind: Kind, run: RunRow) -> Sequence[Row]:
    rows: list[Row] = []
    cursor = None
    while True:
        query = PageQuery(limit=_PAGE, order="asc", after=cursor)
        page = await store.page(kind, run.owner, query, thread_id=run.thread_id, run_id=run.id)
        rows += page.rows
        if not page.has_more:
            return rows
        cursor = page.rows[-1].id


async def restore_run(store: Store, row: RunRow, clock: Callable[[], int], metrics: RunMetrics) -> ActiveRun:
    """Return a waiting or orphaned run, restored from its rows."""
    active = make_active_run(store, row, clock, metrics)
    await _restore_rows(active, row)
    return active


async def _restore_rows(active: ActiveRun, row: RunRow) -> None:
    """Restore a run from all of its rows and, if a message is open, from its log."""
    await load_rows(active, row)
    active.restore()
    after = -1
    while active.recorder.is_writing_message and (
        events := await active.store.events(row.id, after=after, limit=_READ_EVENTS)
    ):
        active.recorder.restore_text(events)
        after = events[-1].number


async def plan_recovery(graph: CompiledRun, active: ActiveRun, row: RunRow) -> Plan:
    """Compare the run's rows with its newest checkpoint, and restore the recorder from the rows that are kept."""
    snapshot = await graph.aget_state({"configurable": {"thread_id": row.id}})
    values = cast("RunState", snapshot.values or {})
    plan = (
        Plan(given=_pending_outputs(snapshot, row), resumed=bool(values)) if values else Plan(given={}, resumed=False)
    )
    newest: Reply | None = values.get("reply")
    discarded: set[str] = set()
    if not values or set(snapshot.next) & {"reply", "prepare"}:
        discarded.update(reply_ids(row.id, values.get("replies", 0)))
    remake = newest is not None and not _is_recorded(newest, active)
    if newest is not None and remake:
        discarded.update(reply_ids(row.id, newest["number"]))
    if discarded:
        _discard(plan, active, row, discarded, await _discarded_items(active, row, discarded))
    active.restore()
    if newest is not None and remake:
        made = next((message for message in reversed(values.get("exchange", ())) if message.type == "ai"), None)
        extra = extra_fields(made) if made is not None else ""
        for part in _parts(newest, row.id, values.get("sources", {}), extra):
            recorded = active.recorder.record(part)
            plan.changes += recorded.changes
            plan.events += recorded.events
    return plan


def _pending_outputs(snapshot: StateSnapshot, row: RunRow) -> GraphInput:
    """Return the input for outputs that were acknowledged but had not reached the graph; None if there are none."""
    waiting = {call["id"] for interrupt in snapshot.interrupts for call in interrupt.value["calls"]}
    submitted = row.private.get("submitted") or {}
    return Command(resume=submitted) if waiting and waiting <= submitted.keys() else None


async def _discarded_items(active: ActiveRun, row: RunRow, discarded: set[str]) -> list[ItemRow]:
    """Return the items of replies that are discarded, by the ids of their messages and steps."""
    reasoning = {reasoning_item_id(id) for id in discarded}
    items = await _rows(active.store, "item", row)
    return [item for item in items if item.id in reasoning or item.private.get("step_id") in discarded]


def _discard(plan: Plan, active: ActiveRun, row: RunRow, discarded: set[str], items: Sequence[ItemRow]) -> None:
    plan.changes += [Delete("message", gone.id, row.owner) for gone in active.messages if gone.id in discarded]
    plan.changes += [Delete("step", gone.id, row.owner) for gone in active.steps if gone.id in discarded]
    plan.changes += [Delete("item", gone.id, row.owner) for gone in items]
    plan.changes.append(Retract(row.id, frozenset(discarded)))
    active.messages = [kept for kept in active.messages if kept.id not in discarded]
    active.steps = [kept for kept in active.steps if kept.id not in discarded]
    data = {
        "thread_id": row.thread_id,
        "run_id": row.id,
        "message_ids": sorted(id for id in discarded if id.startswith("msg_")),
        "step_ids": sorted(id for id in discarded if id.startswith("step_")),
    }
    plan.events.append(("threadhold.reset", own_data("threadhold.reset", data)))


def _is_recorded(reply: Reply, active: ActiveRun) -> bool:
    """Whether the rows contain all of the checkpointed reply."""
    message_id, _, calls_step = reply_ids(active.run_id, reply["number"])
    message = next((row for row in active.messages if row.id == message_id), None)
    step = next((row for row in active.steps if row.id == calls_step), None)
    visible = _visible_calls(reply, active.run_id)
    has_calls = not visible or (step is not None and len(step.body["step_details"]["tool_calls"]) == len(visible))
    has_text = not reply["text"] or (message is not None and message.body["status"] != "in_progress")
    return has_calls and has_text


def _visible_calls(reply: Reply, run_id: str) -> list[Call]:
    """The calls that are on the wire: not those of tools that were not offered, nor the invalid ones."""
    ids = {call_id(run_id, reply["number"], index) for index in range(len(reply["calls"]))}
    return [call for call in reply["calls"] if call["id"] in ids]


def _parts(reply: Reply, run_id: str, sources: dict[str, Source], extra: str) -> list[StreamPart]:
    """Return the parts of the whole checkpointed reply; `extra` is what its engine requires back."""
    message_id, message_step, calls_step = reply_ids(run_id, reply["number"])
    visible = _visible_calls(reply, run_id)
    parts: list[StreamPart] = []
    if reply["text"]:
        usage = NO_USAGE if visible else reply["usage"]
        parts += [
            MessageOpened(message_step, message_id),
            *text_parts(message_id, reply["text"], sources, is_answer=not visible),
        ]
        parts.append(MessageClosed(message_step, message_id, usage))
    if visible:
        parts.append(CallsOpened(calls_step))
        parts += [
            CallDelta(calls_step, index, call["id"], call["name"], call["arguments"], call.get("kind", "function"))
            for index, call in enumerate(visible)
        ]
        parts.append(CallsMade(calls_step, tuple(visible), reply["usage"], message_id=message_id, extra_fields=extra))
    return parts
