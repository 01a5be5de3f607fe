"""One event of a run's log, and the closed set of names: OpenAI's spec of 2026-08-21, and our own `threadhold.…`.

An event's `number` is its sequence number in the run's log: it starts at 0 and only rises; after a crash it may jump.
`json` is the data, encoded once; every reader and the store take the same bytes.
"""

from typing import Any, Final, NamedTuple

import orjson

__all__ = ["EVENT_NAMES", "RUN_ENDS", "Event", "LastEvents", "encode", "own_data"]

EVENT_NAMES: Final[dict[str, str]] = {
    "thread.created": "a thread was made by create-thread-and-run",
    "thread.run.created": "a run was made",
    "thread.run.queued": "it waits to be executed, at first or after tool outputs",
    "thread.run.in_progress": "it is executed",
    "thread.run.requires_action": "it waits for tool outputs; the stream ends",
    "thread.run.completed": "it ended well",
    "thread.run.incomplete": "it ended early: a token budget, or the content filter",
    "thread.run.failed": "it ended with `last_error`",
    "thread.run.cancelling": "somebody asked to cancel it",
    "thread.run.cancelled": "it was cancelled",
    "thread.run.expired": "it took longer than it may",
    "thread.run.step.created": "a step began",
    "thread.run.step.in_progress": "a step is executed",
    "thread.run.step.delta": "a fragment of a step's tool calls",
    "thread.run.step.completed": "a step ended well",
    "thread.run.step.failed": "a step ended with `last_error`",
    "thread.run.step.cancelled": "a step was cancelled with its run",
    "thread.run.step.expired": "a step expired with its run",
    "thread.message.created": "a message was opened, still empty",
    "thread.message.in_progress": "a message is being written",
    "thread.message.delta": "a fragment of a message",
    "thread.message.completed": "a message is whole",
    "thread.message.incomplete": "a message was cut off",
    "threadhold.reset": "ours: after a crash, forget the deltas of the named message and step; they come anew",
    "threadhold.reasoning.delta": "ours: a fragment of what the model thinks; no part of any message",
    "threadhold.context": "ours: how many of the thread's messages the prompt left out, for their length",
    "error": "the stream cannot go on; nested {'error': {...}}",
    "done": "the last frame of a stream, literal [DONE]; never part of a log",
}
"""Every event name with its meaning."""

RUN_ENDS: Final = frozenset(f"thread.run.{s}" for s in ("completed", "incomplete", "failed", "cancelled", "expired"))
"""Names that end a run."""


class Event(NamedTuple):
    """One entry of a run's log. A tuple, as there is one for every token."""

    number: int
    name: str
    json: bytes

    def frame(self) -> bytes:
        """The event as one server-sent event, its id the sequence number."""
        return b"id: %d\nevent: %b\ndata: %b\n\n" % (self.number, self.name.encode(), self.json)

    def data(self) -> Any:
        """The decoded data."""
        return orjson.loads(self.json)


class LastEvents(list[Event]):
    """A batch of events after which there is nothing more to read."""


def encode(data: Any) -> bytes:
    """Encode event data once, compactly, as UTF-8 JSON."""
    # Copied: what orjson returns keeps the room that it was written in, 4 KB for 300 bytes, and a log keeps its events.
    return b"".join((orjson.dumps(data), b""))


def own_data(name: str, fields: dict[str, Any]) -> bytes:
    """Encode the data of an event of ours, so that no SDK trips over it.

    openai-python 3's async client takes the data of an event that does not begin with `thread.` for the event itself:
    programs that read `event.event` and `event.data.object` find them all the same.
    """
    return encode({**fields, "object": name, "event": name, "data": {"object": name}})
