"""Turns the parts of a run into changes of rows and events. Pure: the runner commits and publishes them.

Invariant: row first, then event, so every event comes with the change that makes it true. A recorder holds the run's
current body and whatever is open: at most one step, and at most one message in it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, assert_never

import orjson

from graphs.machine.deltas import NO_USAGE, add_usage
from graphs.machine.parts import (
    Call,
    CallAnswered,
    CallDelta,
    CallsAnswered,
    CallsMade,
    CallsOpened,
    Citation,
    LeftOut,
    MessageClosed,
    MessageOpened,
    Part,
    RefusalDelta,
    RunEnded,
    TextDeltas,
    ThoughtDelta,
    Usage,
)
from graphs.machine.pieces import Pieces
from graphs.open_calls import OpenCalls
from graphs.tools.kinds import STEP_CALLS
from store.ports import Change, Insert, Patch, Row
from wire.events import Event, encode, own_data
from wire.messages import annotation, open_message
from wire.status import Status, sources
from wire.steps import open_step, show_contents

__all__ = ["Recorded", "Recorder"]

_MESSAGE_REASON = {"cancelled": "run_cancelled", "expired": "run_expired", "failed": "run_failed"}


@dataclass(slots=True)
class Recorded:
    """The result of one part or move: changes of one commit, and events as (name, encoded data), in order."""

    changes: list[Change] = field(default_factory=list)
    events: list[tuple[str, bytes]] = field(default_factory=list)

    def extend(self, other: "Recorded") -> None:
        """Append another result, to be part of the same commit."""
        self.changes += other.changes
        self.events += other.events


class Recorder:
    """Records one run. `clock` returns Unix seconds."""

    def __init__(
        self, run: dict[str, Any], owner: str, clock: Callable[[], int], *, shows_contents: bool = False
    ) -> None:
        """`shows_contents`: the run's events include the texts of the passages that searches found."""
        self.run = run
        self._shows_contents = shows_contents
        self.step: dict[str, Any] | None = None
        self.usage: Usage = run.get("usage") or NO_USAGE
        self._owner = owner
        self._clock = clock
        self._message: dict[str, Any] | None = None
        self._text = Pieces()
        self._annotations: list[dict[str, Any]] = []
        self._refusals: list[str] = []
        self._calls = OpenCalls()
        self._prefix = b""
        self._booked: Usage | None = None  # the open step's usage, which is null on the wire until the step ends

    # --- restoring ------------------------------------------------------------------------------------------------

    def restore(self, steps: Sequence[Row], messages: Sequence[Row]) -> None:
        """Restore the state from existing rows."""
        for row in steps:
            usage = row.body["usage"] or row.private.get("usage")
            self.usage = add_usage(self.usage, usage or NO_USAGE)
            if row.body["status"] == "in_progress":
                self.step, self._booked = row.body, usage
                self._calls = OpenCalls(row.body["step_details"], row.private.get("contents"))
        self._message = next((row.body for row in messages if row.body["status"] == "in_progress"), None)

    @property
    def is_speaking(self) -> bool:
        """Whether a message is open."""
        return self._message is not None

    def restore_text(self, events: Sequence[Event]) -> None:
        """Restore the open message's text from the log; its row has the text only once the message is closed."""
        for event in events:
            if self._message is None or event.name not in ("thread.message.delta", "threadhold.reasoning.delta"):
                continue
            data = event.data()
            if data["id"] != self._message["id"]:
                continue
            if data.get("taken"):
                self._clear_texts()
            for part in data.get("delta", {}).get("content", ()):
                if part["type"] == "refusal":
                    self._refusals.append(part["refusal"])
                else:
                    self._text.extend([part["text"]["value"]])
                    made = part["text"].get("annotations", ())
                    self._annotations += [{key: each[key] for key in each if key != "index"} for each in made]

    def note_message(self, message_id: str, metadata: dict[str, str]) -> None:
        """Set the open message's metadata to what a client gave it."""
        if self._message is not None and self._message["id"] == message_id:
            self._message["metadata"] = metadata

    # --- parts ----------------------------------------------------------------------------------------------------

    def text_deltas(self, texts: Sequence[str]) -> list[tuple[str, bytes]]:
        """Return one event for each token, and no row. This is the hot path.

        The first event of a message has an empty list of annotations: clients iterate over them at every delta."""
        begins = not self._text
        self._text.extend(texts)
        prefix = self._prefix
        events = [("thread.message.delta", prefix + orjson.dumps(text) + b"}}]}}") for text in texts]
        if begins and events:
            events[0] = ("thread.message.delta", prefix + orjson.dumps(texts[0]) + b',"annotations":[]}}]}}')
        return events

    def record(self, part: Part) -> Recorded:
        """Turn a part into changes and events."""
        done = Recorded()
        match part:
            case TextDeltas():
                done.events.extend(self.text_deltas(part.texts))
            case Citation():
                self._cite(part, done)
            case ThoughtDelta():
                self._think(part, done)
            case LeftOut():
                self._leave_out(part, done)
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
        details = {"type": "message_creation", "message_creation": {"message_id": part.message_id}}
        self._open_step(part.step_id, "message_creation", details, done)
        self._clear_texts()
        self._refusals = []
        self._open_prefix(part.message_id)
        self._message = open_message(
            id=part.message_id,
            thread_id=self.run["thread_id"],
            run_id=self.run["id"],
            assistant_id=self.run["assistant_id"],
            now=self._clock(),
        )
        # A copy: the writer encodes it later, and this body keeps changing.
        body = dict(self._message)
        row = Row("message", part.message_id, self._owner, body, self.run["thread_id"], self.run["id"])
        done.changes.append(Insert(row))
        done.events.append(("thread.message.created", encode(self._message)))
        done.events.append(("thread.message.in_progress", encode(self._message)))

    def _open_prefix(self, message_id: str) -> None:
        head = (
            b'{"id":"%b","object":"thread.message.delta","delta":{"content":[{"index":0,"type":"text","text":{"value":'
        )
        self._prefix = head % message_id.encode()

    def _clear_texts(self) -> None:
        self._text, self._annotations = Pieces(), []

    def _cite(self, part: Citation, done: Recorded) -> None:
        made = annotation(part.marker, part.file_id, self._text.chars)
        self._text.extend([part.marker])
        self._annotations.append(made)
        text = {"value": part.marker, "annotations": [{"index": len(self._annotations) - 1, **made}]}
        content = [{"index": 0, "type": "text", "text": text}]
        data = {"id": part.message_id, "object": "thread.message.delta", "delta": {"content": content}}
        done.events.append(("thread.message.delta", encode(data)))

    def _leave_out(self, part: LeftOut, done: Recorded) -> None:
        report: dict[str, Any] = {"left_out_messages": part.messages, "context_limit": part.context_limit}
        if part.at_least:
            report["at_least"] = True
        if self.run.get("threadhold") == report:
            return
        self.run["threadhold"] = report
        done.changes.append(Patch("run", self.run["id"], self._owner, {"threadhold": report}))
        fields = {"id": part.message_id, "run_id": self.run["id"], **report}
        done.events.append(("threadhold.context", own_data("threadhold.context", fields)))

    def _think(self, part: ThoughtDelta, done: Recorded) -> None:
        name = "threadhold.reasoning.delta"
        fields: dict[str, Any] = {"id": part.message_id, "run_id": self.run["id"], "text": part.text}
        if part.taken:
            self._clear_texts()
            fields["taken"] = True
        done.events.append((name, own_data(name, fields)))

    def _refuse(self, part: RefusalDelta, done: Recorded) -> None:
        self._refusals.append(part.text)
        content = [{"index": int(bool(self._text)), "type": "refusal", "refusal": part.text}]
        data = {"id": part.message_id, "object": "thread.message.delta", "delta": {"content": content}}
        done.events.append(("thread.message.delta", encode(data)))

    def _open_step(self, step_id: str, kind: str, details: dict[str, Any], done: Recorded) -> None:
        self._calls = OpenCalls()
        self.step = open_step(id=step_id, run=self.run, type=kind, step_details=details, now=self._clock())
        done.changes.append(
            Insert(Row("step", step_id, self._owner, dict(self.step), self.run["thread_id"], self.run["id"]))
        )
        done.events.append(("thread.run.step.created", encode(self.step)))
        done.events.append(("thread.run.step.in_progress", encode(self.step)))

    def _open_calls(self, part: CallsOpened, done: Recorded) -> None:
        self._open_step(part.step_id, "tool_calls", {"type": "tool_calls", "tool_calls": []}, done)

    def _call_delta(self, part: CallDelta, done: Recorded) -> None:
        calls: list[dict[str, Any]] = []
        head, shown_as = {"index": part.index, "type": part.kind}, STEP_CALLS[part.kind]
        if part.call_id is not None:
            calls.append({**head, "id": part.call_id, part.kind: shown_as.start(part.name or "")})
        if part.arguments and shown_as.arguments_delta is not None:
            calls.append({**head, part.kind: shown_as.arguments_delta(part.arguments)})
        for call in calls:
            details = {"type": "tool_calls", "tool_calls": [call]}
            data = {"id": part.step_id, "object": "thread.run.step.delta", "delta": {"step_details": details}}
            done.events.append(("thread.run.step.delta", encode(data)))

    def _calls_made(self, part: CallsMade, done: Recorded) -> None:
        step = self._open(part.step_id)
        step["step_details"] = {"type": "tool_calls", "tool_calls": [_shown(call) for call in part.calls]}
        self._calls = OpenCalls(step["step_details"])
        if part.cut_off:
            error = {"code": "server_error", "message": "A token limit cut the reply off inside a tool call."}
            self._close_step(done, "failed", usage=part.usage, error=error)
            return
        self.count_usage(part.usage)
        private = {"usage": part.usage}
        done.changes.append(Patch("step", step["id"], self._owner, {"step_details": step["step_details"]}, private))

    def count_usage(self, usage: Usage) -> None:
        """Count tokens on the open step and in the run's total."""
        self._booked = usage
        self.usage = add_usage(self.usage, usage)

    def flush(self) -> Recorded:
        """Write the outputs that the open step's row lacks."""
        done = Recorded()
        if self.step is not None and self._calls.is_behind:
            self._calls.note_written()
            done.changes.append(self._patch_step("step_details"))
        return done

    def answer_all(self, outputs: dict[str, str], done: Recorded) -> None:
        """Add the outputs and complete the step; does nothing if no step is open."""
        if self.step is not None:
            self._calls.answer(outputs)
            self._close_step(done, "completed", usage=None)

    def _open(self, step_id: str) -> dict[str, Any]:
        if self.step is None or self.step["id"] != step_id:
            raise AssertionError(f"step {step_id} is not open")
        return self.step

    def _close_message(self, done: Recorded, status: str, reason: str | None) -> None:
        if (message := self._message) is None:
            return
        now = self._clock()
        content: list[dict[str, Any]] = []
        if self._text or not self._refusals:
            text = {"value": str(self._text), "annotations": list(self._annotations)}
            content.append({"type": "text", "text": text})
        if self._refusals:
            content.append({"type": "refusal", "refusal": "".join(self._refusals)})
        changed = {
            "status": status,
            "content": content,
            "incomplete_details": {"reason": reason} if reason else None,
            "completed_at": now if status == "completed" else None,
            "incomplete_at": now if status == "incomplete" else None,
        }
        message |= changed
        # The client may have deleted the message meanwhile, which is no error of the run.
        done.changes.append(Patch("message", message["id"], self._owner, changed, if_there=True))
        done.events.append((f"thread.message.{status}", encode(message)))
        self._message = None

    def _patch_step(self, *keys: str) -> Patch:
        step = self.step
        if step is None:
            raise AssertionError("no step is open")
        private = {"contents": self._calls.contents} if self._calls.contents else {}
        return Patch("step", step["id"], self._owner, {key: step[key] for key in keys}, private)

    def _close_step(
        self, done: Recorded, status: str, *, usage: Usage | None, error: dict[str, str] | None = None
    ) -> None:
        if (step := self.step) is None:
            return
        if usage is not None:
            self.count_usage(usage)
        step |= {"status": status, f"{status}_at": self._clock(), "last_error": error, "usage": self._booked}
        self._booked = None
        done.changes.append(self._patch_step("status", f"{status}_at", "usage", "last_error", "step_details"))
        shown = show_contents(step, self._calls.contents) if self._shows_contents else step
        done.events.append((f"thread.run.step.{status}", encode(shown)))
        self.step = None

    # --- the run itself -------------------------------------------------------------------------------------------

    def move(self, status: Status, **fields: Any) -> Recorded:
        """Move the run to a status. An end first closes what is open and sets the end's own fields."""
        done = Recorded()
        now = self._clock()
        changed: dict[str, Any] = {"status": status, **fields}
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
                if status in ("completed", "failed", "cancelled"):
                    changed[f"{status}_at"] = now
        self.run |= changed
        done.changes.append(Patch("run", self.run["id"], self._owner, changed, only_if=frozenset(sources(status))))
        done.events.append((f"thread.run.{status}", encode(self.run)))
        return done

    def _close_open(self, status: str, done: Recorded, error: dict[str, str] | None) -> None:
        if status in _MESSAGE_REASON:
            self._close_message(done, "incomplete", _MESSAGE_REASON[status])
            if error is not None and error["code"] == "invalid_prompt":
                error = error | {"code": "server_error"}  # steps have only server_error and rate_limit_exceeded
            self._close_step(done, status, usage=None, error=error)


def _shown(call: Call) -> dict[str, Any]:
    """Return the wire object of a call that has no output yet."""
    kind = call.get("kind", "function")
    return {"id": call["id"], "type": kind, kind: STEP_CALLS[kind].show(call)}
