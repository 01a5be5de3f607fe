"""Makes tool calls by the upstream's own `tools`: fragments are held until their call is complete and in order.

Invariants: text is never held. A call is released with its fragments as they came (those of a very long call joined),
in the order in which the calls began. An invalid call is repaired; else requested once more; else passed on unchanged
if the client accepts that (its functions that are not strict); else reported to the model. Calls that a limit has cut
off are released unchanged: the run ends there, and they are not executed.
"""

import logging
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Final

from langchain_core.messages import AIMessage, AIMessageChunk, ToolMessage
from langchain_core.messages.tool import tool_call, tool_call_chunk

from chains.call_chunks import chunk_of_calls
from chains.calls.arguments import portable_arguments
from chains.calls.offered_tools import Checked, OfferedTools, call_chunk
from chains.calls.reply_usage import ReplyUsage
from chains.extra_fields import EXTRA_FIELDS, extra_fields, replace_call
from chains.reply_call import Ask, ReplyCall
from wire.errors import MalformedCall, RunError

__all__ = ["stream_native"]

_log = logging.getLogger("threadhold.chains")

_CUT = ("length", "content_filter")
_MAX_CHUNKS: Final = 256
"""Fragments of one call that are held, and released together as they came; a chunk takes a kilobyte of memory."""
_JOINED_CHARS: Final = 64 * 1024
"""Characters of the chunks into which further fragments are joined."""
_UNREADABLE = re.compile("malformed|unexpected_tool_call", re.IGNORECASE)
"""Gemini's finish reasons, such as `MALFORMED_FUNCTION_CALL`, of a stream without other errors."""


@dataclass(slots=True)
class _Held:
    """One call whose fragments are arriving."""

    index: int
    id: str | None = None
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    chunks: list[AIMessageChunk] = field(default_factory=list)
    is_done: bool = False
    checked: tuple[int, Checked, bool] | None = None
    """The fragments that the last check covers, its result, and whether it left the arguments unchanged."""

    def add(self, chunk: AIMessageChunk) -> None:
        fragment = chunk.tool_call_chunks[0]
        self.id = self.id or fragment.get("id")
        self.name += fragment.get("name") or ""
        self.arguments.append(fragment.get("args") or "")
        if len(self.chunks) < _MAX_CHUNKS:
            self.chunks.append(chunk)

    def fragments(self) -> list[AIMessageChunk]:
        """Return the call as it came. Fragments after `_MAX_CHUNKS` have only arguments, which are joined:
        `chains/fragments.py` puts the name first, and emits no empty fragments."""
        rest = "".join(self.arguments[len(self.chunks) :])
        pieces = (rest[start : start + _JOINED_CHARS] for start in range(0, len(rest), _JOINED_CHARS))
        index = self.chunks[0].tool_call_chunks[0].get("index") if self.chunks else self.index
        joined = (tool_call_chunk(name=None, args=piece, id=None, index=index) for piece in pieces)
        return [*self.chunks, *(chunk_of_calls([fragment]) for fragment in joined)]


@dataclass(slots=True)
class _Buffer:
    """Holds calls, and releases the valid ones in order."""

    offer: OfferedTools
    kept: str = ""
    """The extra fields of the reply."""
    calls: list[_Held] = field(default_factory=list)
    wrong: list[tuple[_Held, Checked]] = field(default_factory=list)
    """The first invalid call and all after it, in order."""
    _by_index: dict[int | str, _Held] = field(default_factory=dict)

    async def feed(self, chunk: AIMessageChunk) -> AsyncGenerator[AIMessageChunk]:
        """Add a chunk; yield its text, and the calls that are complete because another one begins."""
        if chunk.content or chunk.additional_kwargs:
            yield AIMessageChunk(content=chunk.content, additional_kwargs=chunk.additional_kwargs)
        alone = len(chunk.tool_call_chunks) == 1 and not chunk.content and not chunk.additional_kwargs
        for fragment in chunk.tool_call_chunks:
            held = self._find(fragment.get("index"))
            if held is None:
                async for released in self._release(only_valid=True):
                    yield released
                held = _Held(fragment.get("index") or len(self.calls))
                self.calls.append(held)
                self._by_index[fragment.get("index", -1) or 0] = held
            if not held.is_done:
                held.add(chunk if alone else chunk_of_calls([fragment]))

    async def end(self, *, cut_off: bool) -> AsyncGenerator[AIMessageChunk]:
        """Yield the remaining valid calls, and put the others into `wrong`; after a cut-off reply, yield all calls."""
        if not self.offer.tools:
            return  # no function was offered: nothing can execute a call, and the model gets no report
        if cut_off:
            for held in self.calls:
                if not held.is_done:
                    for chunk in held.fragments():
                        yield chunk
            return
        async for released in self._release(only_valid=False):
            yield released

    async def break_off(self) -> AsyncGenerator[AIMessageChunk]:
        """Yield the valid calls that follow those already sent, which form the reply; nothing if none was sent."""
        if any(held.is_done for held in self.calls):
            async for released in self._release(only_valid=True):
                yield released
            if self.kept:
                yield _extra_chunk(self.kept)

    def _find(self, index: int | str | None) -> _Held | None:
        if index is None:
            return self.calls[-1] if self.calls else None
        return self._by_index.get(index)

    async def _release(self, *, only_valid: bool) -> AsyncGenerator[AIMessageChunk]:
        for held in self.calls:
            if held.is_done:
                continue
            if held.checked is None or held.checked[0] != len(held.arguments):  # may run again at each later call
                text = "".join(held.arguments)
                found = await self.offer.check(held.name, text)
                held.checked = len(held.arguments), found, found.arguments == text
            _, checked, is_unchanged = held.checked
            if only_valid and (checked.problem or not is_unchanged):
                return
            held.is_done = True
            if checked.problem or self.wrong:
                self.wrong.append((held, checked))
            elif is_unchanged:
                for chunk in held.fragments():
                    yield chunk
            else:
                yield call_chunk(held.index, held.name, checked.arguments, held.id)


async def stream_native(
    call: ReplyCall, ask: Ask, reply_usage: ReplyUsage, offer: OfferedTools
) -> AsyncGenerator[AIMessageChunk]:
    """Yield a reply's chunks; the caller adds the tally's last chunk. Raises RunError."""
    buffer = _Buffer(offer)
    try:
        async with aclosing(_buffered(reply_usage.follow(ask(call)), buffer)) as chunks:
            async for chunk in chunks:
                yield chunk
        if reply_usage.finish and _UNREADABLE.search(reply_usage.finish):
            raise MalformedCall(
                f"The upstream could not parse the call that its model wrote (`{reply_usage.finish[:80]}`)."
            )
    except MalformedCall:
        async for released in buffer.break_off():
            yield released
        raise
    async for released in buffer.end(cut_off=reply_usage.finish in _CUT):
        yield released
    finish = reply_usage.finish
    repairs = _Repairs(call, ask, reply_usage, offer, buffer.kept)
    for held, checked in buffer.wrong:
        yield await repairs.repair(held, checked)
    if repairs.kept:  # once and last: the fields of a reply that is requested again must not be sent
        yield _extra_chunk(repairs.kept)
    reply_usage.finish = finish  # the reply's own, not a repair's


async def _buffered(chunks: AsyncGenerator[AIMessageChunk], buffer: _Buffer) -> AsyncGenerator[AIMessageChunk]:
    async with aclosing(chunks):
        async for chunk in chunks:
            buffer.kept = chunk.additional_kwargs.pop(EXTRA_FIELDS, "") or buffer.kept
            if not chunk.tool_call_chunks:
                yield chunk
                continue
            async for released in buffer.feed(chunk):
                yield released


def _extra_chunk(kept: str) -> AIMessageChunk:
    return AIMessageChunk(content="", additional_kwargs={EXTRA_FIELDS: kept})


@dataclass(slots=True)
class _Repairs:
    """Requests each invalid call of a reply once more. `kept` holds the reply's extra fields."""

    call: ReplyCall
    ask: Ask
    reply_usage: ReplyUsage
    offer: OfferedTools
    kept: str

    async def repair(self, held: _Held, checked: Checked) -> AIMessageChunk:
        """Return the repaired call; else the unchanged call if the client accepts it, else the error for the model."""
        if not checked.problem:
            return call_chunk(held.index, held.name, checked.arguments, held.id)
        if not checked.known:
            return self.offer.invalid(checked, held.id)
        better = None if self.reply_usage.tokens_left == 0 else await self._better(held, checked)
        if better is not None and not better.problem:
            return call_chunk(held.index, held.name, better.arguments, held.id)
        if not self.offer.passes_unchecked(checked):
            return self.offer.invalid(better or checked, held.id)
        _log.warning(
            "model `%s`: arguments of `%s` do not match its schema; they are passed to the client unchanged",
            self.call.model,
            checked.name,
        )
        return call_chunk(held.index, held.name, checked.arguments, held.id)

    async def _better(self, held: _Held, checked: Checked) -> Checked | None:
        """Request the call alone, with a report of its problem; return None without an answer."""
        id = held.id or f"call_{held.index}"
        wrong = tool_call(name=checked.name, args=portable_arguments(checked.arguments), id=id)
        report = [
            AIMessage("", tool_calls=[wrong], additional_kwargs={EXTRA_FIELDS: self.kept} if self.kept else {}),
            ToolMessage(str(self.offer.invalid(checked, id).invalid_tool_calls[0]["error"]), tool_call_id=id),
        ]
        request = replace(
            self.call,
            messages=[*self.call.messages, *report],
            tools=[self.offer.tools[checked.name]],
            tool_choice="required",
            max_tokens=self.reply_usage.tokens_left,
        )
        arguments: list[str] = []
        kept = ""
        try:
            async with aclosing(self.reply_usage.follow(self.ask(request))) as chunks:
                async for chunk in chunks:
                    kept = extra_fields(chunk) or kept
                    first = chunk.tool_call_chunks[:1]
                    if first and first[0].get("index") in (0, None):
                        arguments.append(first[0].get("args") or "")
        except RunError:
            return None  # a refusal of the repair is no reason to fail the run
        if not arguments or self.reply_usage.finish in _CUT:
            return None
        better = await self.offer.check(checked.name, "".join(arguments))
        if self.kept and not better.problem:
            self.kept = replace_call(self.kept, id, kept)
        return better
