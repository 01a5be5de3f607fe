"""Events of a run's log, and their closed set of names: those of OpenAI's spec of 2026-08-21, and our `threadhold.…`.

An event's `number` is its sequence number in the run's log: it starts at 0 and only increases; after a crash it can
skip values. `json` is the data, encoded once; every reader and the store use the same bytes.
"""

from collections.abc import Iterable, Mapping
from typing import Final, Literal, NamedTuple, cast, get_args

import orjson

from wire.json import UncheckedJson
from wire.status import Status
from wire.steps import StepEnd

__all__ = [
    "EVENT_NAMES",
    "RUN_ENDS",
    "Event",
    "EventName",
    "LastEvents",
    "NewEvent",
    "encode",
    "message_event",
    "own_data",
    "run_event",
    "step_event",
    "total_bytes",
]

EventName = Literal[
    "thread.created",  # create-thread-and-run created a thread
    "thread.run.created",  # a run was created
    "thread.run.queued",  # the run waits for execution, initially or after tool outputs
    "thread.run.in_progress",  # the run is being executed
    "thread.run.requires_action",  # the run waits for tool outputs; the stream ends
    "thread.run.completed",  # the run completed
    "thread.run.incomplete",  # the run ended early: a token budget, or the content filter
    "thread.run.failed",  # the run ended with `last_error`
    "thread.run.cancelling",  # a client requested cancellation
    "thread.run.cancelled",  # the run was cancelled
    "thread.run.expired",  # the run exceeded its time limit
    "thread.run.step.created",  # a step was created
    "thread.run.step.in_progress",  # a step is being executed
    "thread.run.step.delta",  # a fragment of a step's tool calls
    "thread.run.step.completed",  # a step completed
    "thread.run.step.failed",  # a step ended with `last_error`
    "thread.run.step.cancelled",  # a step was cancelled with its run
    "thread.run.step.expired",  # a step expired with its run
    "thread.message.created",  # an empty message was created
    "thread.message.in_progress",  # a message is being written
    "thread.message.delta",  # a fragment of a message
    "thread.message.completed",  # a message is complete
    "thread.message.incomplete",  # a message was cut off
    "threadhold.reset",  # ours: after a crash, discard the deltas of the named message and step; they are sent again
    "threadhold.reasoning.delta",  # ours: a fragment of the model's reasoning, which is not part of any message
    "threadhold.context",  # ours: how many of the thread's messages the prompt omits because of its length
    "error",  # the stream cannot continue; nested {'error': {...}}
    "done",  # the last frame of a stream, literal [DONE]; never part of a log
]
"""The name of an event."""

EVENT_NAMES: Final[tuple[EventName, ...]] = get_args(EventName)
"""Every event name."""

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


def own_data(name: EventName, fields: Mapping[str, object]) -> bytes:
    """Encode the data of one of our own events so that every SDK can read it.

    openai-python 3's async client returns the data of an event whose name does not begin with `thread.` as the event
    itself. The added fields let programs read `event.event` and `event.data.object` from it.
    """
    return encode({**fields, "object": name, "event": name, "data": {"object": name}})
