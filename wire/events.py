"""Events of a run's log. Their names are in `wire.event_names`.

An event's `number` is its sequence number in the run's log: it starts at 0 and only increases; after a crash it can
skip values. `json` is the data, encoded once; every reader and the store use the same bytes.
"""

from collections.abc import Iterable, Mapping
from typing import Final, Literal, NamedTuple, cast

import orjson

from wire.event_names import CustomEventName, EventName
from wire.json import UncheckedJson
from wire.status import Status
from wire.steps import StepEnd

__all__ = [
    "RUN_ENDS",
    "Event",
    "LastEvents",
    "NewEvent",
    "encode",
    "message_event",
    "own_data",
    "run_event",
    "step_event",
    "total_bytes",
]

NewEvent = tuple[EventName, bytes]
"""An event that has no number yet: its name and its encoded data."""

RUN_ENDS: Final = frozenset(f"thread.run.{s}" for s in ("completed", "incomplete", "failed", "cancelled", "expired"))
"""Names that end a run."""


class Event(NamedTuple):
    """One entry of a run's log. It is a tuple because every token makes one."""

    number: int
    name: str
    json: bytes

    def frame(self) -> bytes:
        """Return the event as a server-sent event, whose id is the sequence number."""
        return b"id: %d\nevent: %b\ndata: %b\n\n" % (self.number, self.name.encode(), self.json)

    def data(self) -> UncheckedJson:
        """Return the decoded data."""
        return orjson.loads(self.json)


class LastEvents(list[Event]):
    """The last batch of a run's events."""


def run_event(status: Status) -> EventName:
    """Return the name of the event of a run that has moved to this status."""
    return cast("EventName", f"thread.run.{status}")  # a test checks the names of all statuses


def step_event(status: StepEnd) -> EventName:
    """Return the name of the event of a step that has ended with this status."""
    return cast("EventName", f"thread.run.step.{status}")  # as above


def message_event(status: Literal["completed", "incomplete"]) -> EventName:
    """Return the name of the event of a message that has ended with this status."""
    return cast("EventName", f"thread.message.{status}")  # as above


def total_bytes(events: Iterable[Event]) -> int:
    """Return the bytes of the events' data."""
    return sum(len(event.json) for event in events)


def encode(data: object) -> bytes:
    """Encode event data once, compactly, as UTF-8 JSON."""
    # Copied, because orjson's result keeps its whole buffer, 4 KB for 300 bytes, and a log keeps its events.
    return b"".join((orjson.dumps(data), b""))


def own_data(name: CustomEventName, fields: Mapping[str, object]) -> bytes:
    """Encode the data of one of our own events so that every SDK can read it.

    openai-python 3's async client returns the data of an event whose name does not begin with `thread.` as the event
    itself. The added fields let programs read `event.event` and `event.data.object` from it.
    """
    return encode({**fields, "object": name, "event": name, "data": {"object": name}})
