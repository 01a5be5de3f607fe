"""Turns LangChain's chunks into the run's parts: the only module of a run's graph that reads AIMessageChunk.

Pure. It keeps the order that both SDKs require: a message is closed before calls open, and only one thing is open at a
time. It corrects what upstreams get wrong: indexes that are missing or all zero, names in fragments, and missing ids.
Calls of functions that were not offered, and calls that `chains` found to be invalid, never reach the wire; the model
gets an error message as their output.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from langchain_core.messages import AIMessageChunk, InvalidToolCall, ToolCallChunk

from chains.extra_fields import extra_fields
from chains.prompts import UNKNOWN_FUNCTION, fill
from chains.reply import RECLASSIFIED
from graphs.machine.exchange import CALL_BYTES, check_calls, check_reply
from graphs.machine.stream_parts import (
    Call,
    CallDelta,
    CallsMade,
    CallsOpened,
    Citation,
    CutReason,
    MessageClosed,
    MessageOpened,
    ReasoningDelta,
    RefusalDelta,
    StreamPart,
    TextDeltas,
    Usage,
)
from graphs.machine.text_buffer import TextBuffer
from retrieval.citations import Citations, Cited
from retrieval.grounding import Source
from wire.ids import derive_id
from wire.json import JsonObject, UncheckedJson

__all__ = ["NO_USAGE", "ReplyParts", "add_usage", "call_id", "reply_ids", "text_parts"]

_CUT_REASONS: Final[Mapping[str, CutReason]] = {"length": "max_tokens", "content_filter": "content_filter"}
"""Finish reason of a model → why the message is incomplete."""

NO_USAGE = Usage(prompt_tokens=0, completion_tokens=0, total_tokens=0)


def add_usage(one: Usage, other: Usage) -> Usage:
    """Add two usages field by field."""
    return Usage(
        prompt_tokens=one["prompt_tokens"] + other["prompt_tokens"],
        completion_tokens=one["completion_tokens"] + other["completion_tokens"],
        total_tokens=one["total_tokens"] + other["total_tokens"],
    )


def reply_ids(run_id: str, reply: int) -> tuple[str, str, str]:
    """Return (message id, id of the message's step, id of the calls' step) of the run's reply number `reply`."""
    return (
        derive_id("msg", run_id, reply),
        derive_id("step", run_id, reply, "message"),
        derive_id("step", run_id, reply, "calls"),
    )


def call_id(run_id: str, reply: int, place: int) -> str:
    """Return the wire id of a reply's call number `place`; calls that stay off the wire have other ids."""
    return derive_id("call", run_id, reply, place)


@dataclass(slots=True)
class _Slot:
    """One call while its fragments arrive. `shown` is its index on the wire from its first delta on, or -1 if the call
    stays off the wire; `fault` is then the error message for the model."""

    upstream_id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    shown: int | None = None
    fault: str = ""


class ReplyParts:
    """Turns the chunks of one reply into parts; afterwards, it holds the reply."""

    def __init__(
        self,
        run_id: str,
        reply: int,
        offered: Collection[str],
        *,
        step_types: Mapping[str, str] | None = None,
        sources: Mapping[str, Source] | None = None,
        used: int = 0,
    ) -> None:
        """`step_types` are the types of calls in run steps by name; others are functions. Markers of `sources` become
        citations.

        `used` is the size of the run's exchange so far, in bytes.
        """
        self._run_id = run_id
        self._reply = reply
        self._offered = offered
        self._step_types = step_types or {}
        self._used = used
        self._calls_bytes = self._chars = 0
        self._citations = Citations(sources) if sources else None
        self.message_id, self.message_step, self.calls_step = reply_ids(run_id, reply)
        self._text = TextBuffer()
        self._has_reasoning = False
        self._message: str = "none"  # none → open → closed
        self._slots: list[_Slot] = []
        self._by_index: dict[int, _Slot] = {}
        self._shown = 0
        self.finish: str | None = None
        self.usage: Usage | None = None
        self.cached_tokens = 0
        """The part of the prompt's tokens that the upstream had cached."""
        self.extra_fields = ""
        """What the engine requires back with the reply's calls; see `chains.extra_fields`."""
        self.requests = 1
        """The number of requests that the reply took."""

    @property
    def started(self) -> bool:
        """Whether anything of the reply has been received; after that, the request must not be repeated."""
        return bool(self._message != "none" or bool(self._text) or self._slots or self._has_reasoning)

    @property
    def silent(self) -> bool:
        """Whether nothing of the reply went onto the wire, because it consists of calls that stay off it."""
        return self._message == "none" and not self._shown

    @property
    def compares(self) -> bool:
        """Whether `close` compares the text with passages, which takes time."""
        return self._citations is not None and self._citations.compares

    @property
    def text(self) -> str:
        """The reply's text so far."""
        return str(self._text)

    def feed(self, chunk: AIMessageChunk) -> Iterator[StreamPart]:
        """Yield the parts that one chunk contains. Raises RunError if text or calls are too large."""
        texts = _texts(chunk.content)
        if chunk.additional_kwargs:
            self.extra_fields = extra_fields(chunk) or self.extra_fields
            yield from self._feed_reasoning(chunk.additional_kwargs)
        if texts:
            yield from self._feed_texts(texts)
        if chunk.additional_kwargs:
            refusal = chunk.additional_kwargs.get("refusal")
            if refusal:
                yield from self._feed_refusal(refusal)
        wrong = [call for call in chunk.invalid_tool_calls if call.get("error")]
        for call in wrong:
            yield from self._feed_wrong(call)
        for fragment in () if wrong else chunk.tool_call_chunks:  # LangChain repeats invalid calls there
            yield from self._feed_call(fragment)
        if chunk.response_metadata:
            self.finish = chunk.response_metadata.get("finish_reason") or self.finish
            self.requests = chunk.response_metadata.get("requests") or self.requests
        if chunk.usage_metadata:
            seen = chunk.usage_metadata
            self.usage = Usage(
                prompt_tokens=seen["input_tokens"],
                completion_tokens=seen["output_tokens"],
                total_tokens=seen["total_tokens"],
            )
            self.cached_tokens = seen.get("input_token_details", {}).get("cache_read", 0)

    def _feed_texts(self, texts: list[str]) -> Iterator[StreamPart]:
        self._chars += sum(map(len, texts))
        check_reply(self._chars)
        self._text.extend(texts)
        if self._message == "none" and not self._slots:
            self._message = "open"
            yield MessageOpened(self.message_step, self.message_id)
        if self._message == "open":
            yield from self._text_parts(texts)
        # Text after calls is kept for the model's own history only: a second open step would break Node's SDK.

    def _text_parts(self, texts: list[str]) -> Iterator[StreamPart]:
        if self._citations is None:
            yield TextDeltas(self.message_id, texts)
            return
        for text in texts:
            for piece in self._citations.feed(text):
                yield _text_part(self.message_id, piece)

    def _close_message(
        self, usage: Usage, reason: CutReason | None = None, *, is_answer: bool = False
    ) -> Iterator[StreamPart]:
        self._message = "closed"
        if self._citations is not None:
            for piece in _last(self._citations, self.text if is_answer else ""):
                yield _text_part(self.message_id, piece)
        yield MessageClosed(self.message_step, self.message_id, usage, reason=reason)

    def _feed_reasoning(self, kwargs: JsonObject) -> Iterator[StreamPart]:
        """Reasoning is shown as it arrives. It is part neither of the message nor of any prompt."""
        reasoning, reclassified = kwargs.get("reasoning_content") or "", bool(kwargs.get(RECLASSIFIED))
        if reclassified:
            reasoning = self.text + reasoning
            self._text = TextBuffer()
            if self._citations is not None:
                self._citations.drop()
        if reasoning or reclassified:
            self._has_reasoning = True
            yield ReasoningDelta(self.message_id, reasoning, reclassified)

    def _feed_refusal(self, refusal: str) -> Iterator[StreamPart]:
        self._chars += len(refusal)
        check_reply(self._chars)
        if self._message == "none" and not self._slots:
            self._message = "open"
            yield MessageOpened(self.message_step, self.message_id)
        if self._message == "open":
            yield RefusalDelta(self.message_id, refusal)

    def _feed_call(self, fragment: ToolCallChunk) -> Iterator[StreamPart]:
        index, upstream_id = fragment.get("index"), fragment.get("id") or ""
        slot = self._by_index.get(index) if index is not None else (self._slots[-1] if self._slots else None)
        is_new = slot is None or bool(upstream_id and slot.upstream_id and upstream_id != slot.upstream_id)
        if is_new or slot is None:
            yield from self._show_last()
            slot = _Slot()
            self._slots.append(slot)
            if index is not None:
                self._by_index[index] = slot
        slot.upstream_id = slot.upstream_id or upstream_id
        if slot.shown is None:
            slot.name += fragment.get("name") or ""
        arguments = fragment.get("args") or ""
        self._count(arguments, is_new=is_new)
        if not arguments:
            return
        slot.arguments.append(arguments)
        if slot.shown is None:
            yield from self._show(slot)
        elif slot.shown >= 0:
            yield CallDelta(self.calls_step, slot.shown, None, None, arguments, self._kind(slot.name))

    def _feed_wrong(self, call: InvalidToolCall) -> Iterator[StreamPart]:
        yield from self._show_last()
        arguments = [call.get("args") or ""]
        self._count(arguments[0], is_new=True)
        self._slots.append(_Slot(call.get("id") or "", call.get("name") or "", arguments, -1, str(call["error"])))

    def _count(self, arguments: str, *, is_new: bool) -> None:
        """Count a call's fragment against the limit, so that memory for endless calls stays bounded."""
        self._calls_bytes += len(arguments) + (CALL_BYTES if is_new else 0)
        check_calls(self._used, self._calls_bytes)

    def _show_last(self) -> Iterator[StreamPart]:
        if self._slots and self._slots[-1].shown is None:
            yield from self._show(self._slots[-1])

    def _show(self, slot: _Slot) -> Iterator[StreamPart]:
        """Put a call with a complete name onto the wire; a call of a function that was not offered stays off it."""
        if slot.name not in self._offered:
            slot.shown = -1
            return
        if self._shown == 0:
            if self._message == "open":
                # The reply's usage is not known yet; all of it is counted on the calls' step.
                yield from self._close_message(NO_USAGE)
            yield CallsOpened(self.calls_step)
        slot.shown = self._shown
        self._shown += 1
        id, arguments = self._call_id(slot.shown), "".join(slot.arguments)
        yield CallDelta(self.calls_step, slot.shown, id, slot.name, arguments, self._kind(slot.name))

    def _kind(self, name: str) -> str:
        return self._step_types.get(name, "function")

    def _call_id(self, shown: int) -> str:
        return call_id(self._run_id, self._reply, shown)

    def close(self, usage: Usage) -> Iterator[StreamPart]:
        """Yield the parts that end the reply, once the upstream has finished. `usage` is reported or estimated."""
        yield from self._show_last()
        cut_off = self.finish == "length"
        if self._shown:
            calls = tuple(call for call, slot in zip(self.calls(), self._slots, strict=True) if slot.shown != -1)
            yield CallsMade(self.calls_step, calls, usage, cut_off, self.message_id, self.extra_fields)
            return
        if self._message == "none" and not (self._slots and self._offered):
            # An empty answer is still an answer: clients read the newest message. There is no message only if tools
            # were offered and all calls are invalid, because the model is then asked again.
            self._message = "open"
            yield MessageOpened(self.message_step, self.message_id)
        if self._message == "open":
            yield from self._close_message(usage, self._cut_reason(), is_answer=True)

    def _cut_reason(self) -> CutReason | None:
        return _CUT_REASONS.get(self.finish or "")

    def faults(self) -> dict[str, str]:
        """Return the error messages for the model about calls that stay off the wire, by call id."""
        return {
            call["id"]: slot.fault or fill(UNKNOWN_FUNCTION, name=call["name"])
            for call, slot in zip(self.calls(), self._slots, strict=True)
            if slot.shown == -1
        }

    def calls(self) -> list[Call]:
        """Return every call of the reply, including those that stay off the wire."""
        return [
            Call(
                id=self._call_id(slot.shown)
                if slot.shown not in (None, -1)
                else derive_id("call", self._run_id, self._reply, "stray", place),
                upstream_id=slot.upstream_id or derive_id("call", self._run_id, self._reply, "up", place),
                name=slot.name,
                arguments="".join(slot.arguments) or "{}",
                kind=self._kind(slot.name),
            )
            for place, slot in enumerate(self._slots)
        ]


def text_parts(message_id: str, text: str, sources: Mapping[str, Source], *, is_answer: bool) -> list[StreamPart]:
    """Return the parts of a whole text with its citations. `is_answer` is false if calls follow."""
    if not sources:
        return [TextDeltas(message_id, [text])]
    citations = Citations(sources)
    pieces = (*citations.feed(text), *_last(citations, text if is_answer else ""))
    return [_text_part(message_id, piece) for piece in pieces]


def _last(citations: Citations, answer: str) -> Iterator[str | Cited]:
    yield from citations.close()
    yield from citations.rest(answer)


def _text_part(message_id: str, piece: str | Cited) -> StreamPart:
    if isinstance(piece, Cited):
        return Citation(message_id, piece.marker, piece.file_id)
    return TextDeltas(message_id, [piece])


def _texts(content: str | list[str | UncheckedJson]) -> list[str]:
    """Return the nonempty texts of a chunk."""
    if isinstance(content, str):
        return [content] if content else []
    return [text for block in content if (text := block if isinstance(block, str) else block.get("text", ""))]
