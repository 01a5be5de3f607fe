"""Makes tool calls without the upstream's `tools`: mode *schema* by constrained decoding, *prompt* without it.

First a choice, then the call. With `auto`, a tiny constrained request names the function that helps, or none, and the
number of calls. Then follows either a plain reply that mentions no functions, streamed as it arrives, or the call as
one constrained object. `docs/decisions/function-calls-by-schema.md` explains why the choice comes first, and the order
of its examples: small talk, each function with its description as the question, and, once there are results, an
example with a result.

Invariants: the output is checked as in every mode, and requested again once. A model that repeats only calls whose
outputs this run already has replies with text instead. A server that does not obey the form is detected by its output
(`FormatIgnored`).
"""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from chains.calls.call_detector import CallDetector
from chains.calls.call_schemas import MAX_CALLS, NONE, calls_schema, choice_schema
from chains.calls.capabilities import Form
from chains.calls.checks import bounded_call_schema, calls_in, object_in
from chains.calls.offered_tools import Checked, OfferedTools, call_chunk
from chains.calls.parser import Written
from chains.calls.plain import answered_calls, canonical, current_turn, plain_messages, transcript
from chains.calls.reply_usage import ReplyUsage, texts_of
from chains.chat_types import FunctionTool, JsonSchema, ResponseFormat
from chains.prompts import Prompts, fill
from chains.reply_call import Ask, ReplyCall

__all__ = ["Constrained", "FormatIgnored"]

_CHOICE_TOKENS: Final = 256  # a name takes few; this cuts off a server that constrains nothing
_CALL_TOKENS: Final = 4_096
"""Maximum tokens of a call without any other limit: free objects have no bound of their own."""
_TIGHT_TOKENS: Final = 512
"""Tokens that the first attempt leaves for a second one, whose strings are short."""
_MAX_EXAMPLES: Final = 32
_SHOWN_CHARS: Final = 300  # of a function's description in the choice


class FormatIgnored(Exception):
    """The server did not obey the requested form."""


@dataclass(slots=True)
class Constrained:
    """Generates one reply."""

    call: ReplyCall
    ask: Ask
    reply_usage: ReplyUsage
    offer: OfferedTools
    prompts: Prompts
    form: Form
    reply_limit: int | None = None
    """Maximum tokens of a call, if neither the run nor the client limits it."""

    async def stream(self) -> AsyncGenerator[AIMessageChunk]:
        """Yield the reply's chunks. Raises RunError, or FormatIgnored before the first chunk."""
        if not self.offer.tools or self.call.tool_choice == "none":
            steps = self._answer()
        elif self.form == "prompt":
            steps = self._prompted()
        else:
            steps = self._chosen()
        async with aclosing(steps):
            async for chunk in steps:
                yield chunk

    @property
    def _named(self) -> str | None:
        choice = self.call.tool_choice
        name = choice.get("function", {}).get("name") if isinstance(choice, dict) else None
        return name if name in self.offer.tools else None

    @property
    def _binds(self) -> bool:
        return self.call.tool_choice == "required" or self._named is not None

    @property
    def _is_single(self) -> bool:
        """Whether the reply must have at most one call."""
        return self._named is not None or self.call.parallel_tool_calls is False

    @property
    def _is_cut_off(self) -> bool:
        """Whether the run's own limit cut off the last answer, which then proves nothing about the server."""
        return self.reply_usage.finish == "length" and self.reply_usage.tokens_left == 0

    # --- a text reply -----------------------------------------------------------------------------------------------

    async def _answer(self) -> AsyncGenerator[AIMessageChunk]:
        """Yield a text reply, requested as if there were no functions."""
        ends = bool(self.call.messages) and isinstance(self.call.messages[-1], ToolMessage)
        messages = plain_messages(self.call.messages, self.prompts, last=self.prompts.answer if ends else "")
        async with aclosing(self.reply_usage.follow(self.ask(self._without_tools(messages)))) as chunks:
            async for chunk in chunks:
                yield chunk

    # --- a choice, then the call ------------------------------------------------------------------------------------

    async def _chosen(self) -> AsyncGenerator[AIMessageChunk]:
        name, count = (self._named, 1) if self._named else await self._choose()
        calls = [] if name == NONE and (self._is_cut_off or not self._binds) else await self._call(name, count)
        if calls and (self._binds or not self._had_all(calls)):
            for chunk in self._call_chunks(calls):
                yield chunk
        elif calls or self.reply_usage.finish != "length":
            async with aclosing(self._answer()) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def _choose(self) -> tuple[str, int]:
        """Return the name of the function that helps, or NONE, and the number of calls."""
        names = self.offer.names
        if self._binds and self._is_single and len(names) == 1:
            return names[0], 1
        names = names if self._binds else [NONE, *(name for name in names if name != NONE)]
        request = replace(
            self._without_tools(self._choice_messages()),
            response_format=self._format("choice", choice_schema(names, counted=not self._is_single)),
            options=replace(self.call.options, temperature=0.0, top_p=None),
            max_tokens=_minimum(_CHOICE_TOKENS, self.reply_usage.tokens_left),
        )
        choice = await object_in(await self.reply_usage.text(self.ask(request))) or {}
        name, count = choice.get("function"), choice.get("calls")
        if name not in names:
            if self._is_cut_off:
                return NONE, 0
            if self.form == "json_schema" or name is None:
                raise FormatIgnored
            return (names[0], 1) if self._binds else (NONE, 0)
        return str(name), min(max(count, 1), MAX_CALLS) if isinstance(count, int) and not self._is_single else 1

    def _choice_messages(self) -> list[BaseMessage]:
        lines: list[str] = []
        examples: list[tuple[str, str]] = []
        for name, tool in self.offer.tools.items():
            described = " ".join(str(tool["function"].get("description") or name).split())[:_SHOWN_CHARS]
            lines.append(f"- {name}: {described}")
            examples.append((described, name))
        talk = [(line, NONE) for line in self.prompts.small_talk.splitlines() if line.strip()]
        shown = examples[:_MAX_EXAMPLES] if self._binds else [*talk, *examples[:_MAX_EXAMPLES]]
        if not self._binds and any(isinstance(message, ToolMessage) for message in current_turn(self.call.messages)):
            described, name = examples[0]
            result = fill(self.prompts.result, name=name, arguments="{}", output="ok")
            shown.append((f"{described}\n\n{result}", NONE))
        text = self.prompts.choose if self._binds else self.prompts.decide
        messages: list[BaseMessage] = [SystemMessage(fill(text, functions="\n".join(lines)))]
        for question, name in shown:
            choice = {"function": name} if self._is_single else {"function": name, "calls": int(name != NONE)}
            messages += [HumanMessage(question), AIMessage(json.dumps(choice))]
        return [*messages, HumanMessage(transcript(self.call.messages, self.prompts) or "…")]

    async def _call(self, name: str, count: int) -> list[Checked]:
        """Return calls of one function; empty if a limit cut them off."""
        tool = self.offer.tools[name]
        shape = await bounded_call_schema(tool)
        schema = shape if count == 1 else calls_schema(shape, count)
        one = '{"name": ' + json.dumps(name) + ', "arguments": {…}}'
        example = one if count == 1 else '{"calls": [' + ", ".join([one] * count) + "]}"
        system = fill(self.prompts.call, functions=_json_lines([tool]), example=example)
        request = replace(
            self._without_tools(plain_messages(self.call.messages, self.prompts, system=system)),
            response_format=self._format("call", schema),
        )
        text, calls = await self._calls(request, only=name, spare=_TIGHT_TOKENS)
        if (
            not calls and self.reply_usage.finish == "length" and self.reply_usage.tokens_left != 0
        ):  # mostly in an endless string
            tight = self._format("call", await bounded_call_schema(tool, tight=True))
            options = replace(request.options, temperature=0.0)
            text, calls = await self._calls(replace(request, response_format=tight, options=options), only=name)
        if not calls and self.reply_usage.finish != "length":
            raise FormatIgnored
        if any(checked.problem for checked in calls):
            calls = await self._repaired(request, text, calls, only=name)
        return calls[:count]

    async def _calls(self, request: ReplyCall, *, only: str | None, spare: int = 0) -> tuple[str, list[Checked]]:
        """Request calls. A limited run keeps `spare` tokens unused, but at most half of what is left."""
        limit = self.reply_limit or _CALL_TOKENS
        if (left := self.reply_usage.tokens_left) is not None:
            limit = left - min(spare, left // 2)
        text = await self.reply_usage.text(self.ask(replace(request, max_tokens=limit)))
        written = await calls_in(text, self.offer.names, only=only)
        if self.reply_usage.finish == "length":
            written = written[:-1]  # the last call is cut off
        return text, await self._checked(written, only=only)

    async def _checked(self, written: list[Written], *, only: str | None) -> list[Checked]:
        """Check the calls, without duplicates."""
        calls: dict[tuple[str, str], Checked] = {}
        for one in written:
            checked = await self.offer.check(only or one.name, one.arguments)
            calls.setdefault(_key(checked), checked)
        return list(calls.values())

    async def _repaired(
        self, request: ReplyCall, text: str, calls: list[Checked], *, only: str | None
    ) -> list[Checked]:
        """Request invalid calls once more, and keep the valid ones."""
        problem = "; ".join(dict.fromkeys(checked.problem for checked in calls if checked.problem))
        if self.reply_usage.tokens_left == 0:
            return calls
        feedback = [AIMessage(text), HumanMessage(fill(self.prompts.repair, problem=problem))]
        _, better = await self._calls(replace(request, messages=[*request.messages, *feedback]), only=only)
        good = {_key(checked): checked for checked in (*calls, *better) if not checked.problem}
        return list(good.values()) or better or calls

    def _had_all(self, calls: list[Checked]) -> bool:
        had = answered_calls(self.call.messages)
        return all(_key(checked) in had for checked in calls)

    def _call_chunks(self, calls: list[Checked]) -> list[AIMessageChunk]:
        had = set() if self._binds else answered_calls(self.call.messages)
        self.reply_usage.finish = "tool_calls"
        return [
            self.offer.invalid(checked, None) if checked.problem else call_chunk(index, checked.name, checked.arguments)
            for index, checked in enumerate(calls)
            if _key(checked) not in had
        ]

    # --- one request for a text or calls ----------------------------------------------------------------------------

    async def _prompted(self) -> AsyncGenerator[AIMessageChunk]:
        """Offer the functions in the prompt, stream the text before any call, and parse the calls in the rest."""
        names = [self._named] if self._named else self.offer.names
        must = fill(self.prompts.must, names=" or ".join(names)) if self._binds else ""
        system = fill(self.prompts.offer, functions=_json_lines([self.offer.tools[name] for name in names]))
        messages = plain_messages(self.call.messages, self.prompts, system=system, last=must)
        request = self._without_tools(messages)
        detector = CallDetector(names, everything=self._binds)
        async with aclosing(self.reply_usage.follow(self.ask(request))) as chunks:
            async for chunk in chunks:
                texts: list[str | dict[str, object]] = [
                    free for text in texts_of(chunk) if (free := detector.feed(text))
                ]
                if texts or chunk.additional_kwargs:  # such as reasoning
                    content = texts if len(texts) > 1 else "".join(map(str, texts))
                    yield AIMessageChunk(content=content, additional_kwargs=chunk.additional_kwargs)
        calls = await self._read(request, detector, names)
        if calls and (self._binds or not self._had_all(calls)):
            for chunk in self._call_chunks(calls[:1] if self._is_single else calls):
                yield chunk
        elif calls:
            async with aclosing(self._answer()) as answer:
                async for chunk in answer:
                    yield chunk
        elif detector.held:
            yield AIMessageChunk(content=detector.held)

    async def _read(self, request: ReplyCall, detector: CallDetector, names: list[str]) -> list[Checked]:
        """Return the calls in the held text; invalid ones are requested once more."""
        if self.reply_usage.finish == "length":
            return []
        written = await calls_in(detector.held, names, only=self._named)
        calls = await self._checked(written, only=self._named)
        if any(checked.problem for checked in calls):
            return await self._repaired(request, detector.text, calls, only=self._named)
        return calls if calls or not self._binds else await self._retry_required_call(request, detector.text)

    async def _retry_required_call(self, request: ReplyCall, text: str) -> list[Checked]:
        """Request once more the required call that is missing."""
        missing = Checked("", "", None, "the reply has no JSON of a call")
        calls = await self._repaired(request, text, [missing], only=self._named)
        return [checked for checked in calls if checked is not missing]

    # --- requests ---------------------------------------------------------------------------------------------------

    def _without_tools(self, messages: list[BaseMessage]) -> ReplyCall:
        return replace(
            self.call,
            messages=messages,
            tools=[],
            tool_choice=None,
            parallel_tool_calls=None,
            max_tokens=self.reply_usage.tokens_left,
        )

    def _format(self, name: str, schema: JsonSchema) -> ResponseFormat:
        if self.form == "json_object":
            return {"type": "json_object"}
        return {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": schema}}


def _key(checked: Checked) -> tuple[str, str]:
    return checked.name, checked.arguments if checked.value is None else canonical(checked.value)


def _minimum(one: int, other: int | None) -> int:
    return one if other is None else min(one, other)


def _json_lines(tools: list[FunctionTool]) -> str:
    """Return the functions as the model sees them, one JSON object per line."""
    shown = [
        {key: tool["function"][key] for key in ("name", "description", "parameters") if tool["function"].get(key)}
        for tool in tools
    ]
    return "\n".join(json.dumps(each, ensure_ascii=False, separators=(",", ":")) for each in shown)
