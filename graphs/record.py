"""Turns the parts of a run into changes of rows and events. Pure: the runner commits and publishes them.

Invariant: row first, then event, so every event comes with the change that makes it true. A recorder holds the run's
current body and whatever is open: at most one step, and at most one message in it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Unpack, assert_never

import orjson

from graphs.items import RunItems
from graphs.machine.deltas import NO_USAGE, add_usage
from graphs.machine.stream_parts import (
    Call,
    CallAnswered,
    CallDelta,
    CallsAnswered,
    CallsMade,
    CallsOpened,
    Citation,
    CustomEvent,
    MessageClosed,
    MessageOpened,
    ReasoningDelta,
    RefusalDelta,
    RunEnded,
    StreamPart,
    TextDeltas,
    Usage,
)
from graphs.message_text import MessageText
from graphs.open_calls import OpenCalls
from graphs.tools.contents import with_contents
from graphs.tools.kinds import STEP_CALLS
from store.ports import Change, Insert, MessageRow, Patch, Row, StepRow
from wire.event_names import CustomEventName, EventName
from wire.events import Event, NewEvent, encode, message_event, own_data, run_event, step_event
from wire.json import JsonObject
from wire.messages import Message, open_message
from wire.runs import LastError, Run, RunChange, RunOutcome
from wire.status import RunEnd, Status, sources
from wire.steps import RunStep, StepDetails, StepEnd, close_step, open_step

__all__ = ["Recorded", "Recorder"]

_CLOSED: Final = ("status", "content", "incomplete_details", "completed_at", "incomplete_at")
"""Fields of a message that change at its end."""


@dataclass(slots=True)
class Recorded:
    """The result of one part or move: changes of one commit, and events, in order."""

    changes: list[Change] = field(default_factory=list)
    events: list[NewEvent] = field(default_factory=list)

    def add(self, name: EventName, data: object) -> None:
        """Append an event with this data, which is encoded."""
        self.events.append((name, encode(data)))

    def add_own(self, name: CustomEventName, fields: Mapping[str, object]) -> None:
        """Append one of the events that OpenAI's API does not have."""
        self.events.append((name, own_data(name, fields)))

    def extend(self, other: "Recorded") -> None:
        """Append another result, to be part of the same commit."""
        self.changes += other.changes
        self.events += other.events


class Recorder:
    """Records one run. `clock` returns Unix seconds."""

    def __init__(self, run: Run, owner: str, clock: Callable[[], int], *, shows_contents: bool = False) -> None:
        """`shows_contents`: the run's events include the texts of the passages that searches found."""
        self.run = run
        self._shows_contents = shows_contents
        self.step: RunStep | None = None
        self.usage: Usage = run.get("usage") or NO_USAGE
        self._owner = owner
        self._clock = clock
        self._message: Message | None = None
        self._text = MessageText()
        self._calls = OpenCalls()
        self._items = RunItems(run["thread_id"], run["id"], owner)
        self._prefix = b""
        self.cached_tokens = 0
        self.model_calls = 0
        """Replies whose tokens `usage` contains."""
        self._booked: Usage | None = None  # the open step's usage, which is null on the wire until the step ends

    # --- restoring ------------------------------------------------------------------------------------------------

    def restore(self, steps: Sequence[StepRow], messages: Sequence[MessageRow]) -> None:
        """Restore the state from existing rows."""
        for row in steps:
            usage = row.body["usage"] or row.private.get("usage")
            self._add_usage(usage or NO_USAGE)
            if row.body["status"] == "in_progress":
                self.step, self._booked = row.body, usage
                self._calls = OpenCalls(row.body["step_details"], row.private.get("contents"))
        self._message = next((row.body for row in messages if row.body["status"] == "in_progress"), None)

    @property
    def is_writing_message(self) -> bool:
        """Whether a message is open."""
        return self._message is not None

    def restore_text(self, events: Sequence[Event]) -> None:
        """Restore the open message's text from the log; its row has the text only once the message is closed."""
        for event in events:
            if self._message is not None:
                self._text.restore(event, self._message["id"])

    def note_message(self, message_id: str, metadata: dict[str, str]) -> None:
        """Set the open message's metadata to what a client gave it."""
        if self._message is not None and self._message["id"] == message_id:
            self._message["metadata"] = metadata

    # --- parts ----------------------------------------------------------------------------------------------------

    def text_deltas(self, texts: Sequence[str]) -> list[NewEvent]:
        """Return one event for each token, and no row. This is the hot path.

        The first event of a message has an empty list of annotations: clients iterate over them at every delta."""
        begins = not self._text.has_text
        self._text.add(texts)
        prefix = self._prefix
        events: list[NewEvent] = [("thread.message.delta", prefix + orjson.dumps(text) + b"}}]}}") for text in texts]
        if begins and events:
            events[0] = ("thread.message.delta", prefix + orjson.dumps(texts[0]) + b',"annotations":[]}}]}}')
        return events

    def record(self, part: StreamPart) -> Recorded:
        """Turn a part into changes and events."""
        done = Recorded()
        match part:
            case TextDeltas():
                done.events.extend(self.text_deltas(part.texts))
            case Citation():
                self._cite(part, done)
            case ReasoningDelta():
                self._record_reasoning(part, done)
            case CustomEvent():
                self._record_custom(part, done)
            case RefusalDelta() | MessageOpened() | MessageClosed():
                self._record_message(part, done)
            case CallsOpened() | CallDelta() | CallsMade() | CallAnswered() | CallsAnswered():
                self._record_calls(part, done)
            case RunEnded():
                pass  # the active run decides whether the run can still end that way
            case _:
                assert_never(part)
        return done

    def _record_message(self, part: RefusalDelta | MessageOpened | MessageClosed, done: Recorded) -> None:
        match part:
            case RefusalDelta():
                self._refuse(part, done)
            case MessageOpened():
                self._open_message(part, done)
            case MessageClosed():
                self._close_message(done, "incomplete" if part.reason else "completed", part.reason)
                self._close_step(done, "completed", usage=part.usage)

    def _record_calls(
        self, part: CallsOpened | CallDelta | CallsMade | CallAnswered | CallsAnswered, done: Recorded
    ) -> None:
        match part:
            case CallsOpened():
                self._open_calls(part, done)
            case CallDelta():
                self._call_delta(part, done)
            case CallsMade():
                self._calls_made(part, done)
            case CallAnswered():
                if part.details is not None:
                    self._calls.show_details(part.call_id, part.details, part.contents)
                self._calls.answer({part.call_id: part.output})
                if self._calls.is_far_behind:
                    done.extend(self.flush())
            case CallsAnswered():
                self.answer_all(part.outputs, done)

    def _open_message(self, part: MessageOpened, done: Recorded) -> None:
        details = StepDetails(type="message_creation", message_creation={"message_id": part.message_id})
        self._open_step(part.step_id, details, done)
        self._text = MessageText()
        self._open_prefix(part.message_id)
        done.changes += self._items.write_reasoning(part.message_id)
        self._message = open_message(
            id=part.message_id,
            thread_id=self.run["thread_id"],
            run_id=self.run["id"],
            assistant_id=self.run["assistant_id"],
            now=self._clock(),
        )
        # A copy: the writer encodes it later, and this body keeps changing.
        body = self._message.copy()
        row = Row("message", part.message_id, self._owner, body, self.run["thread_id"], self.run["id"])
        done.changes.append(Insert(row))
        done.add("thread.message.created", self._message)
        done.add("thread.message.in_progress", self._message)

    def _open_prefix(self, message_id: str) -> None:
        head = (
            b'{"id":"%b","object":"thread.message.delta","delta":{"content":[{"index":0,"type":"text","text":{"value":'
        )
        self._prefix = head % message_id.encode()

    def _cite(self, part: Citation, done: Recorded) -> None:
        index, made = self._text.cite(part)
        text = {"value": part.marker, "annotations": [{"index": index, **made}]}
        content = [{"index": 0, "type": "text", "text": text}]
        data = {"id": part.message_id, "object": "thread.message.delta", "delta": {"content": content}}
        done.add("thread.message.delta", data)

    def _record_custom(self, part: CustomEvent, done: Recorded) -> None:
        if part.run_changes:
            if part.run_changes.items() <= self.run.items():
                return
            changed = dict(part.run_changes)
            self.run.update(changed)  # type: ignore[typeddict-item]  # a node names the fields
            done.changes.append(Patch("run", self.run["id"], self._owner, changed))
        done.add_own(part.name, {"id": part.message_id, "run_id": self.run["id"], **part.fields})

    def _record_reasoning(self, part: ReasoningDelta, done: Recorded) -> None:
        self._items.add_reasoning(part)
        fields: dict[str, object] = {"id": part.message_id, "run_id": self.run["id"], "text": part.text}
        if part.reclassified:
            self._text.clear_text()
            fields["taken"] = True
        done.add_own("threadhold.reasoning.delta", fields)

    def _refuse(self, part: RefusalDelta, done: Recorded) -> None:
        self._text.refuse(part.text)
        content = [{"index": int(self._text.has_text), "type": "refusal", "refusal": part.text}]
        data = {"id": part.message_id, "object": "thread.message.delta", "delta": {"content": content}}
        done.add("thread.message.delta", data)

    def _open_step(self, step_id: str, details: StepDetails, done: Recorded) -> None:
        self._calls = OpenCalls()
        self.step = open_step(id=step_id, run=self.run, step_details=details, now=self._clock())
        done.changes.append(
            Insert(Row("step", step_id, self._owner, self.step.copy(), self.run["thread_id"], self.run["id"]))
        )
        done.add("thread.run.step.created", self.step)
        done.add("thread.run.step.in_progress", self.step)

    def _open_calls(self, part: CallsOpened, done: Recorded) -> None:
        self._open_step(part.step_id, {"type": "tool_calls", "tool_calls": []}, done)

    def _call_delta(self, part: CallDelta, done: Recorded) -> None:
        calls: list[JsonObject] = []
        head, shown_as = {"index": part.index, "type": part.kind}, STEP_CALLS[part.kind]
        if part.call_id is not None:
            calls.append({**head, "id": part.call_id, part.kind: shown_as.start(part.name or "")})
        if part.arguments and shown_as.arguments_delta is not None:
            calls.append({**head, part.kind: shown_as.arguments_delta(part.arguments)})
        for call in calls:
            details = {"type": "tool_calls", "tool_calls": [call]}
            data = {"id": part.step_id, "object": "thread.run.step.delta", "delta": {"step_details": details}}
            done.add("thread.run.step.delta", data)

    def _calls_made(self, part: CallsMade, done: Recorded) -> None:
        step = self._open(part.step_id)
        step["step_details"] = {"type": "tool_calls", "tool_calls": [_open_call(call) for call in part.calls]}
        self._calls = OpenCalls(step["step_details"])
        done.changes += self._items.add_calls(part)
        if part.cut_off:
            error = LastError(code="server_error", message="A token limit cut the reply off inside a tool call.")
            self._close_step(done, "failed", usage=part.usage, error=error)
            return
        self.count_usage(part.usage)
        private = {"usage": part.usage}
        done.changes.append(Patch("step", step["id"], self._owner, {"step_details": step["step_details"]}, private))

    def count_usage(self, usage: Usage) -> None:
        """Count tokens on the open step and in the run's total."""
        self._booked = usage
        self._add_usage(usage)

    def count_cached(self, tokens: int) -> None:
        """Count tokens of prompts that the upstream had cached."""
        self.cached_tokens += tokens

    def _add_usage(self, usage: Usage) -> None:
        self.usage = add_usage(self.usage, usage)
        self.model_calls += usage["total_tokens"] > 0  # of a reply with text and calls, only one step has tokens

    def flush(self) -> Recorded:
        """Write the outputs that the open step's row lacks."""
        done = Recorded()
        if self.step is not None and self._calls.is_behind:
            self._calls.note_written()
            done.changes += [self._patch_step("step_details"), *self._items.add_outcomes(self.step["id"], self._calls)]
        return done

    def answer_all(self, outputs: dict[str, str], done: Recorded) -> None:
        """Add the outputs and complete the step; does nothing if no step is open."""
        if self.step is not None:
            self._calls.answer(outputs)
            self._close_step(done, "completed", usage=None)

    def _open(self, step_id: str) -> RunStep:
        if self.step is None or self.step["id"] != step_id:
            raise AssertionError(f"step {step_id} is not open")
        return self.step

    def _close_message(self, done: Recorded, status: Literal["completed", "incomplete"], reason: str | None) -> None:
        if (message := self._message) is None:
            return
        now = self._clock()
        message["status"] = status
        message["content"] = self._text.content()
        message["incomplete_details"] = {"reason": reason} if reason else None
        message["completed_at"] = now if status == "completed" else None
        message["incomplete_at"] = now if status == "incomplete" else None
        changed = _part_of(message, *_CLOSED)
        done.changes += self._items.write_reasoning(message["id"])
        # The client may have deleted the message meanwhile, which is no error of the run.
        done.changes.append(Patch("message", message["id"], self._owner, changed, if_exists=True))
        done.add(message_event(status), message)
        self._message = None

    def _patch_step(self, *keys: str) -> Patch:
        step = self.step
        if step is None:
            raise AssertionError("no step is open")
        private = {"contents": self._calls.contents} if self._calls.contents else {}
        return Patch("step", step["id"], self._owner, _part_of(step, *keys), private)

    def _close_step(
        self, done: Recorded, status: StepEnd, *, usage: Usage | None, error: LastError | None = None
    ) -> None:
        if (step := self.step) is None:
            return
        if usage is not None:
            self.count_usage(usage)
        close_step(step, status, now=self._clock(), error=error, usage=self._booked)
        self._booked = None
        done.changes.append(self._patch_step("status", f"{status}_at", "usage", "last_error", "step_details"))
        done.changes += self._items.add_outcomes(step["id"], self._calls)
        done.changes += self._items.close_calls(self._calls)
        shown = with_contents(step, self._calls.contents) if self._shows_contents else step
        done.add(step_event(status), shown)
        self.step = None

    # --- the run itself -------------------------------------------------------------------------------------------

    def transition(self, status: Status, **fields: Unpack[RunOutcome]) -> Recorded:
        """Move the run to a status. An end first closes what is open and sets the end's own fields."""
        done = Recorded()
        now = self._clock()
        changed: RunChange = {"status": status}
        changed.update(fields)  # type: ignore[typeddict-item]  # there is no type for some keys of a TypedDict
        match status:
            case "in_progress":
                changed["started_at"] = now
            case "queued" | "cancelling":
                changed["required_action"] = None
            case "requires_action":
                done.extend(self.flush())
            case "completed" | "incomplete" | "failed" | "cancelled" | "expired":
                self._close_open(status, done, changed.get("last_error"))
                changed |= {"expires_at": None, "required_action": None, "usage": self.usage}
                if status == "completed":
                    changed["completed_at"] = now
                elif status == "failed":
                    changed["failed_at"] = now
                elif status == "cancelled":
                    changed["cancelled_at"] = now
        self.run.update(changed)  # type: ignore[typeddict-item]  # as above
        done.changes.append(Patch("run", self.run["id"], self._owner, changed, only_if=frozenset(sources(status))))
        done.add(run_event(status), self.run)
        return done

    def _close_open(self, status: RunEnd, done: Recorded, error: LastError | None) -> None:
        if status == "completed" or status == "incomplete":
            self._close_step(done, "completed", usage=None)  # the run ends with calls that its client answers later
            return
        self._close_message(done, "incomplete", f"run_{status}")
        if error is not None and error["code"] == "invalid_prompt":
            # Steps have only server_error and rate_limit_exceeded.
            error = LastError(code="server_error", message=error["message"])
        self._close_step(done, status, usage=None, error=error)


def _part_of(body: Mapping[str, object], *keys: str) -> dict[str, object]:
    return {key: body[key] for key in keys}


def _open_call(call: Call) -> JsonObject:
    """Return the wire object of a call that has no output yet."""
    kind = call.get("kind", "function")
    return {"id": call["id"], "type": kind, kind: STEP_CALLS[kind].show(call)}
