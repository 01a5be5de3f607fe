"""Tool calls by the upstream's own `tools`: its fragments are held until their call is complete and in order.

Laws: text is never held; a call goes out with its fragments as they came (those of a very long call joined), in the
order in which the calls began; a call that is wrong is mended, else asked for once more, else handed on as it is where
the client takes it so (functions of the client's that are not strict), else told to the model. What a limit has cut off
goes out as it is: the run ends there, and nobody is asked to carry it out.
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
from chains.calls.offer import Checked, Offer, call_chunk
from chains.calls.tally import Tally
from chains.passback import EXTRA_FIELDS, extra_fields, replace_call
from chains.reply_call import Ask, ReplyCall
from wire.errors import MalformedCall, RunError

__all__ = ["stream_native"]

_log = logging.getLogger("threadhold.chains")

_CUT = ("length", "content_filter")
_MAX_CHUNKS: Final = 256
"""Fragments of one call that are held, and let go at once, as they came; a chunk takes a kilobyte of memory."""
_JOINED_CHARS: Final = 64 * 1024
"""Characters of the chunks that further fragments are joined into."""
_UNREADABLE = re.compile("malformed|unexpected_tool_call", re.IGNORECASE)
"""Gemini's finish reasons, such as `MALFORMED_FUNCTION_CALL`, of a stream that is otherwise good."""


@dataclass(slots=True)
class _Held:
    """One call while it comes."""

    index: int
    id: str | None = None
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    chunks: list[AIMessageChunk] = field(default_factory=list)
    gone: bool = False
    checked: tuple[int, Checked, bool] | None = None
    """How many fragments the last check covers, its result, and whether it left the arguments as they came."""

    def add(self, chunk: AIMessageChunk) -> None:
        fragment = chunk.tool_call_chunks[0]
        self.id = self.id or fragment.get("id")
        self.name += fragment.get("name") or ""
        self.arguments.append(fragment.get("args") or "")
        if len(self.chunks) < _MAX_CHUNKS:
            self.chunks.append(chunk)

    def fragments(self) -> list[AIMessageChunk]:
        """Return the call as it came. After `_MAX_CHUNKS` fragments there are only arguments, which are joined:
        `chains/fragments.py` puts the name before them, without empty fragments."""
        rest = "".join(self.arguments[len(self.chunks) :])
        pieces = (rest[start : start + _JOINED_CHARS] for start in range(0, len(rest), _JOINED_CHARS))
        index = self.chunks[0].tool_call_chunks[0].get("index") if self.chunks else self.index
        joined = (tool_call_chunk(name=None, args=piece, id=None, index=index) for piece in pieces)
        return [*self.chunks, *(chunk_of_calls([fragment]) for fragment in joined)]


@dataclass(slots=True)
class _Gate:
    """Holds calls, and lets the good ones go in their order."""

    offer: Offer
    kept: str = ""
    """The extra fields of the reply."""
    calls: list[_Held] = field(default_factory=list)
    wrong: list[tuple[_Held, Checked]] = field(default_factory=list)
    """The first wrong call and all behind it, which keep their order."""
    _places: dict[int | str, _Held] = field(default_factory=dict)

    async def feed(self, chunk: AIMessageChunk) -> AsyncGenerator[AIMessageChunk]:
        """Take a chunk in; yield its text, and calls that the beginning of another has completed."""
        if chunk.content or chunk.additional_kwargs:
            yield AIMessageChunk(content=chunk.content, additional_kwargs=chunk.additional_kwargs)
        alone = len(chunk.tool_call_chunks) == 1 and not chunk.content and not chunk.additional_kwargs
        for fragment in chunk.tool_call_chunks:
            held = self._place(fragment.get("index"))
            if held is None:
                async for released in self._release(only_good=True):
                    yield released
                held = _Held(fragment.get("index") or len(self.calls))
                self.calls.append(held)
                self._places[fragment.get("index", -1) or 0] = held
            if not held.gone:
                held.add(chunk if alone else chunk_of_calls([fragment]))

    async def end(self, *, cut_off: bool) -> AsyncGenerator[AIMessageChunk]:
        """Yield what is left; afterwards `wrong` has what could not go. Everything goes when a limit has cut it."""
        if not self.offer.tools:
            return  # nothing was offered: there is nobody to carry it out, and nothing to tell the model
        if cut_off:
            for held in self.calls:
                if not held.gone:
                    for chunk in held.fragments():
                        yield chunk
            return
        async for released in self._release(only_good=False):
            yield released

    async def break_off(self) -> AsyncGenerator[AIMessageChunk]:
        """Yield the good calls that follow those already sent, which form the reply; nothing if none was sent."""
        if any(held.gone for held in self.calls):
            async for released in self._release(only_good=True):
                yield released
            if self.kept:
                yield _beside(self.kept)

    def _place(self, index: int | str | None) -> _Held | None:
        if index is None:
            return self.calls[-1] if self.calls else None
        return self._places.get(index)

    async def _release(self, *, only_good: bool) -> AsyncGenerator[AIMessageChunk]:
        for held in self.calls:
            if held.gone:
                continue
            if held.checked is None or held.checked[0] != len(held.arguments):  # needed again at each later call
                text = "".join(held.arguments)
                found = await self.offer.check(held.name, text)
                held.checked = len(held.arguments), found, found.arguments == text
            _, checked, as_it_came = held.checked
            if only_good and (checked.problem or not as_it_came):
                return
            held.gone = True
            if checked.problem or self.wrong:
                self.wrong.append((held, checked))
            elif as_it_came:
                for chunk in held.fragments():
                    yield chunk
            else:
                yield call_chunk(held.index, held.name, checked.arguments, held.id)


async def stream_native(call: ReplyCall, ask: Ask, tally: Tally, offer: Offer) -> AsyncGenerator[AIMessageChunk]:
    """Yield a reply's chunks; the caller ends them with the tally's last. Raises RunError."""
    gate = _Gate(offer)
    try:
        async with aclosing(_gated(tally.follow(ask(call)), gate)) as chunks:
            async for chunk in chunks:
                yield chunk
        if tally.finish and _UNREADABLE.search(tally.finish):
            raise MalformedCall(f"The upstream could not parse the call that its model wrote (`{tally.finish[:80]}`).")
    except MalformedCall:
        async for released in gate.break_off():
            yield released
        raise
    async for released in gate.end(cut_off=tally.finish in _CUT):
        yield released
    finish = tally.finish
    repairs = _Repairs(call, ask, tally, offer, gate.kept)
    for held, checked in gate.wrong:
        yield await repairs.repair(held, checked)
    if repairs.kept:  # once and last: those of a reply that is asked for again must not come out
        yield _beside(repairs.kept)
    tally.finish = finish  # the reply's own, not a repair's


async def _gated(chunks: AsyncGenerator[AIMessageChunk], gate: _Gate) -> AsyncGenerator[AIMessageChunk]:
    async with aclosing(chunks):
        async for chunk in chunks:
            gate.kept = chunk.additional_kwargs.pop(EXTRA_FIELDS, "") or gate.kept
            if not chunk.tool_call_chunks:
                yield chunk
                continue
            async for released in gate.feed(chunk):
                yield released


def _beside(kept: str) -> AIMessageChunk:
    return AIMessageChunk(content="", additional_kwargs={EXTRA_FIELDS: kept})


@dataclass(slots=True)
class _Repairs:
    """Asks once more for each wrong call of a reply. `kept` holds the reply's extra fields."""

    call: ReplyCall
    ask: Ask
    tally: Tally
    offer: Offer
    kept: str

    async def repair(self, held: _Held, checked: Checked) -> AIMessageChunk:
        """Return the repaired call; else the call as it was made if the client takes it, or what the model is told."""
        if not checked.problem:
            return call_chunk(held.index, held.name, checked.arguments, held.id)
        if not checked.known:
            return self.offer.invalid(checked, held.id)
        better = None if self.tally.left == 0 else await self._better(held, checked)
        if better is not None and not better.problem:
            return call_chunk(held.index, held.name, better.arguments, held.id)
        if not self.offer.hands_on(checked):
            return self.offer.invalid(better or checked, held.id)
        _log.warning(
            "model `%s`: arguments of `%s` do not fit its schema; they are handed to the client as the model made them",
            self.call.model,
            checked.name,
        )
        return call_chunk(held.index, held.name, checked.arguments, held.id)

    async def _better(self, held: _Held, checked: Checked) -> Checked | None:
        """Ask for the call alone, after saying what was wrong with it; None without an answer."""
        id = held.id or f"call_{held.index}"
        wrong = tool_call(name=checked.name, args=portable_arguments(checked.arguments), id=id)
        told = [
            AIMessage("", tool_calls=[wrong], additional_kwargs={EXTRA_FIELDS: self.kept} if self.kept else {}),
            ToolMessage(str(self.offer.invalid(checked, id).invalid_tool_calls[0]["error"]), tool_call_id=id),
        ]
        asked = replace(
            self.call,
            messages=[*self.call.messages, *told],
            tools=[self.offer.tools[checked.name]],
            tool_choice="required",
            max_tokens=self.tally.left,
        )
        arguments: list[str] = []
        kept = ""
        try:
            async with aclosing(self.tally.follow(self.ask(asked))) as chunks:
                async for chunk in chunks:
                    kept = extra_fields(chunk) or kept
                    first = chunk.tool_call_chunks[:1]
                    if first and first[0].get("index") in (0, None):
                        arguments.append(first[0].get("args") or "")
        except RunError:
            return None  # a refusal of the repair is no reason to fail the run
        if not arguments or self.tally.finish in _CUT:
            return None
        better = await self.offer.check(checked.name, "".join(arguments))
        if self.kept and not better.problem:
            self.kept = replace_call(self.kept, id, kept)
        return better
