"""Cancellations of runs that another process executes: one process commits the status, the other ends the run.

Invariant: a run that is cancelled in the store ends as `cancelled`, and its log has both events of a cancellation.
"""

from dataclasses import replace
from typing import Final, cast

from graphs.record import Recorded, Recorder
from store.ports import Notify, Patch, RunRow, Store
from wire.errors import InvalidRequest, StatusConflict
from wire.events import NewEvent, encode
from wire.runs import Run, RunChange
from wire.status import sources

__all__ = [
    "CANCELLABLE",
    "UNANNOUNCED",
    "announced",
    "cancel_elsewhere",
    "cancelled_instead",
    "cancelling",
    "not_cancellable",
]

CANCELLABLE: Final = frozenset(sources("cancelling"))

UNANNOUNCED: Final = "unannounced"
"""A key of a run's private part: whether the event of its cancellation is still missing."""

_CANCELLING: Final[RunChange] = {
    "status": "cancelling",
    "required_action": None,
    "completed_at": None,
    "failed_at": None,
    "incomplete_details": None,
    "last_error": None,
}


async def cancel_elsewhere(store: Store, owner: str, run_id: str) -> Run:
    """Commit that a run is `cancelling`, and return it; the process that executes it ends it. Raises InvalidRequest."""
    changed = {"status": "cancelling", "required_action": None}
    change = Patch("run", run_id, owner, changed, {UNANNOUNCED: True}, only_if=CANCELLABLE)
    try:
        rows = await store.commit([change, Notify("runs")], durable=True)
    except StatusConflict as conflict:
        raise not_cancellable(conflict.status) from conflict
    return cast("RunRow", rows[0]).body  # the row after the Patch of a run


def not_cancellable(status: str) -> InvalidRequest:
    """Return the error for a run that is ending or has ended."""
    return InvalidRequest(f"Cannot cancel run with status '{status}'.")


def cancelling(recorder: Recorder) -> Recorded:
    """Transition a run that this process holds to `cancelling`; another process can have committed this already."""
    recorded = recorder.transition("cancelling")
    last = recorded.changes[-1]
    assert isinstance(last, Patch), "the last change of a transition is the run's status"
    recorded.changes[-1] = replace(last, only_if=CANCELLABLE | {"cancelling"}, private={UNANNOUNCED: False})
    return recorded


def announced(recorder: Recorder, owner: str) -> Recorded:
    """Return the event of a cancellation that is already committed."""
    event = _cancelling_event(recorder)
    return Recorded([Patch("run", recorder.run["id"], owner, private={UNANNOUNCED: False})], [event])


def cancelled_instead(recorder: Recorder, refused: Recorded) -> Recorded:
    """Return the end of a run as `cancelled`, with the same changes and events otherwise.

    `refused` is the end or pause that came too late; its last change and event are those of the run.
    """
    instead = Recorded(refused.changes[:-1], [*refused.events[:-1], _cancelling_event(recorder)])
    instead.extend(recorder.transition("cancelled"))
    return instead


def _cancelling_event(recorder: Recorder) -> NewEvent:
    recorder.run.update(_CANCELLING)  # type: ignore[typeddict-item]  # there is no type for some keys of a TypedDict
    return "thread.run.cancelling", encode(recorder.run)
